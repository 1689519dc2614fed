"""The recursive filter of the domain transform: passes along rows and columns, forth and back.

One pass is ``y_i = (1 - w_i) x_i + w_i y_(i-1)`` along a line, with the weight w_i between two neighbors that
the pass back uses as well. Eight channels are a vector, eight lines are interleaved: a line alone would wait
for each of its sums.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

import numpy as np

from crfnet.kernels.cpu import threads
from crfnet.kernels.cpu.arithmetic import add, fma, mul, sub, total
from crfnet.kernels.cpu.atomics import claim, counters_for, finish, wait
from crfnet.kernels.cpu.channels import gather_batch, scatter_batch
from crfnet.kernels.cpu.compile import entry, kernel
from crfnet.kernels.cpu.vectors import at, load, put, spread_at, store

__all__ = ["recursive_filter", "recursive_filter_gradient"]

_LINES = 8  # of a task


def recursive_filter(values: np.ndarray, weights: np.ndarray, *, count: int | None = None) -> np.ndarray:
    """Filter every channel along rows, then columns, once for each of the given pairs of weights.

    Args:
        values: (b, l, h, w), float32 or float64, C-contiguous.
        weights: (k, 2, b, h, w), of the same precision: of iteration k between each pixel and the one to its
            left, then the one above it; in [0, 1]. Those of the first column and the first row do not count.
        count: of threads.
    """
    count = threads.threads() if count is None else count
    groups = -(-values.shape[1] // 8)
    table = np.empty((1, groups, values[:, 0].size, 8), values.dtype)
    out = np.empty_like(values)
    counters = counters_for(2 + 2 * len(weights))
    threads.run(_forward, counters, values, weights, table, out, count=count)
    return out


def recursive_filter_gradient(
    values: np.ndarray, weights: np.ndarray, gradient: np.ndarray, *, count: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The gradients of `recursive_filter` with respect to values and weights.

    What each sweep began with is computed again, so that the pass forward keeps nothing but its input.

    Args:
        values: see `recursive_filter`.
        weights: see `recursive_filter`.
        gradient: with respect to the result, like ``values``.
        count: of threads.
    """
    count = threads.threads() if count is None else count
    groups, pixels, sweeps = -(-values.shape[1] // 8), values[:, 0].size, 2 * len(weights)
    tables = np.empty((sweeps + 1, groups, pixels, 8), values.dtype)  # the last one: of gradients
    of_values, of_weights = np.empty_like(values), np.zeros_like(weights)
    counters = counters_for(3 + 2 * sweeps)
    threads.run(
        _backward, counters, values, weights, gradient, tables, of_values, of_weights, count=count
    )  # fmt: skip
    return of_values, of_weights


@entry
def _forward(thread, count, counters, values, weights, table, out):
    batch, _, height, width = values.shape
    planes, pixels = values.reshape(batch, -1, height * width), batch * height * width
    phase = gather_batch(counters, 0, planes, table[0])
    for sweep in range(2 * len(weights)):
        phase = _sweep(
            counters, phase, sweep % 2, batch, height, width, weights, sweep * pixels, table, 0, 0
        )  # fmt: skip
    scatter_batch(counters, phase, table[0], out.reshape(batch, -1, height * width))


@entry
def _backward(thread, count, counters, values, weights, gradient, tables, of_values, of_weights):
    batch, _, height, width = values.shape
    pixels, sweeps, last = batch * height * width, 2 * len(weights), len(tables) - 1
    phase = gather_batch(counters, 0, values.reshape(batch, -1, height * width), tables[0])
    for sweep in range(sweeps - 1):
        phase = _sweep(
            counters, phase, sweep % 2, batch, height, width, weights, sweep * pixels, tables, sweep,
            sweep + 1,
        )  # fmt: skip
    phase = gather_batch(counters, phase, gradient.reshape(batch, -1, height * width), tables[last])
    forth = np.empty(max(height, width) * _LINES * 8, values.dtype)
    back = np.empty_like(forth)
    for sweep in range(sweeps - 1, -1, -1):
        phase = _sweep_gradient(
            counters, phase, sweep % 2, batch, height, width, weights, sweep * pixels, tables, sweep, last,
            forth, back, of_weights,
        )  # fmt: skip
    scatter_batch(counters, phase, tables[last], of_values.reshape(batch, -1, height * width))


@kernel
def _lines(axis, height, width):
    """How many lines, how long; pixels from one line to the next, and along a line."""
    if axis == 0:
        return height, width, width, 1
    return width, height, 1, width


@kernel
def _sweep(counters, phase, axis, batch, height, width, weights, first, tables, source, target):
    """All lines of an axis, forth and back, from one table (groups, b h w, 8) into another or itself."""
    lines, length, across, along = _lines(axis, height, width)
    plane, groups, bundles = height * width, tables.shape[1], (lines + _LINES - 1) // _LINES
    tasks = groups * batch * bundles
    task = claim(counters, phase)
    while task < tasks:
        image, bundle = task // bundles % batch, task % bundles
        few, start = min(_LINES, lines - _LINES * bundle), bundle * _LINES * across
        here = task // bundles * plane + start  # group and image, and the first pixel of the bundle
        read, write = source * groups * batch * plane + here, target * groups * batch * plane + here
        link = first + image * plane + start
        _forth(few, length, across, along, weights, link, tables, read, tables, write, across, along)
        for i in range(length - 2, -1, -1):
            for line in range(few):
                place = i * along + line * across
                x = load(tables, 8 * (write + place))
                beyond = load(tables, 8 * (write + place + along))
                w = spread_at(weights, link + place + along)
                store(tables, 8 * (write + place), fma(w, sub(beyond, x), x))
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@kernel
def _forth(few, length, across, along, weights, link, tables, read, out, write, out_across, out_along):
    """The first pass of some lines: ``y_i = x_i + w_i (y_(i-1) - x_i)``."""
    for line in range(few):
        store(out, 8 * (write + line * out_across), load(tables, 8 * (read + line * across)))
    for i in range(1, length):
        for line in range(few):
            place, to = i * along + line * across, write + i * out_along + line * out_across
            x = load(tables, 8 * (read + place))
            w = spread_at(weights, link + place)
            store(out, 8 * to, fma(w, sub(load(out, 8 * (to - out_along)), x), x))


@kernel
def _sweep_gradient(
    counters, phase, axis, batch, height, width, weights, first, tables, source, last, forth, back, of_weights
):  # fmt: skip
    """From the gradient after a sweep, in the table ``last``, to the one before it, in place."""
    lines, length, across, along = _lines(axis, height, width)
    plane, groups, bundles = height * width, tables.shape[1], (lines + _LINES - 1) // _LINES
    tasks = batch * bundles  # all channels in one task: their sum is the gradient of a weight
    task = claim(counters, phase)
    while task < tasks:
        image, bundle = task // bundles, task % bundles
        few, start = min(_LINES, lines - _LINES * bundle), bundle * _LINES * across
        link = first + image * plane + start
        for group in range(groups):
            here = (group * batch + image) * plane + start
            read, gradient = source * groups * batch * plane + here, last * groups * batch * plane + here
            _forth(few, length, across, along, weights, link, tables, read, forth, 0, 1, _LINES)
            _undo_back(
                few, length, across, along, weights, link, tables, gradient, forth, back, of_weights
            )  # fmt: skip
            _undo_forth(
                few, length, across, along, weights, link, tables, read, gradient, forth, of_weights
            )  # fmt: skip
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@kernel
def _undo_back(few, length, across, along, weights, link, tables, gradient, forth, back, of_weights):
    """Through the pass back, ``z_i = y_i + w_(i+1) (z_(i+1) - y_i)``, whose results come first."""
    for line in range(few):
        end = 8 * ((length - 1) * _LINES + line)
        store(back, end, load(forth, end))
    for i in range(length - 2, -1, -1):
        for line in range(few):
            y = load(forth, 8 * (i * _LINES + line))
            beyond = load(back, 8 * ((i + 1) * _LINES + line))
            w = spread_at(weights, link + (i + 1) * along + line * across)
            store(back, 8 * (i * _LINES + line), fma(w, sub(beyond, y), y))
    for i in range(length - 1):
        for line in range(few):
            place = i * along + line * across
            g = load(tables, 8 * (gradient + place))
            change = sub(load(back, 8 * ((i + 1) * _LINES + line)), load(forth, 8 * (i * _LINES + line)))
            _pass_on(weights, link + place + along, of_weights, change, tables, gradient + place, g, along)


@kernel
def _undo_forth(few, length, across, along, weights, link, tables, read, gradient, forth, of_weights):
    """Through the pass forth, ``y_i = x_i + w_i (y_(i-1) - x_i)``."""
    for i in range(length - 1, 0, -1):
        for line in range(few):
            place = i * along + line * across
            g = load(tables, 8 * (gradient + place))
            change = sub(load(forth, 8 * ((i - 1) * _LINES + line)), load(tables, 8 * (read + place)))
            _pass_on(weights, link + place, of_weights, change, tables, gradient + place, g, -along)


@kernel
def _pass_on(weights, link, of_weights, change, tables, here, g, onward):
    """Share a pixel's gradient between its own value, (1 - w) g, and its neighbor's result, w g."""
    w = spread_at(weights, link)
    put(of_weights, link, at(of_weights, link) + total(mul(g, change)))
    given = mul(w, g)
    store(tables, 8 * here, sub(g, given))
    there = 8 * (here + onward)
    store(tables, there, add(load(tables, there), given))
