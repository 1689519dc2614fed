"""The Gaussian of a pixel grid with 1 to 3 axes: one 1-D convolution after another, borders cut off.

The sums are those of `crfnet.crf.filters.separable`: only pixels that exist, up to a radius along each axis.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

from crfnet.kernels.cpu.arithmetic import add, fma, mul
from crfnet.kernels.cpu.atomics import claim, finish, wait
from crfnet.kernels.cpu.compile import inline, kernel
from crfnet.kernels.cpu.vectors import at, filled, load, spread_at, store

__all__ = ["PATCH", "PHASES", "clear", "convolve_group", "convolve_line", "convolve_patch", "scale"]

PHASES = 3  # of `convolve_group`, at most
_PIXELS = 2048  # of a task along lines, about
PATCH = 64  # pixels along both sides of a task across lines


@kernel
def convolve_group(
    counters, phase, shape, radii, taps, kind, send, receive, factors, values, place, padded, between, out,
    where, adds, few, active,
):  # fmt: skip
    """``out (+)= receive K send values`` of one group of eight channels; the number of the next phase.

    Args:
        counters: of the call.
        phase: number of the first phase.
        shape: int64 (3,).
        radii: int64 (kernels, 3).
        taps: (kernels, 3, radius + 1).
        kind: which of the kernels.
        send: of every pixel, from place ``factors`` on.
        receive: like ``send``.
        factors: place of this kernel's factors.
        values: rows of eight, from ``place`` on.
        place: of the first value.
        padded: (pixels of a line + 2 radius or more, 8), of this thread.
        between: (2, pixels or more, 8), what lies between two axes; of grids with 2 axes only the first.
        out: rows of eight, from ``where`` on; may be ``values``.
        where: of the first result.
        adds: the result is added to what is there.
        few: only blocks of eight pixels that are ``active`` send, and they receive; others may.
        active: (blocks,), not 0 for these.
    """
    depth, height, width = shape
    lines = max(1, _PIXELS // width)
    tasks = (depth * height + lines - 1) // lines
    clear(padded, width + 2 * radii[kind, 2])
    task = claim(counters, phase)
    while task < tasks:
        for row in range(task * lines, min(depth * height, (task + 1) * lines)):
            first = row * width
            _along_line(
                first, width, radii[kind, 2], taps[kind, 2], send, factors, values, place, padded, between,
                few, active,
            )  # fmt: skip
        task = finish(counters, phase)
    phase = wait(counters, phase, tasks)
    if depth == 1:
        return _across(
            counters, phase, height, width, 1, radii[kind, 1], taps[kind, 1], between, 0, receive, factors,
            out, where, adds, few, active,
        )  # fmt: skip
    other = between.shape[1] * 8
    phase = _across(
        counters, phase, height, width, depth, radii[kind, 1], taps[kind, 1], between, 0, receive, -1,
        between, other, False, False, active,
    )  # fmt: skip
    return _across(
        counters, phase, depth, height * width, 1, radii[kind, 0], taps[kind, 0], between, other, receive,
        factors, out, where, adds, few, active,
    )  # fmt: skip


@inline
def clear(padded, pixels):
    """Zeros in the first rows of eight."""
    zero = filled(padded, 0.0)
    for x in range(pixels):
        store(padded, 8 * x, zero)


@inline
def scale(rows, place, count, by, factors):
    """Rows of eight times a factor each."""
    for x in range(count):
        store(rows, place + 8 * x, mul(spread_at(by, factors + x), load(rows, place + 8 * x)))


@inline
def _along_line(
    first, width, radius, taps, send, factors, values, place, padded, out, few, active
):  # fmt: skip
    """One line of pixels; ``padded`` has zeros around it."""
    if few:
        _along_line_of_few(first, width, radius, taps, send, factors, values, place, padded, out, active)
        return
    for x in range(width):
        value = mul(spread_at(send, factors + first + x), load(values, place + 8 * (first + x)))
        store(padded, 8 * (radius + x), value)
    convolve_line(first, width, radius, taps, send, padded, out)


@inline
def _along_line_of_few(first, width, radius, taps, send, factors, values, place, padded, out, active):
    """The same where inactive blocks send 0; sums that nobody adds to are not computed."""
    zero = filled(out, 0.0)
    for x in range(width):
        value = zero
        if at(active, (first + x) // 8) != 0:
            value = mul(spread_at(send, factors + first + x), load(values, place + 8 * (first + x)))
        store(padded, 8 * (radius + x), value)
    for x in range(0, width, 8):
        end = min(width, x + 8)
        near = _any_active(active, first + max(0, x - radius), first + min(width, end + radius))
        if near and x + 8 <= width:
            _eight(
                taps, -radius, radius + 1, padded, 8 * (radius + x), 8, send, -1, out, 8 * (first + x), False
            )
        else:
            for k in range(x, end):
                if near:
                    _one(
                        taps, -radius, radius + 1, padded, 8 * (radius + k), 8, send, -1, out,
                        8 * (first + k), False,
                    )  # fmt: skip
                else:
                    store(out, 8 * (first + k), zero)


@inline
def _any_active(active, first, end):
    """Whether one of the pixels ``first`` .. ``end`` lies in an active block."""
    found = False
    for block in range(first // 8, (end + 7) // 8):
        found |= at(active, block) != 0
    return found


@inline
def convolve_line(first, width, radius, taps, send, padded, out):
    """A line of pixels that lies in ``padded`` between zeros; to row ``first`` of ``out`` and on."""
    whole = width - width % 8
    for x in range(0, whole, 8):
        _eight(taps, -radius, radius + 1, padded, 8 * (radius + x), 8, send, -1, out, 8 * (first + x), False)
    for x in range(whole, width):
        _one(taps, -radius, radius + 1, padded, 8 * (radius + x), 8, send, -1, out, 8 * (first + x), False)


@kernel
def _across(
    counters, phase, size, stride, repeats, radius, taps, source, place, receive, factors, out, where, adds,
    few, active,
):  # fmt: skip
    """One phase: pixels along an axis whose neighbors lie ``stride`` apart.

    A task is a patch of pixels, done in columns of eight pixels, which stay in the nearest cache.
    """
    parts, strips = (size + PATCH - 1) // PATCH, (stride + PATCH - 1) // PATCH
    tasks = repeats * parts * strips
    task = claim(counters, phase)
    while task < tasks:
        repeat, part, strip = task // strips // parts, task // strips % parts, task % strips
        convolve_patch(
            part * PATCH, min(size, (part + 1) * PATCH), strip * PATCH, min(stride, (strip + 1) * PATCH),
            repeat, size, stride, radius, taps, source, place, receive, factors, out, where, adds, few,
            active,
        )  # fmt: skip
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@inline
def convolve_patch(
    start, stop, left, end, repeat, size, stride, radius, taps, source, place, receive, factors, out, where,
    adds, few, active,
):  # fmt: skip
    """Rows ``start`` .. ``stop``, columns ``left`` .. ``end``; eight columns at a time, for the cache."""
    for x in range(left, end, 8):
        for along in range(start, stop):
            low, high = -min(radius, along), min(radius, size - 1 - along) + 1
            pixel = (repeat * size + along) * stride + x
            if few and not _any_active(active, pixel, pixel + min(8, end - x)):
                continue
            if x + 8 <= end:
                _eight(
                    taps, low, high, source, place + 8 * pixel, 8 * stride, receive, _of(factors, pixel),
                    out, where + 8 * pixel, adds,
                )  # fmt: skip
            else:
                for k in range(end - x):
                    _one(
                        taps, low, high, source, place + 8 * (pixel + k), 8 * stride, receive,
                        _of(factors, pixel + k), out, where + 8 * (pixel + k), adds,
                    )  # fmt: skip


@inline
def _of(factors, pixel):
    return -1 if factors < 0 else factors + pixel


@inline
def _eight(taps, low, high, source, place, stride, receive, factor, out, where, adds):
    """Eight pixels that lie side by side: enough sums that none waits for itself."""
    a = b = c = d = e = f = g = h = filled(out, 0.0)
    for t in range(low, high):
        tap, row = spread_at(taps, abs(t)), place + t * stride
        a = fma(tap, load(source, row), a)
        b = fma(tap, load(source, row + 8), b)
        c = fma(tap, load(source, row + 16), c)
        d = fma(tap, load(source, row + 24), d)
        e = fma(tap, load(source, row + 32), e)
        f = fma(tap, load(source, row + 40), f)
        g = fma(tap, load(source, row + 48), g)
        h = fma(tap, load(source, row + 56), h)
    _emit(a, receive, factor, 0, out, where, adds)
    _emit(b, receive, factor, 1, out, where, adds)
    _emit(c, receive, factor, 2, out, where, adds)
    _emit(d, receive, factor, 3, out, where, adds)
    _emit(e, receive, factor, 4, out, where, adds)
    _emit(f, receive, factor, 5, out, where, adds)
    _emit(g, receive, factor, 6, out, where, adds)
    _emit(h, receive, factor, 7, out, where, adds)


@inline
def _one(taps, low, high, source, place, stride, receive, factor, out, where, adds):
    total = filled(out, 0.0)
    for t in range(low, high):
        total = fma(spread_at(taps, abs(t)), load(source, place + t * stride), total)
    _emit(total, receive, factor, 0, out, where, adds)


@inline
def _emit(total, receive, factor, k, out, where, adds):
    """Result k: times its pixel's factor, where ``factor`` is a place, and in addition to what is there."""
    if factor >= 0:
        total = mul(total, spread_at(receive, factor + k))
    store(out, where + 8 * k, add(total, load(out, where + 8 * k)) if adds else total)
