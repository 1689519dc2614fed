"""Options of a `DenseCRF`: normalization and kernel type as pydensecrf's integers, and the device."""

import os
from enum import IntEnum
from typing import Any, TypeVar, cast

import torch

from crfnet.errors import require

__all__ = ["KernelType", "NormalizationType", "select_device", "enum_member", "normalization_name"]

_Choice = TypeVar("_Choice", bound=IntEnum)


class NormalizationType(IntEnum):
    """How a kernel K is scaled by its row sums, D = diag(K 1)."""

    NO_NORMALIZATION = 0  #: K
    NORMALIZE_BEFORE = 1  #: K D^-1
    NORMALIZE_AFTER = 2  #: D^-1 K, as in the 2011 code and DeepLab
    NORMALIZE_SYMMETRIC = 3  #: D^-1/2 K D^-1/2, the default


class KernelType(IntEnum):
    """Which scalings of the features pydensecrf's C++ could learn; inference does not see it."""

    CONST_KERNEL = 0  #: none
    DIAG_KERNEL = 1  #: one number per feature
    FULL_KERNEL = 2  #: a matrix


_NAMES = {
    NormalizationType.NO_NORMALIZATION: "none",
    NormalizationType.NORMALIZE_BEFORE: "before",
    NormalizationType.NORMALIZE_AFTER: "after",
    NormalizationType.NORMALIZE_SYMMETRIC: "symmetric",
}


def normalization_name(value: object) -> str:
    """The name of a normalization in `crfnet.crf.normalization.NORMALIZATIONS`.

    Raises:
        ValueError: ``value`` is not a `NormalizationType`.
    """
    return _NAMES[enum_member("normalization", NormalizationType, value)]


def enum_member(name: str, choices: type[_Choice], value: object) -> _Choice:
    """Convert an enum member or its number to the member.

    Raises:
        ValueError: there is no such member.
    """
    try:
        return choices(cast(Any, value))
    except ValueError:
        allowed = ", ".join(f"{choice.name} ({choice.value})" for choice in choices)
        raise ValueError(f"{name} is {value!r}, must be one of {allowed}") from None


def select_device(device: str | torch.device | None) -> torch.device:
    """Select the device to compute on.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``: a GPU where torch sees one and this process may use
            it (one forked from a process that does may not), else the CPU. None for the environment variable
            CRFNET_DEVICE, which holds one of these, and ``auto`` where it is not set.

    Raises:
        ValueError: no such device, or not on this machine.
    """
    name, wanted = "device", device
    if wanted is None:
        name, wanted = "CRFNET_DEVICE", os.environ.get("CRFNET_DEVICE") or "auto"
    if wanted == "auto":
        usable = torch.cuda.is_available() and not torch.cuda._is_in_bad_fork()
        return torch.device("cuda" if usable else "cpu")
    try:
        chosen = torch.device(wanted)
    except (RuntimeError, TypeError):
        chosen = torch.device("meta")
    require(name, str(wanted), chosen.type in {"cpu", "cuda"}, "auto, cpu or cuda")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"{name} is {str(wanted)!r}, but torch sees {torch.cuda.device_count()} GPUs")
    return chosen
