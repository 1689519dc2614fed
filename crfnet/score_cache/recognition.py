"""What the arrays of other programs do not say: which axis the labels are, and the scale of probabilities."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["label_axes", "labels_sum_to", "probability_scale"]

#: Of bytes, of 16 bits, of percent.
_SCALES = (1, 255, 65535, 100)
#: How far the labels of a pixel may sum from the scale: room for float16, and for rounding each label.
_TOLERANCE = 1e-2


def labels_sum_to(array: NDArray[Any], axis: int) -> int | None:
    """The scale to which numbers >= 0 along an axis sum everywhere, as probabilities do; None where none."""
    if array.size == 0 or array.shape[axis] < 2 or float(array.min()) < 0:
        return None
    sums = array.sum(axis=axis, dtype=np.float64)
    rounding = 0.5 * array.shape[axis]
    for scale in _SCALES:
        room = _TOLERANCE * scale + rounding / (255 if scale == 1 else 1)
        if bool((np.abs(sums - scale) <= room).all()):
            return scale
    return None


def probability_scale(array: NDArray[Any], axis: int) -> int | None:
    """What to divide probabilities by: 1 for values of 0..1, else by type or by sums; None if unknown."""
    low, high = float(array.min()), float(array.max())
    if low < -1e-3 or not high < np.inf:
        return None
    if high <= 1 + 1e-3:
        return 1
    if array.dtype in (np.uint8, np.uint16):
        return int(np.iinfo(array.dtype).max)
    return labels_sum_to(array, axis)


def label_axes(arrays: Sequence[NDArray[Any]], image_sizes: Sequence[tuple[int, int]] = ()) -> str | None:
    """The axes of arrays: ``lhw`` or ``hwl``; with images any order; None where it cannot be told.

    Told, the surest first, by numbers that sum to 1 along one axis, by the sizes of the images, by an axis
    that is as long in every file where others are not, and by a last axis that is not far the shortest.

    Args:
        arrays: of three axes each, of different images.
        image_sizes: (rows, columns) of their images.
    """
    by_sum = [axes for axes, axis in (("lhw", 0), ("hwl", 2)) if all(labels_sum_to(a, axis) for a in arrays)]
    if len(by_sum) == 1:
        return by_sum[0]
    if image_sizes:
        fitting = [axes for axes in _ORDERS if _fit(axes, arrays, image_sizes)]
        if len(fitting) == 1:
            return fitting[0]
    first, last = (len({array.shape[axis] for array in arrays}) == 1 for axis in (0, 2))
    return _by_length(arrays) if first == last else "lhw" if first else _hwl(arrays)


def _hwl(arrays: Sequence[NDArray[Any]]) -> str | None:
    """``hwl`` where the last axis alone stays, or is the shorter of two that do.

    With columns of one length in all images, the first axis may be the labels of a broken file.
    """
    middle = len({array.shape[1] for array in arrays}) == 1
    return "hwl" if not middle or all(a.shape[2] < a.shape[1] for a in arrays) else None


def _by_length(arrays: Sequence[NDArray[Any]]) -> str | None:
    looks_last = all(2 * a.shape[2] <= min(a.shape[:2]) for a in arrays)
    return None if looks_last else "lhw"


_ORDERS = ["".join(order) for order in permutations("lhw")]


def _fit(axes: str, arrays: Sequence[NDArray[Any]], sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether arrays are as large as their images, in this order of axes, with as many labels each."""
    rows, columns, labels = (axes.index(axis) for axis in "hwl")
    same = all((a.shape[rows], a.shape[columns]) == size for a, size in zip(arrays, sizes, strict=True))
    return same and len({a.shape[labels] for a in arrays}) == 1
