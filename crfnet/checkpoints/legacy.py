"""Checkpoints that an older version wrote, under the names of this one."""

from collections.abc import Mapping
from typing import Any, TypeVar

from crfnet.crf.filters import FILTERS
from crfnet.crf.inference import INFERENCES

__all__ = ["current_settings", "current_weights"]

_T = TypeVar("_T")
#: What stood beside the choice of a filter or of a scheme, whatever was chosen.
_FLAT = {
    "filter": ("rows", "eps", "window", "pool"),
    "inference": ("damping", "regularizer", "step", "alpha", "lam", "tolerance", "recompute"),
}


def current_weights(state: Mapping[str, _T]) -> dict[str, _T]:
    """A state dict in which the potentials of a CRF may be called kernels."""
    old, new = "crf.kernels.", "crf.potentials."
    return {
        new + name.removeprefix(old) if name.startswith(old) else name: value for name, value in state.items()
    }


def current_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings in which the parameters of filter and scheme may stand beside the choice.

    Those of the ones that were not chosen had no effect and are left out.
    """
    current = dict(settings)
    for axis, names in _FLAT.items():
        found = {name: current.pop(f"crf.{name}") for name in names if f"crf.{name}" in current}
        chosen = current.get(f"crf.{axis}")
        table: Mapping[str, type[Any]] = FILTERS if axis == "filter" else INFERENCES
        if found and isinstance(chosen, str) and chosen in table:
            own = table[chosen].__dataclass_fields__
            current |= {f"crf.{chosen}.{name}": value for name, value in found.items() if name in own}
    return current
