"""The gradient of the features from some rows of the exact kernel; pairs that are far apart are skipped."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917  # compiled functions take arrays one by one

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numba
import numpy as np

__all__ = ["PixelBlocks", "pixel_blocks", "sampled_rows_gradient"]

_BLOCK = 64  # pixels that share a bounding box
_CELL = 3.0  # bandwidths: pixels of one cell of this width lie side by side in memory
_MISSED = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-13}
_STEPS = 64  # of exp's table for each factor of e


class PixelBlocks(NamedTuple):
    """The pixels of one image that count, sorted so that neighbors in kernel space lie side by side."""

    order: np.ndarray  #: int32 (m,), which pixels of the image these are
    features: np.ndarray  #: (d, m)
    low: np.ndarray  #: (m / 64, d), the bounding box of every 64 of them
    high: np.ndarray

    @property
    def farthest(self) -> float:
        """The ``|f_i - f_j|^2`` from which a pair is skipped.

        All that a row misses so is at most 1e-5 (float32) or 1e-13 (float64) of its sum, since K_ii is 1.
        """
        return 2 * math.log(self.features.shape[1] / _MISSED[self.features.dtype])


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
    placed = np.ascontiguousarray(features[:, order])
    starts = np.arange(0, len(order), _BLOCK)
    low, high = (bound.reduceat(placed, starts, axis=1).T for bound in (np.minimum, np.maximum))
    return PixelBlocks(order, placed, np.ascontiguousarray(low), np.ascontiguousarray(high))


def sampled_rows_gradient(
    blocks: list[PixelBlocks],
    rows: np.ndarray,
    values: np.ndarray,
    features: np.ndarray,
    grad: np.ndarray,
    scale: np.ndarray | None,
    *,
    threads: int,
) -> np.ndarray:
    """The gradient of ``sum_i g_i . (R K v)_i`` over the drawn rows i, with respect to the features.

    ``R = diag(scale) D^-1``: each row of K scaled to a sum that is held constant. Without ``scale`` the
    average D^-1 K v, whose D changes with the features. All floating arrays have one precision.

    Args:
        blocks: of every image.
        rows: int64 (b, r), the drawn pixels.
        values: v (b, n, l).
        features: of the drawn pixels (b, r, d), inside or not.
        grad: g of the drawn pixels (b, r, l), each times its weight.
        scale: row sums that the drawn pixels' rows are scaled to (b, r).
        threads: at most so many compute; sums round differently with their number.

    Returns:
        (b, d, n).
    """
    batch, count = rows.shape
    parts = min(count, -(-threads // batch))  # of the rows of each image
    total = np.zeros((parts, batch, features.shape[2], values.shape[1]), values.dtype)
    pulls = np.empty_like(features)
    sums = np.ones_like(grad[:, :, 0]) if scale is None else scale

    def add(image: int, part: int) -> None:
        some = image, slice(count * part // parts, count * (part + 1) // parts)
        _add_rows(
            *blocks[image], *_constants(blocks[image]), values[image],
            features[some], grad[some], sums[some], scale is None, total[part, image], pulls[some],
        )  # fmt: skip

    tasks = [(image, part) for image in range(batch) for part in range(parts)]
    if threads == 1 or len(tasks) == 1:
        for task in tasks:
            add(*task)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(add, *zip(*tasks, strict=True)))
    placed: np.ndarray = total.sum(0) if parts > 1 else total[0]
    gradient = np.zeros(placed.shape, placed.dtype)
    for image, (order, *_) in enumerate(blocks):
        gradient[image][:, order] = placed[image, :, : len(order)]
        np.subtract.at(gradient[image].T, rows[image], pulls[image])
    return gradient


def _constants(blocks: PixelBlocks) -> tuple[Any, np.ndarray, np.ndarray]:
    """The farthest square, the powers of e at steps of it, and numbers, in the precision of the features.

    Numbers written in compiled code would be float64, and slow.
    """
    dtype, farthest = blocks.features.dtype, blocks.farthest
    powers = np.exp(np.arange(int(farthest * _STEPS) + 2) / (-2 * _STEPS))
    numbers = np.array([1, 1 / 2, 1 / 6, 1 / 24, _STEPS, 1 / _STEPS])
    return dtype.type(farthest), powers.astype(dtype), numbers.astype(dtype)


def _compiled(function: Callable[..., Any]) -> Any:
    """Compiled once per user where a cache can be written, else in each process."""
    # Sums in any order; but what is not a number stays none.
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"reassoc", "contract", "arcp", "nsz"},
    }
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for it
        return numba.njit(**options)(function)


@_compiled
def _add_rows(
    order, placed, low, high, farthest, powers, numbers, values, features, grad, scale, averaged, total, pulls
):  # pragma: no cover
    """Adds what the rows of one image pull at each placed pixel to ``total``; their sums are ``pulls``."""
    near = np.empty(len(order), np.int32)
    kernel, product = np.empty(len(order), placed.dtype), np.empty(len(order), placed.dtype)
    squares = np.empty(_BLOCK, placed.dtype)
    for r in range(len(grad)):
        count = _find_near(placed, low, high, features[r], farthest, squares, near, kernel)
        _exp_half_negative(kernel[:count], powers, numbers)
        row_sum, weighted = _products(order, near[:count], kernel, values, grad[r], product)
        mean = weighted / row_sum if averaged else weighted - weighted
        weight = scale[r] / row_sum
        for m in range(count):  # now its share of the gradient
            product[m] = weight * kernel[m] * (product[m] - mean)
        for k in range(len(placed)):
            pulls[r, k] = _pull(near[:count], product, placed, features[r], k, total)


@_compiled
def _find_near(placed, low, high, f, farthest, squares, near, found):  # pragma: no cover
    """Lists the pixels j with ``|f - f_j|^2 < farthest``, and these squares; says how many there are."""
    count, zero = 0, farthest - farthest
    dimensions, pixels = placed.shape
    for block in range(len(low)):
        if _squared_gap(low, high, block, f) >= farthest:
            continue
        start = block * _BLOCK
        size = min(_BLOCK, pixels - start)
        squares[:] = zero
        for k in range(dimensions):
            for j in range(size):
                squares[j] += (placed[k, start + j] - f[k]) ** 2
        for j in range(size):
            near[count] = start + j
            found[count] = squares[j]
            count += squares[j] < farthest
    return count


@_compiled
def _squared_gap(low, high, block, f):  # pragma: no cover
    """How far, squared, f is from the bounding box of a block."""
    gap = f[0] - f[0]
    for k in range(len(f)):
        below, above = low[block, k] - f[k], f[k] - high[block, k]
        if below > 0:
            gap += below * below
        elif above > 0:
            gap += above * above
    return gap


@_compiled
def _exp_half_negative(x, powers, numbers):  # pragma: no cover
    """``exp(-x / 2)`` in place for x >= 0, as far as ``powers`` reach: a table, times a series of 5 terms."""
    one, half, sixth, last, steps, width = numbers
    for j in range(len(x)):
        n = np.int32(x[j] * steps + half)
        r = (x.dtype.type(n) * width - x[j]) * half  # within 1 / 256: what is left out is 1e-14
        x[j] = powers[np.uint32(n)] * (one + r * (one + r * (half + r * (sixth + r * last))))


@_compiled
def _products(order, near, kernel, values, g, product):  # pragma: no cover
    """``g . v_j`` of the listed pixels; the sums of K_ij and of K_ij (g . v_j)."""
    row_sum, weighted = g[0] - g[0], g[0] - g[0]
    for m in range(len(near)):
        j, dot = order[near[m]], g[0] - g[0]
        for label in range(len(g)):
            dot += g[label] * values[j, label]
        product[m] = dot
        row_sum += kernel[m]
        weighted += kernel[m] * dot
    return row_sum, weighted


@_compiled
def _pull(near, share, placed, f, k, total):  # pragma: no cover
    """Adds ``share_j (f - f_j)``, of feature k, to every listed j; the sum."""
    pulled = f[k] - f[k]
    for m in range(len(near)):
        pull = share[m] * (f[k] - placed[k, near[m]])
        total[k, near[m]] += pull
        pulled += pull
    return pulled
