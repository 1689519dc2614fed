"""The Gaussian of features over all pairs of points that are near enough, and its gradient.

Points lie in blocks of sixteen near neighbors. A block of rows first looks for the blocks of columns whose
boxes are within reach, then meets them eight at a time: kernel values, which stay in the cache, then their
products with four channels at a time. The lanes of a vector are rows, so no sum runs over lanes.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

import numpy as np

from crfnet.kernels.cpu import threads
from crfnet.kernels.cpu.arithmetic import add, exp, fma, maximum, mul, sub
from crfnet.kernels.cpu.atomics import claim, counters_for, finish, wait
from crfnet.kernels.cpu.compile import entry, inline, kernel
from crfnet.kernels.cpu.point_blocks import (
    BLOCK,
    SUMS,
    PointBlocks,
    copy_blocks,
    find_near,
    table_of,
    write_block,
)
from crfnet.kernels.cpu.separable import clear
from crfnet.kernels.cpu.vectors import filled, load, spread_at, store

__all__ = ["filter_values", "grad_features"]

_MEETS = 8  # blocks of columns at once
_ROWS = 4  # blocks of rows of a task


def filter_values(values: np.ndarray, blocks: PointBlocks, *, count: int | None = None) -> np.ndarray:
    """``out_i = sum over j in blocks near i's of exp(-|f_i - f_j|^2 / 2) v_j``.

    Args:
        values: (b, l, n) in the precision of the blocks, C-contiguous.
        blocks: of all images.
        count: of threads.
    """
    count = threads.threads() if count is None else count
    table, out = table_of(values, blocks), np.empty_like(values)
    threads.run(_forward, counters_for(2), values, *blocks, table, out, count=count)
    return out


def grad_features(
    grad: np.ndarray, values: np.ndarray, blocks: PointBlocks, *, count: int | None = None
) -> np.ndarray:
    """``-sum over j in blocks near i's of K_ij (f_i - f_j) (g_i . v_j + v_i . g_j)``: (b, d, n).

    Args:
        grad: (b, l, n), the gradient g of `filter_values`' result.
        values: (b, l, n).
        blocks: as they were there.
        count: of threads.
    """
    count = threads.threads() if count is None else count
    left, right = table_of(grad, blocks), table_of(values, blocks)
    batch, _, pixels = values.shape
    out = np.empty((batch, blocks.points.shape[2], pixels), values.dtype)
    threads.run(_backward, counters_for(3), grad, values, *blocks, left, right, out, count=count)
    return out


@entry
def _forward(thread, count, counters, values, points, slots, low, high, farthest, table, out):
    phase = copy_blocks(counters, 0, values, slots, table)
    batch, blocks, channels, _ = table.shape
    near = np.empty(blocks, np.int64)
    gaps = np.empty((1, 8), values.dtype)
    kernels = np.empty((_MEETS * BLOCK, BLOCK), values.dtype)
    sums = np.empty((channels, BLOCK), values.dtype)
    parts = (blocks + _ROWS - 1) // _ROWS
    task = claim(counters, phase)
    while task < batch * parts:
        image = task // parts
        for block in range(task % parts * _ROWS, min(blocks, (task % parts + 1) * _ROWS)):
            found = find_near(low, high, image, block, farthest, gaps, near)
            clear(sums, 2 * channels)
            for first in range(0, found, _MEETS):
                some = min(_MEETS, found - first)
                for n in range(some):
                    _find_kernels(points, image * blocks + block, near[first + n], kernels, n)
                _add_blocks(table, near, first, some, kernels, sums)
            write_block(sums, slots, image * blocks + block, out, image)
        task = finish(counters, phase)
    wait(counters, phase, batch * parts)


@entry
def _backward(
    thread, count, counters, grad, values, points, slots, low, high, farthest, left, right, out
):  # fmt: skip
    phase = copy_blocks(counters, 0, grad, slots, left)
    phase = copy_blocks(counters, phase, values, slots, right)
    batch, blocks, dimensions, _ = points.shape
    near = np.empty(blocks, np.int64)
    gaps = np.empty((1, 8), values.dtype)
    kernels = np.empty((BLOCK, BLOCK), values.dtype)
    sums = np.empty((dimensions, BLOCK), values.dtype)
    parts = (blocks + _ROWS - 1) // _ROWS
    task = claim(counters, phase)
    while task < batch * parts:
        image = task // parts
        for block in range(task % parts * _ROWS, min(blocks, (task % parts + 1) * _ROWS)):
            found, row = find_near(low, high, image, block, farthest, gaps, near), image * blocks + block
            clear(sums, 2 * dimensions)
            for n in range(found):
                _find_kernels(points, row, near[n], kernels, 0)
                _times_products(left, right, values.shape[1], row, near[n], kernels)
                _pull(points, row, near[n], kernels, sums)
            write_block(sums, slots, row, out, image)
        task = finish(counters, phase)
    wait(counters, phase, batch * parts)


@kernel
def _find_kernels(points, row, column, kernels, where):
    """K of every column (16) and row (16) of two blocks."""
    dimensions = points.shape[2]
    # What is smaller counts for nothing, and numbers near the smallest are slow.
    half, lowest = filled(points, -0.5), filled(points, -700.0 if points.itemsize == 8 else -80.0)
    more = filled(points, 0.0 if points.itemsize == 8 else 6e-8)  # so that exp(0), in float32 less, is 1
    here, there, to = row * dimensions * BLOCK, column * dimensions * BLOCK, where * BLOCK * BLOCK
    for j in range(BLOCK):
        square, square_2 = filled(points, 0.0), filled(points, 0.0)
        for place in range(0, dimensions * BLOCK, BLOCK):
            f = spread_at(points, there + place + j)
            away, away_2 = sub(f, load(points, here + place)), sub(f, load(points, here + place + 8))
            square, square_2 = fma(away, away, square), fma(away_2, away_2, square_2)
        store(kernels, to + j * BLOCK, exp(maximum(fma(square, half, more), lowest)))
        store(kernels, to + j * BLOCK + 8, exp(maximum(fma(square_2, half, more), lowest)))


@kernel
def _add_blocks(table, near, first, some, kernels, sums):
    """Kernel values of some blocks of columns times their values, four channels at a time."""
    channels = table.shape[2]
    for c in range(0, channels, SUMS):
        zero = filled(sums, 0.0)
        a, b, d, e, a_2, b_2, d_2, e_2 = zero, zero, zero, zero, zero, zero, zero, zero
        for n in range(some):
            place = (near[first + n] * channels + c) * BLOCK
            for j in range(BLOCK):
                k = (n * BLOCK + j) * BLOCK
                x, x_2 = load(kernels, k), load(kernels, k + 8)
                v = spread_at(table, place + j)
                a, a_2 = fma(x, v, a), fma(x_2, v, a_2)
                v = spread_at(table, place + j + 16)
                b, b_2 = fma(x, v, b), fma(x_2, v, b_2)
                v = spread_at(table, place + j + 32)
                d, d_2 = fma(x, v, d), fma(x_2, v, d_2)
                v = spread_at(table, place + j + 48)
                e, e_2 = fma(x, v, e), fma(x_2, v, e_2)
        _add_pair(sums, c * BLOCK, a, a_2)
        _add_pair(sums, c * BLOCK + 16, b, b_2)
        _add_pair(sums, c * BLOCK + 32, d, d_2)
        _add_pair(sums, c * BLOCK + 48, e, e_2)


@inline
def _add_pair(sums, place, x, x_2):
    store(sums, place, add(load(sums, place), x))
    store(sums, place + 8, add(load(sums, place + 8), x_2))


@kernel
def _times_products(left, right, labels, row, column, kernels):
    """Kernel values times ``g_i . v_j + v_i . g_j``, in place, four columns at a time."""
    room = left.shape[2] * BLOCK
    for j in range(0, BLOCK, SUMS):
        zero = filled(left, 0.0)
        a, b, d, e, a_2, b_2, d_2, e_2 = zero, zero, zero, zero, zero, zero, zero, zero
        for c in range(0, labels * BLOCK, BLOCK):
            here, p = row * room + c, column * room + c + j
            g, g_2, v, v_2 = load(left, here), load(left, here + 8), load(right, here), load(right, here + 8)
            y, z = spread_at(right, p), spread_at(left, p)
            a, a_2 = fma(g, y, fma(v, z, a)), fma(g_2, y, fma(v_2, z, a_2))
            y, z = spread_at(right, p + 1), spread_at(left, p + 1)
            b, b_2 = fma(g, y, fma(v, z, b)), fma(g_2, y, fma(v_2, z, b_2))
            y, z = spread_at(right, p + 2), spread_at(left, p + 2)
            d, d_2 = fma(g, y, fma(v, z, d)), fma(g_2, y, fma(v_2, z, d_2))
            y, z = spread_at(right, p + 3), spread_at(left, p + 3)
            e, e_2 = fma(g, y, fma(v, z, e)), fma(g_2, y, fma(v_2, z, e_2))
        k = j * BLOCK
        _scale_pair(kernels, k, a, a_2)
        _scale_pair(kernels, k + 16, b, b_2)
        _scale_pair(kernels, k + 32, d, d_2)
        _scale_pair(kernels, k + 48, e, e_2)


@inline
def _scale_pair(kernels, place, x, x_2):
    store(kernels, place, mul(x, load(kernels, place)))
    store(kernels, place + 8, mul(x_2, load(kernels, place + 8)))


@kernel
def _pull(points, row, column, weights, sums):
    """Adds ``w_ij (f_j - f_i)`` of every column j."""
    room = points.shape[2] * BLOCK
    for place in range(0, room, BLOCK):
        here, there = row * room + place, column * room + place
        f, f_2 = load(points, here), load(points, here + 8)
        total, total_2 = filled(points, 0.0), filled(points, 0.0)
        for j in range(BLOCK):
            y = spread_at(points, there + j)
            total = fma(load(weights, j * BLOCK), sub(y, f), total)
            total_2 = fma(load(weights, j * BLOCK + 8), sub(y, f_2), total_2)
        _add_pair(sums, place, total, total_2)
