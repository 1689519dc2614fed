"""The permutohedral lattice on tables whose channels come in groups of eight: build, splat, blur, slice."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

from typing import NamedTuple

import numpy as np

from crfnet.kernels.cpu import threads
from crfnet.kernels.cpu.atomics import counters_for
from crfnet.kernels.cpu.simplices import CHUNK, EMPTY, insert_points, number_corners

__all__ = ["Lattice", "build_lattice"]

_FARTHEST = 1e12  # bandwidths
_FAR = 2**13  # bandwidths from 0, beyond which a float32 does not say where in its simplex a point is
_CODES = 2**62  # codes of corners and of their neighbors stay below it
_FULL = 0.7  # of the hash table: then searches become long, and a larger one is taken


class Lattice(NamedTuple):
    """The lattice of a batch of points, for ``alpha S^T B_d .. B_0 S``; images share no corner."""

    corners: np.ndarray  #: int32 (points, d + 1), the corners of each point's simplex
    weights: np.ndarray  #: (points, d + 1), barycentric
    neighbors: (
        np.ndarray
    )  #: int32 (d + 1, corners, 2) along each axis; the number of corners where there is none

    @property
    def size(self) -> int:
        """How many corners hold a point."""
        return int(self.neighbors.shape[1])

    @property
    def alpha(self) -> float:
        """The factor of the whole: 1 / (1 + 2^-d)."""
        return float(1 / (1 + 2.0 ** (1 - self.corners.shape[1])))


def build_lattice(features: np.ndarray, count: int | None = None) -> Lattice:
    """The lattice of features (b, d, n), float32 or float64, in units of one bandwidth.

    Args:
        features: of all points; weights have their precision.
        count: of threads; the result does not depend on it.

    Raises:
        ValueError: A feature is not finite, or beyond 1e12 bandwidths; or there are 2^31 corners of
            simplices, each counted for every point.
    """
    batch, dimensions, pixels = features.shape
    size = dimensions + 1
    if batch * pixels * size >= 2**31:
        raise ValueError(
            f"features make {batch * pixels * size} entries of one table; the lattice takes 2^31"
        )
    low, high = features.min(axis=(0, 2)).astype(float), features.max(axis=(0, 2)).astype(float)
    farthest = float(np.maximum(-low, high).max())  # NaN where there is one
    if not np.isfinite(farthest):
        raise ValueError("features hold NaN or infinity; every feature has to be a finite number")
    if farthest > _FARTHEST:
        raise ValueError(f"features reach {farthest:.3g} bandwidths; the lattice takes up to {_FARTHEST:.0e}")
    placed = np.ascontiguousarray(features, np.float64 if farthest > _FAR else features.dtype)
    if pixels < 8:
        placed = np.pad(placed, ((0, 0), (0, 0), (0, 8 - pixels)))
    places = _places(low, high, batch)
    count = threads.threads() if count is None else count
    corners = np.empty((batch * pixels, size), np.int32)
    weights = np.empty(corners.shape, placed.dtype)
    table, shift = _filled_table(placed, places, corners, weights, count)
    codes = table[table != EMPTY]
    codes.sort()
    neighbors = np.full((size, len(codes), 2), len(codes), np.int32)
    numbers = np.empty(len(table), np.int32)
    threads.run(
        number_corners,
        counters_for(2),
        codes,
        places[1],
        table,
        shift,
        numbers,
        corners,
        neighbors,
        count=count,
    )
    return Lattice(corners, weights.astype(features.dtype, copy=False), neighbors)


def _filled_table(
    features: np.ndarray, places: np.ndarray, corners: np.ndarray, weights: np.ndarray, count: int
) -> tuple[np.ndarray, int]:
    """The hash table of all corners, and its shift. Most images have 0.1 to 2 corners a pixel."""
    at_once = count * CHUNK * corners.shape[1]  # what threads may add after they last looked
    enough = max(2 * corners.size, 16)
    bits = (min(enough, max(2 * len(corners), 8 * at_once)) - 1).bit_length()
    while True:
        table = np.full(2**bits, EMPTY)
        limit = 2**bits if 2**bits >= enough else int(_FULL * 2**bits) - at_once
        found = np.array([0, limit])
        threads.run(
            insert_points,
            counters_for(1),
            features,
            places,
            corners,
            weights,
            table,
            64 - bits,
            found,
            count=count,
        )
        if found[0] <= limit:
            return table, 64 - bits
        bits += 2


def _places(low: np.ndarray, high: np.ndarray, batch: int) -> np.ndarray:
    """What makes a code of a corner, int64 (3, d + 1).

    Step i adds 1 to every coordinate of a corner x and takes d+1 off x_i. So the digits c_j = (x_j -
    x_(j+1)) / (d+1), which determine x, change by constants (c_i by -1, c_(i-1) by 1), and a code that is
    linear in them changes by one number.

    Args:
        low: the least value of each feature.
        high: the largest.
        batch: number of images.

    Returns:
        Row 0: strides of the d digits, then what is taken off their sum to make codes positive; row 1: what a
        step along each axis adds to a code; row 2: the stride of the image's index.
    """
    dimensions = len(low)
    scale = [np.sqrt(2 / 3 / (i * (i + 1))) for i in range(1, dimensions + 1)]
    least, most = low * scale, high * scale
    below, above = (
        2 * least[:1],
        2 * most[:1],
    )  # digit i is (i + 2) s_(i+1) - i s_i, rounded; s are scaled features
    index = np.arange(1, dimensions)
    below = np.concatenate([below, (index + 2) * least[1:] - index * most[:-1]])
    above = np.concatenate([above, (index + 2) * most[1:] - index * least[:-1]])
    lowest = [int(x) - 5 for x in np.floor(below)]  # rounding, the corners of a simplex and their neighbors
    radices = [int(x) + 6 - first for x, first in zip(np.ceil(above), lowest, strict=True)]
    strides = [1]
    for radix in reversed(radices):
        strides.insert(0, strides[0] * radix)
    if strides[0] * batch > _CODES:
        # Too far apart for 63 bits: a linear hash modulo 2^64, with random strides. Two corners get the same
        # code with probability 2^-62 or so; any two of a million corners, with probability 1e-6.
        strides = [int(x) for x in np.random.default_rng(0).integers(-(2**61), 2**61, dimensions + 1)]
    offset = sum(stride * first for stride, first in zip(strides[1:], lowest, strict=True))
    between = [0, *strides[1:], 0]
    steps = [between[i] - between[i + 1] for i in range(dimensions + 1)]
    rows = [[*strides[1:], offset], steps, [strides[0]] * (dimensions + 1)]
    return np.array([[(x + 2**63) % 2**64 - 2**63 for x in row] for row in rows], np.int64)
