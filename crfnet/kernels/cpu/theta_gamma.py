"""Backwards through the Gaussian of a pixel grid: the gradient of the values, and that of the bandwidth.

``K = A B`` along columns and lines changes by ``A' B + A B'``. The gradient of the values is ``A (B g)``, so
``<g, K' v> = <A' (B g) + A (B' g), v>`` takes one more convolution along lines, ``B' g``, and two more sums
over the same rows along columns; nothing of it is stored.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

import numpy as np

from crfnet.kernels.cpu import threads
from crfnet.kernels.cpu.arithmetic import add, fma, mul
from crfnet.kernels.cpu.arithmetic import total as sum_of_lanes
from crfnet.kernels.cpu.atomics import claim, counters_for, finish, wait
from crfnet.kernels.cpu.channels import gather_channels, scatter_channels
from crfnet.kernels.cpu.compile import entry, inline, kernel
from crfnet.kernels.cpu.separable import PATCH, clear, scale
from crfnet.kernels.cpu.vectors import at, filled, load, spread_at, store

__all__ = ["filter_with_slope", "sum_of_some"]

_LINES = 8  # of a task along lines


def filter_with_slope(
    grad: np.ndarray,
    values: np.ndarray,
    shape: np.ndarray,
    radii: np.ndarray,
    taps: np.ndarray,
    slopes: np.ndarray,
    *,
    send: np.ndarray,
    receive: np.ndarray,
    count: int | None = None,
) -> tuple[np.ndarray, float]:
    """``receive K (send g)``, and ``<receive K' (send g), v>`` over all images and channels.

    Args:
        grad: g (b, l, n), C-contiguous.
        values: v, likewise.
        shape: int64 (3,); the first is 1: two axes.
        radii: int64 (3,), how far a pixel reaches along each axis.
        taps: (1 or b, 3, radius + 1), K's weight of a pixel so far away.
        slopes: like ``taps``: with them in the place of one axis' taps after another, K is K'.
        send: a factor of every pixel (b, n).
        receive: likewise.
        count: of threads; neither result depends on it.
    """
    count = threads.threads() if count is None else count
    batch, labels, _ = values.shape
    groups = -(-labels // 8)
    parts = -(-int(shape[1]) // PATCH) * -(-int(shape[2]) // PATCH)
    sums = np.zeros((batch * groups, parts))
    # An odd number from line to line, so that the pixels of a column do not share few places in the cache;
    # and one line more, since they are read in pairs.
    along = np.empty((int(shape[1] + 2 * radii[1]) + 1, int(shape[2]) | 1, 2, 8), values.dtype)
    out = np.empty_like(values)
    threads.run(
        _filtered, counters_for(2 * batch * groups), shape, radii, taps, slopes, send, receive, grad, values,
        along, out, sums, count=count,
    )  # fmt: skip
    return out, float(sums.sum())


@entry
def _filtered(
    thread, count, counters, shape, radii, taps, slopes, send, receive, grad, values, along, out, sums
):  # fmt: skip
    batch, labels, pixels = values.shape
    _, height, width = shape
    groups = (labels + 7) // 8
    padded, rows = (
        np.empty((width + 2 * radii[2] + 3, 8), values.dtype),
        np.empty((PATCH * PATCH, 8), values.dtype),
    )
    clear(padded, len(padded))
    phase = 0
    for image in range(batch):
        kind = min(image, len(taps) - 1)
        for group in range(groups):
            place, few = (image * labels + 8 * group) * pixels, min(8, labels - 8 * group)
            phase = _lines(
                counters, phase, height, width, radii, taps[kind, 2], slopes[kind, 2], send,
                image * pixels, grad, place, few, padded, along,
            )  # fmt: skip
            phase = _columns(
                counters, phase, height, width, radii[1], taps[kind, 1], slopes[kind, 1], receive,
                image * pixels, values, place, few, along, rows, out, sums[image * groups + group],
            )  # fmt: skip


@kernel
def _lines(
    counters, phase, height, width, radii, taps, slopes, send, factors, grad, place, few, padded, along
):  # fmt: skip
    """One phase: ``B g`` and ``B' g`` of one group, with zeros above and below."""
    around, radius = radii[1], radii[2]
    tasks = (height + 2 * around + _LINES - 1) // _LINES
    task = claim(counters, phase)
    while task < tasks:
        for row in range(task * _LINES, min(height + 2 * around, (task + 1) * _LINES)):
            target, line = 16 * row * along.shape[1], row - around
            if line < 0 or line >= height:
                _zeros(along, target, 2 * width)
            else:
                gather_channels(grad, place + line * width, height * width, few, width, padded, 8 * radius)
                scale(padded, 8 * radius, width, send, factors + line * width)
                for x in range(0, width, 4):
                    _four(
                        taps, slopes, radius, padded, 8 * (radius + x), along, target + 16 * x,
                        min(4, width - x),
                    )  # fmt: skip
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@inline
def _zeros(rows, place, count):
    zero = filled(rows, 0.0)
    for x in range(count):
        store(rows, place + 8 * x, zero)


@inline
def _four(taps, slopes, radius, source, place, out, where, some):
    """Of four pixels side by side, or of ``some``."""
    tap, slope = spread_at(taps, 0), spread_at(slopes, 0)
    one, two = load(source, place), load(source, place + 8)
    three, four = load(source, place + 16), load(source, place + 24)
    a, b, c, d = mul(tap, one), mul(tap, two), mul(tap, three), mul(tap, four)
    e, f, g, h = mul(slope, one), mul(slope, two), mul(slope, three), mul(slope, four)
    for t in range(1, radius + 1):
        tap, slope, left, right = spread_at(taps, t), spread_at(slopes, t), place - 8 * t, place + 8 * t
        one = add(load(source, left), load(source, right))
        two = add(load(source, left + 8), load(source, right + 8))
        three = add(load(source, left + 16), load(source, right + 16))
        four = add(load(source, left + 24), load(source, right + 24))
        a, b, c, d = fma(tap, one, a), fma(tap, two, b), fma(tap, three, c), fma(tap, four, d)
        e, f, g, h = fma(slope, one, e), fma(slope, two, f), fma(slope, three, g), fma(slope, four, h)
    _store_four(out, where, a, b, c, d, some)
    _store_four(out, where + 8, e, f, g, h, some)


@inline
def _store_four(out, where, a, b, c, d, some):
    store(out, where, a)
    if some > 1:
        store(out, where + 16, b)
    if some > 2:
        store(out, where + 32, c)
    if some > 3:
        store(out, where + 48, d)


@kernel
def _columns(
    counters, phase, height, width, radius, taps, slopes, receive, factors, values, place, few, along, rows,
    out, sums,
):  # fmt: skip
    """One phase: what one group receives, and the sum over each patch of pixels."""
    strips, pitch = (width + PATCH - 1) // PATCH, along.shape[1]
    tasks = (height + PATCH - 1) // PATCH * strips
    task = claim(counters, phase)
    while task < tasks:
        part, strip, total = task // strips, task % strips, 0.0
        first, end = strip * PATCH, min(width, (strip + 1) * PATCH)
        above, below = part * PATCH, min(height, (part + 1) * PATCH)
        for y in range(above, below):
            pixel, row = place + y * width + first, 8 * (y - above) * PATCH
            gather_channels(values, pixel, height * width, few, end - first, rows, row)
        for x in range(first, end, 2):  # a column of two: what it reads stays in the nearest cache
            sums_of_column = filled(along, 0.0)
            for y in range(above, below):
                sums_of_column = _two(
                    sums_of_column, taps, slopes, radius, along, 16 * ((y + radius) * pitch + x),
                    16 * pitch, receive, factors + y * width + x, rows,
                    8 * ((y - above) * PATCH + x - first), min(2, end - x),
                )  # fmt: skip
            total += sum_of_lanes(sums_of_column)
        sums[task] = total
        for y in range(above, below):
            pixel, row = place + y * width + first, 8 * (y - above) * PATCH
            scatter_channels(rows, row, end - first, out, pixel, height * width, few)
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@inline
def _two(total, taps, slopes, radius, along, place, stride, receive, factors, rows, where, some):
    """Of two pixels side by side, or of ``some``: adds v . receive (A' B + A B') g; A B g takes v's place."""
    tap, slope = spread_at(taps, 0), spread_at(slopes, 0)
    one, two = load(along, place), load(along, place + 16)
    a, b = mul(tap, one), mul(tap, two)
    c, d = mul(slope, one), mul(slope, two)
    e, f = mul(tap, load(along, place + 8)), mul(tap, load(along, place + 24))
    up, down = place, place
    for t in range(1, radius + 1):
        tap, slope = spread_at(taps, t), spread_at(slopes, t)
        up, down = up - stride, down + stride
        one = add(load(along, up), load(along, down))
        two = add(load(along, up + 16), load(along, down + 16))
        a, b = fma(tap, one, a), fma(tap, two, b)
        c, d = fma(slope, one, c), fma(slope, two, d)
        e = fma(tap, add(load(along, up + 8), load(along, down + 8)), e)
        f = fma(tap, add(load(along, up + 24), load(along, down + 24)), f)
    factor = spread_at(receive, factors)
    total = fma(mul(factor, load(rows, where)), add(c, e), total)
    store(rows, where, mul(factor, a))
    if some == 2:
        factor = spread_at(receive, factors + 1)
        total = fma(mul(factor, load(rows, where + 8)), add(d, f), total)
        store(rows, where + 8, mul(factor, b))
    return total


def sum_of_some(
    x: np.ndarray, y: np.ndarray, eights: np.ndarray, weights: np.ndarray, count: int | None = None
) -> float:
    """``sum_i w_i x_i . y_i`` over some pixels i of every image, which are few.

    Args:
        x: (b, l, n), C-contiguous.
        y: likewise.
        eights: int64 (k,), which eights of pixels of an image hold them.
        weights: of every pixel, of the same precision, (1 or b, n); 0 for others.
        count: of threads; the sum does not depend on it.
    """
    count = threads.threads() if count is None else count
    sums = np.zeros(x.shape[:2])
    threads.run(_add_some, counters_for(1), x, y, eights, weights, sums, count=count)
    return float(sums.sum())


@entry
def _add_some(thread, count, counters, x, y, eights, weights, sums):
    batch, labels, size = x.shape
    task = claim(counters, 0)
    while task < batch * labels:
        image, rest, some = task // labels, 0.0, filled(x, 0.0)
        factors = min(image, len(weights) - 1) * size
        for eight in eights:
            pixel = 8 * eight
            if pixel + 8 <= size:
                product = mul(load(x, task * size + pixel), load(y, task * size + pixel))
                some = fma(load(weights, factors + pixel), product, some)
            else:
                for i in range(pixel, size):
                    rest += at(weights, factors + i) * at(x, task * size + i) * at(y, task * size + i)
        sums[image, task % labels] = sum_of_lanes(some) + rest
        task = finish(counters, 0)
    wait(counters, 0, batch * labels)
