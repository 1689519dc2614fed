"""The Gaussian of features within a window of the pixel grid, and its gradient with respect to the features.

Every pair of pixels has a kernel value of its own, so here the lanes of a vector are eight pixels of a line
and not eight channels: one vector of kernel values then serves all channels, and no sum runs over lanes.
Sixteen pixels meet one line of their window at a time.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

from collections.abc import Sequence

import numpy as np

from crfnet.kernels.cpu import threads
from crfnet.kernels.cpu.arithmetic import exp, fma, maximum, mul, sub
from crfnet.kernels.cpu.atomics import claim, counters_for, finish, wait
from crfnet.kernels.cpu.compile import entry, kernel
from crfnet.kernels.cpu.lines import (
    PIXELS,
    SUMS,
    around,
    copy_lines,
    lines_of,
    store_pair,
    window_of,
    write_block,
)
from crfnet.kernels.cpu.separable import clear
from crfnet.kernels.cpu.vectors import filled, load, store

__all__ = ["filter_values", "grad_features"]


def filter_values(
    values: np.ndarray, features: np.ndarray, grid: Sequence[int], radius: int, *, count: int | None = None
) -> np.ndarray:
    """``out_i = sum over j in i's window of exp(-|f_i - f_j|^2 / 2) v_j``.

    Args:
        values: (b, l, n), float32 or float64, C-contiguous.
        features: (b, d, n) like them.
        grid: sizes of 1 to 3 axes, slowest first, with product n.
        radius: of the window, pixels along each axis.
        count: of threads.
    """
    count = threads.threads() if count is None else count
    shape, reaches = window_of(grid, radius)
    table, points = lines_of(values, shape, reaches), lines_of(features, shape, reaches)
    out = np.empty_like(values)
    threads.run(
        _forward, counters_for(3), values, features, shape, reaches, table, points, out, count=count
    )  # fmt: skip
    return out


def grad_features(
    grad: np.ndarray,
    values: np.ndarray,
    features: np.ndarray,
    grid: Sequence[int],
    radius: int,
    *,
    count: int | None = None,
) -> np.ndarray:
    """``-sum over j in i's window of K_ij (f_i - f_j) (g_i . v_j + v_i . g_j)``: (b, d, n).

    Args:
        grad: (b, l, n), the gradient g of `filter_values`' result.
        values: see `filter_values`.
        features: see `filter_values`.
        grid: see `filter_values`.
        radius: see `filter_values`.
        count: of threads.
    """
    count = threads.threads() if count is None else count
    shape, reaches = window_of(grid, radius)
    left, right, points = (lines_of(x, shape, reaches) for x in (grad, values, features))
    out = np.empty_like(features)
    threads.run(
        _backward, counters_for(4), grad, values, features, shape, reaches, left, right, points, out,
        count=count,
    )  # fmt: skip
    return out


@entry
def _forward(thread, count, counters, values, features, shape, reaches, table, points, out):
    _, rows, width = shape
    batch, lines, channels, _ = table.shape
    labels, reach = values.shape[1], reaches[2]
    phase = copy_lines(counters, 0, values, width, reach, table)
    phase = copy_lines(counters, phase, features, width, reach, points)
    dimensions, tasks = features.shape[1], batch * lines
    kernels = np.empty((2 * reach + 1, PIXELS), values.dtype)
    sums = np.empty((channels, PIXELS), values.dtype)
    task = claim(counters, phase)
    while task < tasks:
        line, first = task % lines, task - task % lines
        for x in range(0, width, PIXELS):
            clear(sums, 2 * channels)
            for plane in around(line // rows, reaches[0], shape[0]):
                for row in around(line % rows, reaches[1], rows):
                    other = first + plane * rows + row
                    _find_kernels(points, dimensions, task, other, x, reach, kernels)
                    _add_line(table, other, x, reach, kernels, sums)
            write_block(
                sums, labels, out, task // lines, lines * width, line * width + x, min(PIXELS, width - x)
            )
        task = finish(counters, phase)
    wait(counters, phase, tasks)


@entry
def _backward(
    thread, count, counters, grad, values, features, shape, reaches, left, right, points, out
):  # fmt: skip
    _, rows, width = shape
    batch, lines, _, _ = left.shape
    labels, dimensions, reach = values.shape[1], features.shape[1], reaches[2]
    phase = copy_lines(counters, 0, grad, width, reach, left)
    phase = copy_lines(counters, phase, values, width, reach, right)
    phase = copy_lines(counters, phase, features, width, reach, points)
    tasks = batch * lines
    kernels = np.zeros((2 * reach + 1 + SUMS, PIXELS), values.dtype)
    sums = np.empty((dimensions, PIXELS), values.dtype)
    task = claim(counters, phase)
    while task < tasks:
        line, first = task % lines, task - task % lines
        for x in range(0, width, PIXELS):
            clear(sums, 2 * dimensions)
            for plane in around(line // rows, reaches[0], shape[0]):
                for row in around(line % rows, reaches[1], rows):
                    other = first + plane * rows + row
                    _find_kernels(points, dimensions, task, other, x, reach, kernels)
                    _times_products(left, right, labels, task, other, x, reach, kernels)
                    _pull(points, dimensions, task, other, x, reach, kernels, sums)
            some = min(PIXELS, width - x)
            write_block(sums, dimensions, out, task // lines, lines * width, line * width + x, some)
        task = finish(counters, phase)
    wait(counters, phase, tasks)


@kernel
def _find_kernels(points, dimensions, line, other, x, reach, kernels):
    """K between a block of pixels and each of their neighbors in another line, or the same one."""
    pitch, room = points.shape[3], points.shape[2] * points.shape[3]
    here, there = line * room + x + reach, other * room + x
    # What is smaller counts for nothing, and numbers near the smallest are slow.
    half, lowest = filled(points, -0.5), filled(points, -700.0 if points.itemsize == 8 else -80.0)
    more = filled(points, 0.0 if points.itemsize == 8 else 6e-8)  # so that exp(0), in float32 less, is 1
    for shift in range(2 * reach + 1):
        square, square_2 = filled(points, 0.0), filled(points, 0.0)
        for place in range(0, dimensions * pitch, pitch):
            away = sub(load(points, here + place), load(points, there + shift + place))
            away_2 = sub(load(points, here + place + 8), load(points, there + shift + place + 8))
            square, square_2 = fma(away, away, square), fma(away_2, away_2, square_2)
        store(kernels, PIXELS * shift, exp(maximum(fma(square, half, more), lowest)))
        store(kernels, PIXELS * shift + 8, exp(maximum(fma(square_2, half, more), lowest)))


@kernel
def _add_line(table, other, x, reach, kernels, sums):
    """Kernel values times the neighbors' values, four channels at a time."""
    channels, pitch = table.shape[2], table.shape[3]
    for c in range(0, channels, SUMS):
        s = c * PIXELS
        a, b, d, e = load(sums, s), load(sums, s + 16), load(sums, s + 32), load(sums, s + 48)
        a_2, b_2, d_2, e_2 = (
            load(sums, s + 8), load(sums, s + 24), load(sums, s + 40), load(sums, s + 56)
        )  # fmt: skip
        place = (other * channels + c) * pitch + x
        for shift in range(2 * reach + 1):
            k, k_2 = load(kernels, PIXELS * shift), load(kernels, PIXELS * shift + 8)
            p = place + shift
            q, r, t = p + pitch, p + 2 * pitch, p + 3 * pitch
            a, a_2 = fma(k, load(table, p), a), fma(k_2, load(table, p + 8), a_2)
            b, b_2 = fma(k, load(table, q), b), fma(k_2, load(table, q + 8), b_2)
            d, d_2 = fma(k, load(table, r), d), fma(k_2, load(table, r + 8), d_2)
            e, e_2 = fma(k, load(table, t), e), fma(k_2, load(table, t + 8), e_2)
        store_pair(sums, s, a, a_2)
        store_pair(sums, s + 16, b, b_2)
        store_pair(sums, s + 32, d, d_2)
        store_pair(sums, s + 48, e, e_2)


@kernel
def _times_products(left, right, labels, line, other, x, reach, kernels):
    """Kernel values times ``g_i . v_j + v_i . g_j``, in place, four neighbors at a time."""
    pitch, room = left.shape[3], left.shape[2] * left.shape[3]
    for shift in range(0, 2 * reach + 1, SUMS):
        zero = filled(left, 0.0)
        a, b, d, e, a_2, b_2, d_2, e_2 = zero, zero, zero, zero, zero, zero, zero, zero
        for c in range(labels):
            here, p = line * room + c * pitch + x + reach, other * room + c * pitch + x + shift
            g, g_2, v, v_2 = load(left, here), load(left, here + 8), load(right, here), load(right, here + 8)
            a = fma(g, load(right, p), fma(v, load(left, p), a))
            a_2 = fma(g_2, load(right, p + 8), fma(v_2, load(left, p + 8), a_2))
            b = fma(g, load(right, p + 1), fma(v, load(left, p + 1), b))
            b_2 = fma(g_2, load(right, p + 9), fma(v_2, load(left, p + 9), b_2))
            d = fma(g, load(right, p + 2), fma(v, load(left, p + 2), d))
            d_2 = fma(g_2, load(right, p + 10), fma(v_2, load(left, p + 10), d_2))
            e = fma(g, load(right, p + 3), fma(v, load(left, p + 3), e))
            e_2 = fma(g_2, load(right, p + 11), fma(v_2, load(left, p + 11), e_2))
        s = PIXELS * shift
        store_pair(kernels, s, mul(a, load(kernels, s)), mul(a_2, load(kernels, s + 8)))
        store_pair(kernels, s + 16, mul(b, load(kernels, s + 16)), mul(b_2, load(kernels, s + 24)))
        store_pair(kernels, s + 32, mul(d, load(kernels, s + 32)), mul(d_2, load(kernels, s + 40)))
        store_pair(kernels, s + 48, mul(e, load(kernels, s + 48)), mul(e_2, load(kernels, s + 56)))


@kernel
def _pull(points, dimensions, line, other, x, reach, weights, sums):
    """Adds ``w_ij (f_j - f_i)`` of every neighbor."""
    pitch, room = points.shape[3], points.shape[2] * points.shape[3]
    for k in range(dimensions):
        here, there, s = line * room + k * pitch + x + reach, other * room + k * pitch + x, k * PIXELS
        f, f_2, total, total_2 = (
            load(points, here), load(points, here + 8), load(sums, s), load(sums, s + 8)
        )  # fmt: skip
        for shift in range(2 * reach + 1):
            w, w_2 = load(weights, PIXELS * shift), load(weights, PIXELS * shift + 8)
            total = fma(w, sub(load(points, there + shift), f), total)
            total_2 = fma(w_2, sub(load(points, there + shift + 8), f_2), total_2)
        store_pair(sums, s, total, total_2)
