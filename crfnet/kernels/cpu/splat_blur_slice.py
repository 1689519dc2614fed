"""Splat, blur and slice of some rows, and the phases in which threads filter one group of eight channels.

Splatting scatters: points add themselves to their corners' rows, which needs no second index and is faster
than gathering. Threads may not share a table then; so points come in pieces, one for each thread, and each
piece has a table of its own. Which thread takes which piece does not matter to the result.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

from crfnet.kernels.cpu.arithmetic import add, fma, mul
from crfnet.kernels.cpu.atomics import claim, finish, wait
from crfnet.kernels.cpu.channels import gather_channels, scatter_channels
from crfnet.kernels.cpu.compile import inline, kernel
from crfnet.kernels.cpu.vectors import at, filled, load, spread_at, store

__all__ = ["CHUNK", "filter_group", "filter_group_alone", "phases_of"]

CHUNK = 128  # points that `filter_group_alone` takes at a time
_ROWS = 2048  # corners of a task
_POINTS = 1024  # points of a task


def phases_of(size):
    """Phases of `filter_group`, at most; size is d + 1."""
    return size + 3


@kernel
def filter_group(
    counters, phase, lattice, alpha, transposed, send, receive, factors, values, place, tables, pieces, out,
    where, adds, few, active,
):  # fmt: skip
    """``out (+)= receive alpha S^T B_d .. B_0 S send values`` of one group; the number of the next phase.

    Args:
        counters: of the call.
        phase: number of the first phase.
        lattice: corners, weights, neighbors, each flat and at some place; d + 1; corners; points.
        alpha: factor of the whole.
        transposed: the axes in reverse order.
        send: of every point, from place ``factors`` on.
        receive: like ``send``.
        factors: place of this kernel's factors.
        values: rows of eight, from ``place`` on.
        place: of the first value.
        tables: (max(pieces, 2), corners + 1 or more, 8).
        pieces: in which points are splatted.
        out: rows of eight, from ``where`` on; may be ``values``.
        where: of the first result.
        adds: the result is added to what is there.
        few: points send and receive in blocks of eight, those that are ``active`` alone.
        active: (blocks,), not 0 for these.
    """
    corners, entries, weights, neighbors, axes, size, rows, points = lattice
    table = tables.shape[1] * 8
    task = claim(counters, phase)
    while task < pieces:
        first, last = points * task // pieces, points * (task + 1) // pieces
        _clear(tables, table * task, rows)
        if pieces == 1:
            _clear(tables, table + 8 * rows, 0)
        _splat_some(
            first, last, corners, weights, entries, size, send, factors, values, place, tables, table * task,
            few, active,
        )  # fmt: skip
        task = finish(counters, phase)
    phase = wait(counters, phase, pieces)
    tasks = (rows + _ROWS - 1) // _ROWS
    if pieces > 1:
        task = claim(counters, phase)
        while task < tasks:
            _merge(task * _ROWS, min(rows, (task + 1) * _ROWS), tables, table, pieces)
            task = finish(counters, phase)
        phase = wait(counters, phase, tasks)
    source, target = 0, table
    for i in range(size):
        axis = size - 1 - i if transposed else i
        task = claim(counters, phase)
        while task < tasks:
            first, last = task * _ROWS, min(rows, (task + 1) * _ROWS)
            _blur(first, last, neighbors, axes + 2 * rows * axis, tables, source, target)
            task = finish(counters, phase)
        phase = wait(counters, phase, tasks)
        source, target = target, source
    tasks = (points + _POINTS - 1) // _POINTS
    task = claim(counters, phase)
    while task < tasks:
        first, last = task * _POINTS, min(points, (task + 1) * _POINTS)
        _slice_some(
            first, last, corners, weights, entries, size, alpha, receive, factors, tables, source, out, where,
            adds, few, active,
        )  # fmt: skip
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@kernel
def filter_group_alone(
    lattice, transposed, send, receive, factors, values, place, few, tables, first, rows, out
):  # fmt: skip
    """The same for one group in this thread alone, from values as they came to values as they go.

    Args:
        lattice: as of `filter_group`.
        transposed: the axes in reverse order.
        send: of every point, from place ``factors`` on.
        receive: like ``send``.
        factors: place of this image's factors.
        values: (b, l, n).
        place: of the first value of the group, in ``values`` and ``out``.
        few: channels of the group.
        tables: (tables, corners + 1 or more, 8); two of them belong to this thread.
        first: the first of these.
        rows: (CHUNK, 8) of this thread.
        out: like ``values``.
    """
    corners, entries, weights, neighbors, axes, size, count, points = lattice
    source, target = tables.shape[1] * 8 * first, tables.shape[1] * 8 * (first + 1)
    _clear(tables, source, count)
    _clear(tables, target + 8 * count, 0)
    for start in range(0, points, CHUNK):
        end = min(points, start + CHUNK)
        gather_channels(values, place + start, points, few, end - start, rows, 0)
        _splat(start, end, corners, weights, entries, size, send, factors, rows, -8 * start, tables, source)
    for i in range(size):
        axis = size - 1 - i if transposed else i
        _blur(0, count, neighbors, axes + 2 * count * axis, tables, source, target)
        source, target = target, source
    alpha = 1 / (1 + 2.0 ** (1 - size))
    for start in range(0, points, CHUNK):
        end = min(points, start + CHUNK)
        _slice(
            start, end, corners, weights, entries, size, alpha, receive, factors, tables, source, rows,
            -8 * start, False,
        )  # fmt: skip
        scatter_channels(rows, 0, end - start, out, place + start, points, few)


@inline
def _clear(table, place, rows):
    """Rows 0 .. ``rows``; the last stands for corners that do not exist, and stays 0."""
    zero = filled(table, 0.0)
    for row in range(rows + 1):
        store(table, place + 8 * row, zero)


@inline
def _splat_some(
    first, last, corners, weights, entries, size, send, factors, values, place, table, start, few, active
):  # fmt: skip
    if not few:
        _splat(first, last, corners, weights, entries, size, send, factors, values, place, table, start)
        return
    for block in range(first // 8, (last + 7) // 8):
        if at(active, block) != 0:
            low, high = max(first, 8 * block), min(last, 8 * block + 8)
            _splat(low, high, corners, weights, entries, size, send, factors, values, place, table, start)


@inline
def _slice_some(
    first, last, corners, weights, entries, size, alpha, receive, factors, table, start, out, where, adds,
    few, active,
):  # fmt: skip
    if not few:
        _slice(
            first, last, corners, weights, entries, size, alpha, receive, factors, table, start, out, where,
            adds,
        )  # fmt: skip
        return
    for block in range(first // 8, (last + 7) // 8):
        if at(active, block) != 0:
            _slice(
                8 * block, min(last, 8 * block + 8), corners, weights, entries, size, alpha, receive, factors,
                table, start, out, where, adds,
            )  # fmt: skip


@inline
def _splat(first, last, corners, weights, entries, size, send, factors, values, place, table, start):
    for point in range(first, last):
        value = mul(spread_at(send, factors + point), load(values, place + 8 * point))
        for entry in range(entries + point * size, entries + (point + 1) * size):
            row = start + 8 * at(corners, entry)
            store(table, row, fma(spread_at(weights, entry), value, load(table, row)))


@inline
def _merge(first, last, tables, table, pieces):
    for place in range(8 * first, 8 * last, 8):
        total = load(tables, place)
        for piece in range(1, pieces):
            total = add(total, load(tables, table * piece + place))
        store(tables, place, total)


@inline
def _blur(first, last, neighbors, axis, tables, source, target):
    half = filled(tables, 0.5)
    for row in range(first, last):
        right = load(tables, source + 8 * at(neighbors, axis + 2 * row))
        left = load(tables, source + 8 * at(neighbors, axis + 2 * row + 1))
        store(tables, target + 8 * row, fma(half, add(right, left), load(tables, source + 8 * row)))


@inline
def _slice(
    first, last, corners, weights, entries, size, alpha, receive, factors, table, start, out, where, adds
):  # fmt: skip
    scale = filled(table, alpha)
    for point in range(first, last):
        total = filled(table, 0.0)
        for entry in range(entries + point * size, entries + (point + 1) * size):
            total = fma(spread_at(weights, entry), load(table, start + 8 * at(corners, entry)), total)
        total = mul(total, mul(scale, spread_at(receive, factors + point)))
        row = where + 8 * point
        store(out, row, add(total, load(out, row)) if adds else total)
