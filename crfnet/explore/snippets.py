"""Parameters that were found by hand as text to paste: YAML, Python, and calls of pydensecrf."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from crfnet.crf.config_file import crf_config_text
from crfnet.crf.filters import PermutohedralFilter
from crfnet.crf.inference import MeanField
from crfnet.crf.layer import CRFConfig

__all__ = ["SNIPPETS", "as_pydensecrf", "as_python", "as_yaml"]

#: Written even where they are the defaults: what was looked at.
_ALWAYS = ("w1", "theta_alpha", "theta_beta", "w2", "theta_gamma", "iterations", "normalization")

_NORMALIZATIONS = {
    "after": "NORMALIZE_AFTER",
    "symmetric": "NORMALIZE_SYMMETRIC",
    "before": "NORMALIZE_BEFORE",
    "none": "NO_NORMALIZATION",
}


def as_yaml(crf: CRFConfig, num_classes: int) -> str:
    """The file that `save` writes: for ``--crf`` of every command, and `crfnet.load_crf_config`."""
    del num_classes
    return crf_config_text(crf)


def as_python(crf: CRFConfig, num_classes: int) -> str:
    """The layer, built and applied."""
    imports = ["from crfnet import CRFConfig, DenseCRF"]
    default, lines = CRFConfig(), []
    for field in dataclasses.fields(crf):
        value = getattr(crf, field.name)
        if field.name in _ALWAYS or value != getattr(default, field.name):
            lines.append(f"    {field.name}={_expression(value, imports)},\n")
    return (
        "\n".join(imports)
        + f"\n\nconfig = CRFConfig(\n{''.join(lines)})\n"
        + f"crf = DenseCRF({num_classes}, config).eval()\n"
        + f"# logits (b, {num_classes}, h, w) of any network, image (b, 3, h, w) RGB in 0..255\n"
        + "labels = crf(logits, image).argmax(1)\n"
    )


def as_pydensecrf(crf: CRFConfig, num_classes: int) -> str:
    """The calls of pydensecrf that come closest, and what of the parameters it does not know."""
    kind = f"normalization=dcrf.{_NORMALIZATIONS[crf.normalization]}"
    scaled = "-logits" if crf.unary_weight == 1 else f"-{crf.unary_weight!r} * logits"
    calls = []
    if crf.w2 != 0:
        calls.append(f"d.addPairwiseGaussian(sxy={crf.theta_gamma!r}, compat={crf.w2!r}, {kind})\n")
    if crf.w1 != 0:
        widths = f"sxy={_number(crf.theta_alpha)}, srgb={crf.theta_beta!r}"
        calls.append(f"d.addPairwiseBilateral({widths}, rgbim=image, compat={crf.w1!r}, {kind})\n")
    return (
        "import numpy as np\nimport pydensecrf.densecrf as dcrf\n\n"
        + "".join(f"# {line}\n" for line in _unknown_to_pydensecrf(crf))
        + f"# logits ({num_classes}, rows, columns), image (rows, columns, 3) uint8\n"
        + f"rows, columns = image.shape[:2]\nd = dcrf.DenseCRF2D(columns, rows, {num_classes})\n"
        + f"unary = ({scaled}).reshape({num_classes}, -1)\n"
        + "d.setUnaryEnergy(np.ascontiguousarray(unary, dtype=np.float32))\n"
        + "".join(calls)
        + f"labels = np.argmax(d.inference({crf.iterations}), axis=0).reshape(rows, columns)\n"
    )


#: Text of a configuration and a number of classes, by what it is for.
SNIPPETS: dict[str, Callable[[CRFConfig, int], str]] = {
    "YAML": as_yaml,
    "Python": as_python,
    "pydensecrf": as_pydensecrf,
}


def _unknown_to_pydensecrf(crf: CRFConfig) -> list[str]:
    """What it computes otherwise, a line each."""
    lines = []
    if not isinstance(crf.filter, PermutohedralFilter):
        lines.append(f"differs: filter {type(crf.filter).__name__}; pydensecrf has the lattice alone")
    if crf.w2 != 0 and crf.spatial != "permutohedral":
        lines.append(f"differs a little: spatial {crf.spatial}; pydensecrf's is a lattice, too")
    inference = crf.build_inference()
    if not isinstance(inference, MeanField) or inference.damping or inference.tolerance:
        lines.append(f"differs: {inference}; pydensecrf has plain mean field alone")
    if crf.compatibility != "potts" or crf.weights != "scalar" or crf.first_step != "softmax":
        lines.append("differs: compatibility, weights or first step, which this call does not set")
    return lines


def _expression(value: Any, imports: list[str]) -> str:
    """Python for a value; what it needs is added to the imports."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return _number(value) if isinstance(value, float) else repr(value)
    kind = type(value)
    imports.append(f"from {kind.__module__} import {kind.__name__}")
    default = kind()
    changed = [
        f"{field.name}={_expression(own, imports)}"
        for field in dataclasses.fields(value)
        if (own := getattr(value, field.name)) != getattr(default, field.name)
    ]
    return f"{kind.__name__}({', '.join(changed)})"


def _number(value: float) -> str:
    return repr(value) if math.isfinite(value) else 'float("inf")'
