"""Conversion of arguments: anything array-like to float32 tensors, whole numbers and bandwidths.

Of widths in another number than axes pydensecrf uses some, and leaves axes unscaled. Programs depend on it,
so the same happens here, with a warning.
"""

import sys
import warnings
from functools import cache
from numbers import Real
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from crfnet.errors import require

__all__ = [
    "as_array",
    "as_tensor",
    "bandwidths",
    "check_finite",
    "first_bandwidths",
    "is_number",
    "leading_bandwidths",
    "warn_once",
    "whole_number",
]

_PACKAGE = "crfnet.pydensecrf"


def as_array(name: str, value: object) -> npt.NDArray[Any]:
    """Convert real numbers to a numpy array without changing their type; a view where that is possible.

    Args:
        name: of the argument, for the message.
        value: an array, a list of lists, a tensor of any device (its gradient is cut), a PIL image.

    Raises:
        TypeError: ``value`` is None.
        ValueError: it does not hold real numbers, or its rows differ in length.
    """
    if value is None:
        raise TypeError(f"Argument '{name}' must not be None")
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: holds {array.dtype}, must hold real numbers")
    return array


def as_tensor(name: str, value: object, axes: int | None = None) -> Float[Tensor, "..."]:
    """Convert to a float32 tensor on the CPU, see `as_array`; it may share memory with ``value``.

    Raises:
        TypeError: ``value`` is None.
        ValueError: see `as_array`, or it has another number of axes than ``axes``.
    """
    array = as_array(name, value)
    if axes is not None and array.ndim != axes:
        raise ValueError(
            f"Buffer has wrong number of dimensions (expected {axes}, got {array.ndim}): "
            f"{name} has shape {array.shape}"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused later
        floats = np.asarray(array, dtype=np.float32)
    shareable = floats.flags.writeable and all(stride >= 0 and stride % 4 == 0 for stride in floats.strides)
    return torch.from_numpy(floats if shareable else floats.copy())  # torch accepts no others


def check_finite(name: str, values: Tensor) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: names the argument.
    """
    if not torch.isfinite(values).all():
        raise ValueError(f"{name}: holds NaN or infinity, must be finite numbers")


def whole_number(name: str, value: object, minimum: int) -> int:
    """Convert to a whole number, also from a float such as 5.0 or an array of one element.

    Raises:
        ValueError: it is not one, or below ``minimum``.
    """
    try:
        number = int(cast(Any, value))
        fits = bool(number == value) and number >= minimum
    except (TypeError, ValueError, OverflowError):
        fits = False
    require(name, value, fits, f"a whole number >= {minimum}")
    return number


def bandwidths(name: str, value: object, count: int) -> list[float]:
    """Convert to ``count`` bandwidths (standard deviations) > 0, from as many numbers or one for all.

    Raises:
        ValueError: another number of them, or one that is not > 0.
    """
    numbers = _widths(name, value, count)
    require(name, value, len(numbers) == count, f"a number or {count} numbers, all > 0")
    return numbers


def first_bandwidths(name: str, value: object, count: int) -> list[float]:
    """`bandwidths` as the methods of pydensecrf read them: of more numbers the first ``count``.

    A sequence of one number, for which pydensecrf has an IndexError, is that number for all.
    """
    numbers = _widths(name, value, count)
    if len(numbers) > count:
        warn_once(f"{name} has more than {count} numbers; like pydensecrf, this uses the first {count}")
        return numbers[:count]
    if len(numbers) == 1 < count:
        warn_once(f"{name} is a sequence of one number, which is used for all {count}; pydensecrf refuses it")
        return numbers * count
    return bandwidths(name, value, count)


def leading_bandwidths(name: str, value: object, count: int) -> list[float]:
    """`bandwidths` as the helpers of pydensecrf read them: fewer numbers are those of the first axes.

    The other axes are not scaled, so their bandwidth is 1.
    """
    numbers = _widths(name, value, count)
    require(name, value, len(numbers) <= count, f"a number or up to {count} numbers, all > 0")
    if len(numbers) < count:
        warn_once(
            f"{name} has fewer than {count} numbers; like pydensecrf, this scales the first ones and leaves "
            "the rest as they are, as with a width of 1"
        )
    return numbers + [1.0] * (count - len(numbers))


def is_number(value: object) -> bool:
    """Whether a value is one number: of Python, numpy or torch, or an array without axes."""
    return isinstance(value, Real) or getattr(value, "shape", None) == ()


@cache
def warn_once(message: str) -> None:
    """Warn once per process, at the line that called into this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


def _widths(name: str, value: object, count: int) -> list[float]:
    """Numbers > 0, as many as there are; one number is ``count`` of them."""
    array = as_array(name, value)
    valid = array.size == max(array.shape, default=1) and bool((array > 0).all())
    require(name, value, valid, f"a number or {count} numbers, all > 0")
    return [float(width) for width in array.reshape(-1)] * (count if array.ndim == 0 else 1)
