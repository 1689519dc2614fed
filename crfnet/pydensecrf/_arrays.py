"""What comes in: anything array-like as float32 tensors, whole numbers, widths; or one line why not."""

from numbers import Real
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["as_array", "as_tensor", "check_finite", "whole", "widths"]


def as_array(name: str, value: object) -> npt.NDArray[Any]:
    """Real numbers as a numpy array of whatever type they have; a view where that is possible.

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
    """`as_array` as a float32 tensor on the CPU; it may share memory with ``value``.

    Raises:
        TypeError: ``value`` is None.
        ValueError: as of `as_array`, or it has another number of axes than ``axes``.
    """
    array = as_array(name, value)
    if axes is not None and array.ndim != axes:
        raise ValueError(
            f"Buffer has wrong number of dimensions (expected {axes}, got {array.ndim}): "
            f"{name} has shape {array.shape}"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as such
        floats = np.asarray(array, dtype=np.float32)
    taken = floats.flags.writeable and all(stride >= 0 and stride % 4 == 0 for stride in floats.strides)
    return torch.from_numpy(floats if taken else floats.copy())  # torch takes no others


def check_finite(name: str, values: Tensor) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: names the argument.
    """
    if not torch.isfinite(values).all():
        raise ValueError(f"{name}: holds NaN or infinity, must be finite numbers")


def whole(name: str, value: object, least: int) -> int:
    """A whole number, also as a float such as 5.0 or an array of one.

    Raises:
        ValueError: it is none, or below ``least``.
    """
    try:
        number = int(cast(Any, value))
        fits = number == value and number >= least
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise ValueError(f"{name} is {value!r}, must be a whole number >= {least}")
    return number


def widths(name: str, value: object, count: int) -> list[float]:
    """``count`` widths (standard deviations) > 0, from as many numbers or one for all.

    Raises:
        ValueError: another number of them, or one that is not > 0.
    """
    numbers: list[Any] = [value] if isinstance(value, Real) else as_array(name, value).reshape(-1).tolist()
    if len(numbers) == 1:
        numbers *= count
    if len(numbers) != count or not all(width > 0 for width in numbers):
        raise ValueError(f"{name} is {value!r}, must be a number or {count} numbers, all > 0")
    return [float(width) for width in numbers]
