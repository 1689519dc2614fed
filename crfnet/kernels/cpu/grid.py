"""The Gaussian of a pixel grid with 1 to 3 axes, as what compiled code takes: shape, radii, taps."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Grid", "grid_of"]


class Grid(NamedTuple):
    """A Gaussian on a grid of 3 axes, slowest first; those that it lacks have one pixel."""

    shape: np.ndarray  #: int64 (3,)
    radii: np.ndarray  #: int64 (3,), pixels
    taps: np.ndarray  #: (3, largest radius + 1), the weight of a pixel so far away

    def row_sums(self, dtype: np.dtype) -> np.ndarray:
        """Along each axis (3, longest): the row sum of a pixel is the product of three of them."""
        sums = np.zeros((3, int(self.shape.max())), dtype)
        for axis, (size, radius) in enumerate(zip(self.shape, self.radii, strict=True)):
            taps = self.taps[axis, : radius + 1].astype(float)
            whole = np.convolve(np.ones(size), np.concatenate([taps[:0:-1], taps]))
            sums[axis, :size] = whole[radius : radius + size]
        return sums

    @property
    def pixels(self) -> int:
        """How many there are."""
        return int(self.shape.prod())


def grid_of(
    shape: Sequence[int],
    theta: float,
    dtype: np.dtype,
    spacing: Sequence[float] | None = None,
    radius_in_sigmas: float = 5.5,
) -> Grid:
    """The Gaussian of a bandwidth.

    Args:
        shape: sizes of 1 to 3 axes, slowest first.
        theta: bandwidth, > 0, in units of ``spacing``.
        dtype: float32 or float64.
        spacing: distance between neighbors along each axis; None for 1.
        radius_in_sigmas: where the kernel is cut off.
    """
    missing = 3 - len(shape)
    full = np.array([1] * missing + [int(size) for size in shape], np.int64)
    apart = [1.0] * missing + [1.0 if spacing is None else float(spacing[i]) for i in range(len(shape))]
    radii = np.array(
        [
            min(math.ceil(radius_in_sigmas * theta / step), size)
            for step, size in zip(apart, full.tolist(), strict=True)
        ],
        np.int64,
    )
    away = np.arange(radii.max() + 1) * np.array(apart)[:, None] / theta
    return Grid(full, radii, np.exp(-0.5 * away**2).astype(dtype))
