"""Conversion of arguments: anything array-like to float32 tensors, whole numbers and bandwidths."""

from numbers import Real
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from crfnet.errors import require

__all__ = ["as_array", "as_tensor", "bandwidths", "check_finite", "whole_number"]


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
    numbers: list[Any] = [value] if isinstance(value, Real) else as_array(name, value).reshape(-1).tolist()
    if len(numbers) == 1:
        numbers *= count
    valid = len(numbers) == count and all(width > 0 for width in numbers)
    require(name, value, valid, f"a number or {count} numbers, all > 0")
    return [float(width) for width in numbers]
