"""The two kernels between active blocks alone: splat, blur and slice; and the Gaussian of the grid.

Only active blocks send and only they receive. The lattice is blurred as a whole; its table is small.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

import numpy as np

from crfnet.kernels.cpu.arithmetic import add, fma, mul
from crfnet.kernels.cpu.compile import inline, kernel, making_arrays
from crfnet.kernels.cpu.vectors import at, filled, load, put, spread, spread_at, store

__all__ = ["convolve_active", "filter_active", "set_factors"]

_EPS = 1e-20  # added to row sums before they divide


@kernel
def filter_active(group, count, settings, tables):
    """``near = receive alpha S^T B_d .. B_0 S send rows`` of one group of channels of all entries."""
    size, corners = settings.corners.shape[1], settings.neighbors.shape[1]
    table = 8 * (corners + 1)
    _splat(group, count, size, corners, settings, tables)
    source, target = 0, table
    for axis in range(size):
        _blur(2 * corners * axis, corners, settings.neighbors, tables.vertices, source, target)
        source, target = target, source
    _slice(group, count, size, source, settings, tables)


@inline
def _splat(group, count, size, corners, settings, tables):
    zero = filled(tables.vertices, 0.0)
    for row in range(corners + 1):
        store(tables.vertices, 8 * row, zero)
    store(tables.vertices, 8 * (2 * corners + 1), zero)  # neighbors that do not exist
    points = settings.unary.shape[1]
    place = 64 * group * tables.rows.shape[1]
    for entry in range(count):
        first = 8 * at(tables.active, entry)
        for point in range(first, min(points, first + 8)):
            row = place + 64 * entry + 8 * (point - first)
            value = mul(spread_at(tables.factors, point), load(tables.rows, row))
            corner = point * size
            while corner + 2 < (point + 1) * size:  # corners of a simplex differ: three at once
                _add_to_three(corner, value, settings.corners, settings.barycentric, tables.vertices)
                corner += 3
            while corner < (point + 1) * size:
                vertex = 8 * at(settings.corners, corner)
                weight = spread_at(settings.barycentric, corner)
                store(tables.vertices, vertex, fma(weight, value, load(tables.vertices, vertex)))
                corner += 1


@inline
def _add_to_three(corner, value, corners, barycentric, vertices):
    i, j, k = 8 * at(corners, corner), 8 * at(corners, corner + 1), 8 * at(corners, corner + 2)
    a = fma(spread_at(barycentric, corner), value, load(vertices, i))
    b = fma(spread_at(barycentric, corner + 1), value, load(vertices, j))
    c = fma(spread_at(barycentric, corner + 2), value, load(vertices, k))
    store(vertices, i, a)
    store(vertices, j, b)
    store(vertices, k, c)


@inline
def _blur(axis, corners, neighbors, vertices, source, target):
    half = filled(vertices, 0.5)
    for row in range(corners):
        right = load(vertices, source + 8 * at(neighbors, axis + 2 * row))
        left = load(vertices, source + 8 * at(neighbors, axis + 2 * row + 1))
        store(vertices, target + 8 * row, fma(half, add(right, left), load(vertices, source + 8 * row)))


@inline
def _slice(group, count, size, source, settings, tables):
    points = settings.unary.shape[1]
    place = 64 * group * tables.near.shape[1]
    scale = filled(tables.near, settings.alpha)
    for entry in range(count):
        first = 8 * at(tables.active, entry)
        for point in range(first, min(points, first + 8)):
            total = filled(tables.near, 0.0)
            for corner in range(point * size, (point + 1) * size):
                vertex = source + 8 * at(settings.corners, corner)
                total = fma(spread_at(settings.barycentric, corner), load(tables.vertices, vertex), total)
            total = mul(total, mul(scale, spread_at(tables.factors, points + point)))
            store(tables.near, place + 64 * entry + 8 * (point - first), total)
        for k in range(points - first, 8):  # pixels that fill up the last block
            store(tables.near, place + 64 * entry + 8 * k, filled(tables.near, 0.0))


@kernel
def convolve_active(group, count, settings, tables, line, flags):
    """``beside = receive K send rows`` of one group; ``line`` (width + 2 radius, 8), ``flags`` per chunk."""
    width, points = settings.width, settings.unary.shape[1]
    radius, lines = len(settings.across) - 1, points // settings.width
    above = (len(settings.down) - 1) * width
    entry = 0
    for y in range(lines):
        entry = _fill_line(group, y, count, entry, radius, settings, tables, line, flags)
        _along_line(8 * (above + y * width), width, radius, settings.across, tables.between, line, flags)
    _across_lines(group, count, above, settings, tables)


@inline
def _fill_line(group, y, count, entry, radius, settings, tables, line, flags):
    """The pixels of a line that send, zeros elsewhere; chunks of eight that hear of them are flagged."""
    width, points = settings.width, settings.unary.shape[1]
    place = 64 * group * tables.rows.shape[1]
    zero = filled(line, 0.0)
    for x in range(width + 2 * radius + 8):
        store(line, 8 * x, zero)
    chunks = (width + 7) // 8
    for chunk in range(chunks):
        put(flags, chunk, 0)
    first, end = y * width, (y + 1) * width
    while entry < count:
        start = 8 * at(tables.active, entry)
        if start >= end:
            break
        low, high = max(start, first), min(start + 8, end)
        for point in range(low, high):
            value = load(tables.rows, place + 64 * entry + 8 * (point - start))
            factor = spread_at(tables.factors, 2 * points + point)
            store(line, 8 * (radius + point - first), mul(factor, value))
        for chunk in range(
            max(0, low - first - radius) // 8, min(chunks - 1, (high - 1 - first + radius) // 8) + 1
        ):
            put(flags, chunk, 1)
        if start + 8 > end:
            break  # the rest of this block lies in the next line
        entry += 1
    return entry


@inline
def _along_line(where, width, radius, taps, between, line, flags):
    zero = filled(between, 0.0)
    for x in range(0, width, 8):
        if at(flags, x // 8) == 0 or x + 8 > width:
            for k in range(min(8, width - x)):
                total = zero
                if at(flags, x // 8) != 0:
                    for t in range(-radius, radius + 1):
                        total = fma(spread_at(taps, abs(t)), load(line, 8 * (x + radius + k + t)), total)
                store(between, where + 8 * (x + k), total)
            continue
        _eight(taps, radius, line, 8 * (x + radius), 8, between, where + 8 * x)


@inline
def _eight(taps, radius, source, place, stride, out, where):
    """Sums of eight pixels that lie side by side, whose neighbors lie ``stride`` apart."""
    a = b = c = d = e = f = g = h = filled(out, 0.0)
    for t in range(-radius, radius + 1):
        tap, row = spread_at(taps, abs(t)), place + t * stride
        a, b = fma(tap, load(source, row), a), fma(tap, load(source, row + 8), b)
        c, d = fma(tap, load(source, row + 16), c), fma(tap, load(source, row + 24), d)
        e, f = fma(tap, load(source, row + 32), e), fma(tap, load(source, row + 40), f)
        g, h = fma(tap, load(source, row + 48), g), fma(tap, load(source, row + 56), h)
    store(out, where, a)
    store(out, where + 8, b)
    store(out, where + 16, c)
    store(out, where + 24, d)
    store(out, where + 32, e)
    store(out, where + 40, f)
    store(out, where + 48, g)
    store(out, where + 56, h)


@inline
def _across_lines(group, count, above, settings, tables):
    points, width = settings.unary.shape[1], settings.width
    place, radius = 64 * group * tables.beside.shape[1], len(settings.down) - 1
    for entry in range(count):
        first, row = 8 * at(tables.active, entry), place + 64 * entry
        _eight(settings.down, radius, tables.between, 8 * (above + first), 8 * width, tables.beside, row)
        for k in range(min(8, points - first)):
            factor = spread_at(tables.factors, 3 * points + first + k)
            store(tables.beside, row + 8 * k, mul(factor, load(tables.beside, row + 8 * k)))
        for k in range(points - first, 8):
            store(tables.beside, row + 8 * k, filled(tables.beside, 0.0))


@making_arrays
def set_factors(settings, tables):
    """What senders and receivers multiply with, by the kernels' row sums; all blocks are active."""
    points = settings.unary.shape[1]
    one = spread(tables.factors.dtype.type(1))
    for place in range(4 * points):
        put(tables.factors, place, 1.0)
    if settings.normalization == 0:
        return
    for place in range(0, 64 * len(tables.active), 8):
        store(tables.rows, place, one)
    filter_active(0, len(tables.active), settings, tables)
    for point in range(points):
        _set_factors(0, point, at(tables.near, 8 * point), settings.normalization, tables.factors, points)
        if len(settings.sums) > 0:
            _set_factors(2, point, at(settings.sums, point), settings.normalization, tables.factors, points)


@inline
def _set_factors(row, point, row_sum, normalization, factors, points):
    inverse = 1 / (row_sum + _EPS)
    if normalization == 3:
        put(factors, row * points + point, np.sqrt(inverse))
        put(factors, (row + 1) * points + point, np.sqrt(inverse))
    elif normalization == 2:
        put(factors, row * points + point, inverse)
    else:
        put(factors, (row + 1) * points + point, inverse)
