"""The derivative of the Gaussian of a pixel grid in its bandwidth, contracted with a gradient in one pass.

``K = A B`` along columns and lines changes by ``A' B + A B'``, so of ``g . (dK/dtheta) v`` two things are
made along lines, ``B v`` and ``B' v``, and the rest is summed as it comes.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

import numpy as np

from crfnet.kernels.cpu import threads
from crfnet.kernels.cpu.arithmetic import add, fma, mul, sub
from crfnet.kernels.cpu.arithmetic import total as sum_of_lanes
from crfnet.kernels.cpu.atomics import claim, counters_for, finish, wait
from crfnet.kernels.cpu.channels import gather_channels
from crfnet.kernels.cpu.compile import entry, inline, kernel
from crfnet.kernels.cpu.separable import PATCH, clear, scale
from crfnet.kernels.cpu.vectors import filled, load, spread_at, store

__all__ = ["theta_gamma_gradient"]

_LINES = 8  # of a task along lines


def theta_gamma_gradient(
    grad: np.ndarray,
    values: np.ndarray,
    shape: np.ndarray,
    radii: np.ndarray,
    taps: np.ndarray,
    slopes: np.ndarray,
    *,
    send: np.ndarray,
    receive: np.ndarray,
    center: np.ndarray,
    count: int | None = None,
) -> float:
    """``sum_i g_i . receive_i ((K' send v)_i - center_i (K send v)_i)`` over all images and channels.

    Args:
        grad: g (b, l, n), C-contiguous.
        values: v, likewise.
        shape: int64 (3,); the first is 1: two axes.
        radii: int64 (3,), how far a pixel reaches along each axis.
        taps: (1 or b, 3, radius + 1), K's weight of a pixel so far away.
        slopes: like ``taps``: their derivatives.
        send: a factor of every pixel (b, n).
        receive: likewise.
        center: likewise; with ``K' 1 / K 1`` the average ``K v / K 1`` is what is differentiated.
        count: of threads; the sum does not depend on it.
    """
    count = threads.threads() if count is None else count
    batch, labels, pixels = values.shape
    groups = -(-labels // 8)
    parts = -(-int(shape[1]) // PATCH) * -(-int(shape[2]) // PATCH)
    sums = np.zeros((batch * groups, parts))
    along = np.empty((pixels + 2 * int(radii[1] * shape[2]) + 1, 2, 8), values.dtype)
    threads.run(
        _summed, counters_for(2 * batch * groups), shape, radii, taps, slopes, send, receive, center, grad,
        values, along, sums, count=count,
    )  # fmt: skip
    return float(sums.sum())


@entry
def _summed(
    thread, count, counters, shape, radii, taps, slopes, send, receive, center, grad, values, along, sums
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
                image * pixels, values, place, few, padded, along,
            )  # fmt: skip
            phase = _columns(
                counters, phase, height, width, radii[1], taps[kind, 1], slopes[kind, 1], receive, center,
                image * pixels, grad, place, few, along, rows, sums[image * groups + group],
            )  # fmt: skip


@kernel
def _lines(
    counters, phase, height, width, radii, taps, slopes, send, factors, values, place, few, padded, along
):  # fmt: skip
    """One phase: ``B v`` and ``B' v`` of one group, with zeros above and below."""
    around, radius = radii[1], radii[2]
    tasks = (height + 2 * around + _LINES - 1) // _LINES
    task = claim(counters, phase)
    while task < tasks:
        for row in range(task * _LINES, min(height + 2 * around, (task + 1) * _LINES)):
            target, line = 16 * row * width, row - around
            if line < 0 or line >= height:
                _zeros(along, target, 2 * width)
            else:
                gather_channels(values, place + line * width, height * width, few, width, padded, 8 * radius)
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
    counters, phase, height, width, radius, taps, slopes, receive, center, factors, grad, place, few, along,
    rows, sums,
):  # fmt: skip
    """One phase: the sums of one group, of each patch of pixels."""
    strips = (width + PATCH - 1) // PATCH
    tasks = (height + PATCH - 1) // PATCH * strips
    task = claim(counters, phase)
    while task < tasks:
        part, strip, total = task // strips, task % strips, 0.0
        first, end = strip * PATCH, min(width, (strip + 1) * PATCH)
        above, below = part * PATCH, min(height, (part + 1) * PATCH)
        for y in range(above, below):
            pixel = y * width + first
            gather_channels(
                grad, place + pixel, height * width, few, end - first, rows, 8 * (y - above) * PATCH
            )
        for x in range(first, end, 2):  # a column of two: what it reads stays in the nearest cache
            sums_of_column = filled(along, 0.0)
            for y in range(above, below):
                sums_of_column = _two(
                    sums_of_column, taps, slopes, radius, along, 16 * ((y + radius) * width + x),
                    16 * width, receive, center, factors + y * width + x, rows,
                    8 * ((y - above) * PATCH + x - first), min(2, end - x),
                )  # fmt: skip
            total += sum_of_lanes(sums_of_column)
        sums[task] = total
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@inline
def _two(
    total, taps, slopes, radius, along, place, stride, receive, center, factors, grad, where, some
):  # fmt: skip
    """Adds g . receive (A' B v + A B' v - center A B v) of two pixels side by side, or of ``some``."""
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
    c = sub(add(c, e), mul(spread_at(center, factors), a))
    total = fma(mul(spread_at(receive, factors), load(grad, where)), c, total)
    if some == 2:
        d = sub(add(d, f), mul(spread_at(center, factors + 1), b))
        total = fma(mul(spread_at(receive, factors + 1), load(grad, where + 8)), d, total)
    return total
