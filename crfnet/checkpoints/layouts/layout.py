"""What an importer makes of a foreign state dict, and the little that all importers share."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from crfnet.errors import InputError, require
from crfnet.models import DeepLabV2Config, ModelConfig, build_network
from crfnet.models.aspp_v3 import RATES_STRIDE
from crfnet.models.strided import StridedConfig

__all__ = ["HEAD", "Imported", "Layout", "Rules", "State", "check_fits", "counted", "renamed", "resnet_of"]

State: TypeAlias = Mapping[str, Tensor]
#: Pattern of a whole name and our name, or what makes it from the match; the first that fits counts.
Rules: TypeAlias = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]

#: Our names of the convolutions to the classes.
HEAD = re.compile(r"(head\.branches\.\d+\.fc8|head\.fc8|classifier)\.(weight|bias)")
#: Units per stage.
DEPTHS = {(3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101"}


@dataclass(frozen=True)
class Imported:
    """Foreign weights under our names.

    Attributes:
        what: whose layout and which network it is, one line.
        config: the model that computes what the original computes, preprocessing included.
        num_classes: of the weights.
        state: the weights by our names, all that the model has.
        skipped: what the file has and the model does not need, a line each.
        notes: what the file does not say and was assumed, and where the model differs, a line each.
    """

    what: str
    config: ModelConfig
    num_classes: int
    state: dict[str, Tensor]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def with_rates(self, rates: Sequence[int]) -> "Imported":
        """With other dilations of the 3x3 branches of ASPP, at the output stride of the network.

        Raises:
            InputError: another number of them than there are branches, or an odd one at output stride 8.
        """
        variant = self.config.build_variant()
        branch = re.compile(r"(aspp|head)\.branches\.\d+\.(conv|fc8)\.weight")
        wide = sum(1 for name, x in self.state.items() if branch.fullmatch(name) and x.shape[2] == 3)
        require("rates", list(rates), len(rates) == wide, f"{wide} numbers, one for each dilated branch")
        own = tuple(rates)
        if isinstance(variant, StridedConfig):  # whose rates are those of output stride 16
            even = all(rate * variant.output_stride % RATES_STRIDE == 0 for rate in rates)
            require("rates", list(rates), even, f"even at output stride {variant.output_stride}")
            own = tuple(rate * variant.output_stride // RATES_STRIDE for rate in rates)
        assert isinstance(variant, StridedConfig | DeepLabV2Config)
        config = replace(self.config, variant=replace(variant, rates=own))
        notes = tuple(note for note in self.notes if not note.startswith("rates "))
        return replace(self, config=config, notes=notes)

    def with_classes(self, num_classes: int | None) -> "Imported":
        """For another number of classes: without the convolutions to the classes, which then start anew.

        Raises:
            InputError: fewer than two; None is as many as there are.
        """
        if num_classes is not None and num_classes < 2:
            raise InputError(f"classes: {num_classes}, must be at least 2")
        if num_classes in (None, self.num_classes):
            return self
        assert num_classes is not None
        state = {name: value for name, value in self.state.items() if not HEAD.fullmatch(name)}
        line = f"classifier of {self.num_classes} classes: a new one of {num_classes} starts at random"
        return replace(self, num_classes=num_classes, state=state, skipped=(*self.skipped, line))


@dataclass(frozen=True)
class Layout:
    """One public implementation's names.

    Attributes:
        name: short, for messages.
        recognizes: says of a state dict's names whether they are this layout's.
        convert: from the state dict and the output stride that was asked for (None: the original's default)
            to our names. Raises `InputError` for a network of the layout that we cannot express.
    """

    name: str
    recognizes: Callable[[Sequence[str]], bool]
    convert: Callable[[State, int | None], Imported]


def renamed(state: State, rules: Rules) -> tuple[dict[str, Tensor], list[str]]:
    """The weights under our names, and the names for which there is no rule."""
    ours: dict[str, Tensor] = {}
    left: list[str] = []
    for name, value in state.items():
        for pattern, template in rules:
            match = re.fullmatch(pattern, name)
            if match:
                ours[match.expand(template) if isinstance(template, str) else template(match)] = value
                break
        else:
            left.append(name)
    return ours, left


def counted(names: Sequence[str], why: str) -> tuple[str, ...]:
    """A line that says what is skipped and why; none where nothing is."""
    if not names:
        return ()
    first = names[0].split(".")[0]
    shown = f"{first}.*" if len(names) > 1 and all(n.startswith(f"{first}.") for n in names) else names[0]
    more = f" ({len(names)} entries)" if len(names) > 1 else ""
    return (f"{shown}{more}: {why}",)


def resnet_of(names: Sequence[str], origin: str) -> str:
    """The ResNet whose units have our names, ``backbone.layer1.0`` and on.

    Raises:
        InputError: it has other depths than the ResNets that we have.
    """
    matches = (re.match(r"backbone\.layer(\d)\.(\d+)\.", name) for name in names)
    units = {(int(match[1]), int(match[2])) for match in matches if match}
    stages = sorted({stage for stage, _ in units})
    depths = tuple(sum(1 for stage, _ in units if stage == wanted) for wanted in stages)
    if depths not in DEPTHS:
        raise InputError(
            f"{origin}: its backbone has {len(stages)} stages of {list(depths)} units, which is neither "
            "resnet50 nor resnet101"
        )
    return DEPTHS[depths]


def check_fits(imported: Imported) -> Imported:
    """Names and shapes are exactly those of the model; counters of batches that are missing become 0.

    Files from before PyTorch 0.4.1 have no ``num_batches_tracked``, which no network computes with.

    Raises:
        InputError: one line with the first difference.
    """
    with torch.device("meta"):
        network = build_network(imported.config, imported.num_classes)
    ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    counters = {name for name in ours if name.endswith(".num_batches_tracked")} - imported.state.keys()
    if counters:
        zeros = {name: torch.zeros((), dtype=torch.int64) for name in counters}
        imported = replace(imported, state=imported.state | zeros)
    theirs = {name: tuple(value.shape) for name, value in imported.state.items()}
    for name, shape in ours.items():
        if name not in theirs:
            raise InputError(f"{imported.what}: damaged or incomplete, it lacks what becomes {name}")
        if theirs[name] != shape:
            raise InputError(
                f"{imported.what}: what becomes {name} is {list(theirs[name])}, must be {list(shape)}"
            )
    for name in theirs.keys() - ours.keys():
        raise InputError(f"{imported.what}: it has what would become {name}, which the model lacks")
    return imported
