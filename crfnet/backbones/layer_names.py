"""One name for a layer, whoever's file it is from: torchvision, timm, efficientnet-lite-pytorch."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["HEAD", "PREFIXES", "common_names"]

#: What may stand in front of a backbone's names.
PREFIXES = ("", "network.backbone.", "backbone.", "encoder.", "model.", "module.")
#: What stands behind the features of a classifier.
HEAD = re.compile(
    r"(fc|_fc|classifier|head|conv_head|_conv_head|bn2|_bn1|norm|fc_norm|norm_head|pre_logits|features\.18"
    r"|aux_classifier)\..+"
)


class _Family(NamedTuple):
    """How someone names the layers of inverted residual units.

    Attributes:
        unit: pattern of a name: numbers of the unit, layer, parameter.
        marks: layers that only a unit with an expansion has.
        expanding: common names of the layers in units with an expansion.
        plain: the same without.
        stem: the same of the first convolution.
    """

    unit: str
    marks: str
    expanding: Mapping[str, str]
    plain: Mapping[str, str]
    stem: Mapping[str, str]


_PLACES = ("expand.conv", "expand.bn", "depthwise.conv", "depthwise.bn", "project.conv", "project.bn")
_TIMM = _Family(
    r"blocks\.(\d+)\.(\d+)\.(.+)\.(\w+)",
    "conv_pwl",
    dict(zip(("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"), _PLACES, strict=True)),
    dict(zip(("conv_dw", "bn1", "conv_pw", "bn2"), _PLACES[2:], strict=True)),
    {"conv_stem": "stem.conv", "bn1": "stem.bn"},
)
_LITE_LAYERS = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
_LITE = _Family(
    r"_blocks\.(\d+)()\.(.+)\.(\w+)",
    "_expand_conv",
    dict(zip(_LITE_LAYERS, _PLACES, strict=True)),
    dict(zip(_LITE_LAYERS, _PLACES, strict=True)),
    {"_conv_stem": "stem.conv", "_bn0": "stem.bn"},
)
_TORCHVISION = _Family(
    r"features\.(\d+)()\.conv\.(.+)\.(\w+)",
    "3",
    dict(zip(("0.0", "0.1", "1.0", "1.1", "2", "3"), _PLACES, strict=True)),
    dict(zip(("0.0", "0.1", "1", "2"), _PLACES[2:], strict=True)),
    {"features.0.0": "stem.conv", "features.0.1": "stem.bn"},
)


def common_names(names: Iterable[str]) -> dict[str, str]:
    """A name for every name that does not depend on who chose it.

    Layers of inverted residuals are renumbered; all other names are torchvision's and timm's alike, but for
    timm's networks of features, which have ``network.stages_0.1`` where its classifiers have ``stages.0.1``.
    """
    plain = {name: re.sub(r"_(\d+)(?=\.)", r".\1", name.removeprefix("network.")) for name in names}
    for family in (_TIMM, _LITE, _TORCHVISION):
        matches = {name: re.fullmatch(family.unit, text) for name, text in plain.items()}
        if any(matches.values()):
            return _of_family(family, plain, matches)
    return plain


def _of_family(
    family: _Family, names: Mapping[str, str], matches: Mapping[str, "re.Match[str] | None"]
) -> dict[str, str]:
    units = sorted({_number(match) for match in matches.values() if match})
    expanding = {_number(match) for match in matches.values() if match and match[3] == family.marks}
    common = {}
    for name, text in names.items():
        if match := matches[name]:
            unit = _number(match)
            layers = family.expanding if unit in expanding else family.plain
            common[name] = f"unit{units.index(unit)}.{layers.get(match[3], match[3])}.{match[4]}"
        else:
            layer, _, parameter = text.rpartition(".")
            common[name] = f"{family.stem.get(layer, layer)}.{parameter}"
    return common


def _number(match: "re.Match[str]") -> tuple[int, int]:
    return int(match[1]), int(match[2] or 0)
