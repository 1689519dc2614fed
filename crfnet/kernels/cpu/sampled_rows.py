"""The gradient of the features from some rows of the exact kernel; pixels that are far are skipped."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917  # compiled functions take arrays one by one

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crfnet.kernels.cpu import threads
from crfnet.kernels.cpu.arithmetic import add, exp, fma, maximum, mul, sub, total
from crfnet.kernels.cpu.atomics import claim, counters_for, finish, wait
from crfnet.kernels.cpu.compile import entry, inline, kernel
from crfnet.kernels.cpu.vectors import at, filled, load, put, spread, spread_at, store

__all__ = ["PixelBlocks", "pixel_blocks", "sampled_rows_gradient"]

_BLOCK = 64  # pixels that share a bounding box
_CELL = 3.0  # bandwidths: pixels of one cell of this width lie side by side in memory
_MISSED = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-13}
_NOWHERE = 1e15  # bandwidths: a box that no pixel is near


class PixelBlocks(NamedTuple):
    """The pixels of one image that count, sorted so that neighbors in kernel space lie side by side.

    The last block is filled up with its last pixel, which counts once; boxes come in eights.
    """

    order: np.ndarray  #: int32 (m,), which pixels of the image these are
    features: np.ndarray  #: (d, m)
    low: np.ndarray  #: (d, m / 64 or more), the bounding box of every 64 of them
    high: np.ndarray
    inside: int  #: pixels that count

    @property
    def farthest(self) -> float:
        """The ``|f_i - f_j|^2`` from which pixels are skipped, where all of a block are beyond.

        All that a row misses so is at most 1e-5 (float32) or 1e-13 (float64) of its sum, since K_ii is 1.
        """
        return 2 * math.log(self.inside / _MISSED[self.features.dtype])


def pixel_blocks(features: np.ndarray, inside: np.ndarray) -> PixelBlocks:
    """Sorts the pixels of one image.

    Args:
        features: (d, n), float32 or float64, in units of one bandwidth.
        inside: bool (n,), the pixels that count; at least one.
    """
    cells = np.floor(features / _CELL)
    cells = (cells - cells.min(1, keepdims=True)).astype(np.int64)
    key = np.zeros(features.shape[1], np.int64)
    for cell in cells:  # many features may wrap around: that costs time, but changes no result
        key = key * (cell.max() + 1) + cell
    order = np.argsort(key)
    order = order[inside[order]].astype(np.int32)
    count = len(order)
    order = np.pad(order, (0, -count % _BLOCK), mode="edge")
    placed = np.ascontiguousarray(features[:, order])
    blocks = placed.reshape(len(placed), -1, _BLOCK)
    more = (0, 0), (0, -blocks.shape[1] % 8)
    low, high = (np.pad(bound, more, constant_values=_NOWHERE) for bound in (blocks.min(2), blocks.max(2)))
    return PixelBlocks(order, placed, low, high, count)


def sampled_rows_gradient(
    blocks: Sequence[PixelBlocks],
    rows: np.ndarray,
    products: np.ndarray,
    features: np.ndarray,
    scale: np.ndarray | None,
    *,
    count: int | None = None,
) -> np.ndarray:
    """The gradient of ``sum_i g_i . (R K v)_i`` over the drawn rows i, with respect to the features.

    ``R = diag(scale) D^-1``: each row of K scaled to a sum that is held constant. Without ``scale`` the
    average D^-1 K v, whose D changes with the features. All floating arrays have one precision.

    Args:
        blocks: of every image.
        rows: int64 (b, r), the drawn pixels.
        products: ``g_i . v_j`` (b, r, n), g times the row's weight.
        features: of the drawn pixels (b, r, d), inside or not.
        scale: row sums that the drawn pixels' rows are scaled to (b, r).
        count: of threads; sums round differently with their number.

    Returns:
        (b, d, n).
    """
    count = threads.threads() if count is None else count
    batch, drawn, pixels = products.shape
    gradient = np.zeros((batch, features.shape[2], pixels), products.dtype)
    sums = np.ones((batch, drawn), products.dtype) if scale is None else scale
    for image, (order, placed, low, high, inside) in enumerate(blocks):
        parts = min(count, drawn)
        found = np.zeros((parts, *placed.shape), products.dtype)
        pulls = np.zeros_like(features[image])
        threads.run(
            _add_rows, counters_for(1), order, placed, low, high, inside, blocks[image].farthest,
            products[image], features[image], sums[image], scale is None, found, pulls, count=parts,
        )  # fmt: skip
        summed = found.sum(0) if parts > 1 else found[0]
        gradient[image][:, order[:inside]] = summed[:, :inside]
        np.subtract.at(gradient[image].T, rows[image], pulls)
    return gradient


@entry
def _add_rows(
    thread, count, counters, order, placed, low, high, inside, farthest, products, features, scale, averaged,
    found, pulls,
):  # fmt: skip
    """What the rows of one image pull at each placed pixel, a part of the rows in each of ``found``."""
    parts, rows = len(found), len(products)
    near, gaps = np.empty(low.shape[1], np.int64), np.empty((1, 8), placed.dtype)
    kernels, dots = np.empty(len(order), placed.dtype), np.empty(len(order), placed.dtype)
    task = claim(counters, 0)
    while task < parts:
        for row in range(rows * task // parts, rows * (task + 1) // parts):
            blocks = _find_near(low, high, features, row, farthest, gaps, near)
            row_sum, weighted = _sum_row(
                order, placed, inside, products, features, row, near, blocks, kernels, dots
            )
            mean = weighted / row_sum if averaged else weighted - weighted
            weight = at(scale, row) / row_sum
            _pull(placed, features, row, near, blocks, kernels, dots, weight, mean, found, task, pulls)
        task = finish(counters, 0)
    wait(counters, 0, parts)


@kernel
def _find_near(low, high, features, row, farthest, gaps, near):
    """Lists the blocks whose boxes are nearer than ``farthest``, squared; says how many they are."""
    dimensions, boxes = low.shape
    count = 0
    zero = filled(low, 0.0)
    for first in range(0, boxes, 8):
        gap = zero
        for k in range(dimensions):
            f, place = spread_at(features, row * dimensions + k), k * boxes + first
            out = maximum(maximum(sub(load(low, place), f), sub(f, load(high, place))), zero)
            gap = fma(out, out, gap)
        store(gaps, 0, gap)
        for i in range(8):
            if at(gaps, i) < farthest:
                near[count] = first + i
                count += 1
    return count


@kernel
def _sum_row(order, placed, inside, products, features, row, near, blocks, kernels, dots):
    """K_ij and g_i . v_j of the listed blocks, one after another; the sums of K_ij and of their product."""
    dimensions, pixels = placed.shape
    # What is smaller than exp(-40) or exp(-80) counts for nothing; numbers near the smallest are slow.
    half, lowest = filled(placed, -0.5), filled(placed, -80.0 if placed.itemsize == 8 else -40.0)
    row_sum, weighted = filled(placed, 0.0), filled(placed, 0.0)
    start = row * products.shape[1]
    for n in range(blocks):
        first, target = near[n] * _BLOCK, n * _BLOCK
        for j in range(_BLOCK):
            put(dots, target + j, at(products, start + at(order, first + j)))
        for j in range(0, _BLOCK, 8):
            square = filled(placed, 0.0)
            for k in range(dimensions):
                away = sub(load(placed, k * pixels + first + j), spread_at(features, row * dimensions + k))
                square = fma(away, away, square)
            store(kernels, target + j, exp(maximum(mul(square, half), lowest)))
        for j in range(max(0, inside - first), _BLOCK):
            put(kernels, target + j, 0.0)
        for j in range(0, _BLOCK, 8):
            value = load(kernels, target + j)
            row_sum = add(row_sum, value)
            weighted = fma(value, load(dots, target + j), weighted)
    return total(row_sum), total(weighted)


@kernel
def _pull(placed, features, row, near, blocks, kernels, dots, weight, mean, found, part, pulls):
    """Adds ``share_j (f - f_j)`` to every listed j, and these sums to ``pulls``."""
    dimensions, pixels = placed.shape
    weights, means = spread(weight), spread(mean)
    for n in range(blocks):
        first, source = near[n] * _BLOCK, n * _BLOCK
        for j in range(0, _BLOCK, 8):
            share = mul(mul(weights, load(kernels, source + j)), sub(load(dots, source + j), means))
            store(kernels, source + j, share)
        for k in range(dimensions):
            f = spread_at(features, row * dimensions + k)
            place = k * pixels + first
            pulled = _pull_block(f, placed, place, kernels, source, found, part * placed.size + place)
            put(pulls, row * dimensions + k, at(pulls, row * dimensions + k) + pulled)


@inline
def _pull_block(f, placed, place, shares, source, found, target):
    pulled = filled(placed, 0.0)
    for j in range(0, _BLOCK, 8):
        pull = mul(load(shares, source + j), sub(f, load(placed, place + j)))
        store(found, target + j, add(load(found, target + j), pull))
        pulled = add(pulled, pull)
    return total(pulled)
