"""Where points are in the permutohedral lattice: simplices, barycentric weights, and numbers of corners.

Adams, Baek & Davis 2010, section 3; the derivation is in ``crfnet/crf/README.md``, the same as readable loops
in `crfnet.crf.reference.permutohedral_matrix`. A corner has a code that is linear in its coordinates, so
that a step along a lattice axis adds one number to it. Corners are numbered in the order of their codes, in
which the first feature counts most: those that are near in memory are near in the image, and the blur finds
them in caches, whatever the order in which threads found them.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

import numpy as np

from crfnet.kernels.cpu.arithmetic import add, fma, less, mul, rint, sub
from crfnet.kernels.cpu.atomics import added, claim, exchanged, finish, read, wait
from crfnet.kernels.cpu.compile import entry, inline
from crfnet.kernels.cpu.vectors import at, filled, load, put, store

__all__ = ["CHUNK", "EMPTY", "insert_points", "number_corners"]

CHUNK = 512  # points of a task
EMPTY = -(2**63)  # what a free slot of the hash table holds; no corner's code
_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads neighboring codes


@entry
def insert_points(thread, threads, counters, features, places, slots, weights, table, shift, found):
    """Finds each point's simplex; its corners' codes go into a hash table.

    Args:
        thread: number of this thread.
        threads: how many there are.
        counters: for 1 phase.
        features: (b, d, width), width >= 8, of which the first ``len(slots) / b`` count.
        places: int64 (3, d + 1) and more: `crfnet.kernels.cpu.lattice._places`.
        slots: int32 (points, d + 1), where in the table each corner is.
        weights: (points, d + 1), barycentric.
        table: int64 (2^k,) codes, all EMPTY at first.
        shift: 64 - k.
        found: int64 (2,): corners in the table; how many are too many: then slots are of no use.
    """
    batch, dimensions, width = features.shape
    size, pixels = dimensions + 1, len(slots) // batch
    chunks = (pixels + CHUNK - 1) // CHUNK
    rows = np.empty((3 * size, 8), features.dtype)
    falling, step_of_rank = np.empty(size, features.dtype), np.empty(size, np.int64)
    task = claim(counters, 0)
    while task < batch * chunks:
        image, first = task // chunks, task % chunks * CHUNK
        last, fresh = min(pixels, first + CHUNK), 0
        if read(found, 0) > found[1]:
            last = first
        for pixel in range(first, last, 8):
            start = min(pixel, width - 8)
            _locate(features, image * dimensions * width + start, width, dimensions, rows)
            for lane in range(pixel - start, min(8, last - start)):
                point = (image * pixels + start + lane) * size
                code = _read_lane(rows, lane, size, places, falling, step_of_rank) + image * places[2, 0]
                put(weights, point, 1 + at(falling, size - 1) - at(falling, 0))
                for k in range(size):
                    slot, new = _slot(table, shift, code)
                    fresh += new
                    put(slots, point + k, slot)
                    if k + 1 < size:
                        code += at(step_of_rank, size - 1 - k)
                        fall = at(falling, size - 2 - k) - at(falling, size - 1 - k)
                        put(weights, point + k + 1, fall)
        added(found, 0, fresh)
        task = finish(counters, 0)
    wait(counters, 0, batch * chunks)


@inline
def _locate(features, place, width, dimensions, rows):
    """Of eight points: rows 0.. of the base, size.. of the ranks, 2 size.. of the rest above the base."""
    size = dimensions + 1
    rank, rest = 8 * size, 16 * size
    above = filled(rows, 0.0)
    for i in range(dimensions, 0, -1):  # elevated, in the rows of the rest
        scaled = mul(load(features, place + (i - 1) * width), filled(rows, np.sqrt(2 / 3 / (i * (i + 1)))))
        # Rounded twice, as in torch: far from 0 both then place a point alike.
        store(rows, rest + 8 * i, sub(above, mul(scaled, filled(rows, float(i)))))
        above = add(above, scaled)
    store(rows, rest, above)
    excess = filled(rows, 0.0)
    for i in range(size):
        elevated = load(rows, rest + 8 * i)
        base = rint(elevated)
        excess = add(excess, base)
        store(rows, 8 * i, base)
        store(rows, rest + 8 * i, sub(elevated, base))
    for i in range(size):  # rank: how many rests are larger; of equal ones the first is
        mine, above = load(rows, rest + 8 * i), excess
        for j in range(size):
            if j < i:
                above = add(above, sub(filled(rows, 1.0), less(load(rows, rest + 8 * j), mine)))
            elif j > i:
                above = add(above, less(mine, load(rows, rest + 8 * j)))
        store(rows, rank + 8 * i, above)
    for i in range(size):  # a base that sums to s > 0 lowers the s coordinates of lowest rest
        mine = load(rows, rank + 8 * i)
        raised = sub(less(mine, filled(rows, 0.0)), less(filled(rows, dimensions + 0.0), mine))
        store(rows, rank + 8 * i, fma(raised, filled(rows, size + 0.0), mine))
        store(rows, 8 * i, add(load(rows, 8 * i), raised))
        store(rows, rest + 8 * i, sub(load(rows, rest + 8 * i), raised))


@inline
def _read_lane(rows, lane, size, places, falling, step_of_rank):
    """The code of a point's corner 0; its rests in falling order, and the step that each rank takes."""
    code, before = 0, 0
    for i in range(size):
        rank = int(at(rows, 8 * (size + i) + lane))
        put(falling, rank, at(rows, 8 * (2 * size + i) + lane))
        put(step_of_rank, rank, at(places, size + i))
        base = int(at(rows, 8 * i + lane))
        if i > 0:
            code += (before - base) * at(places, i - 1)
        before = base
    return code - at(places, size - 1)


@inline
def _slot(table, shift, code):
    """The slot that holds a code, put there where it is new; and 1 for a new one, else 0."""
    slot, last = _first_slot(shift, code), len(table) - 1
    while True:
        there = at(table, slot)
        if there == EMPTY:
            there = exchanged(table, slot, np.int64(EMPTY), np.int64(code))
            if there == EMPTY:
                return slot, 1
        if there == code:
            return slot, 0
        slot = (slot + 1) & last


@inline
def _first_slot(shift, code):
    return np.int64((np.uint64(code) * _ODD) >> np.uint64(shift))


@inline
def _found(table, shift, code):
    """The slot that holds a code, or the empty one that ends the search."""
    slot, last = _first_slot(shift, code), len(table) - 1
    while True:
        there = at(table, slot)
        if there == EMPTY:
            return slot, False
        if there == code:
            return slot, True
        slot = (slot + 1) & last


@entry
def number_corners(thread, threads, counters, codes, steps, table, shift, numbers, corners, neighbors):
    """Numbers the corners in the order of their codes, and finds each one's neighbors.

    Args:
        thread: number of this thread.
        threads: how many there are.
        counters: for 2 phases.
        codes: (corners,) ascending.
        steps: (d + 1,), what a step along each axis adds to a code.
        table: as `insert_points` left it.
        shift: of the table.
        numbers: int32, like the table; overwritten.
        corners: int32 (points, d + 1): slots become numbers.
        neighbors: int32 (d + 1, corners, 2), the right one and the left one; at first all ``corners``, which
            stands for one that does not exist.
    """
    part = 8 * CHUNK
    parts = (len(codes) + part - 1) // part
    task = claim(counters, 0)
    while task < parts:
        for number in range(task * part, min(len(codes), (task + 1) * part)):
            put(numbers, _found(table, shift, at(codes, number))[0], number)
        task = finish(counters, 0)
    wait(counters, 0, parts)
    entries = corners.size
    pieces, searches = (entries + 4 * part - 1) // (4 * part), parts * len(steps)
    task = claim(counters, 1)
    while task < searches + pieces:
        if task < searches:
            first, axis = task // len(steps) * part, task % len(steps)
            _search(codes, steps[axis], neighbors, axis, first, part)
        else:
            first = (task - searches) * 4 * part
            for entry in range(first, min(entries, first + 4 * part)):
                put(corners, entry, at(numbers, at(corners, entry)))
        task = finish(counters, 1)
    wait(counters, 1, searches + pieces)


@inline
def _search(codes, step, neighbors, axis, first, part):
    """The neighbors along an axis of some corners: codes ascend, so those of their neighbors do too."""
    start, size = axis * len(codes), len(codes)
    before, place = np.int64(0), -1
    for number in range(first, min(size, first + part)):
        # Hashed codes go beyond 2^63 and begin again, which is defined for unsigned numbers alone.
        code = np.int64(np.uint64(at(codes, number)) + np.uint64(step))
        if place < 0 or code < before:
            place = _first_from(codes, code)
        before = code
        while place < size and at(codes, place) < code:
            place += 1
        if place < size and at(codes, place) == code:
            put(neighbors, 2 * (start + number), place)
            put(neighbors, 2 * (start + place) + 1, number)


@inline
def _first_from(codes, code):
    """The place of the first code that is not below ``code``."""
    low, high = 0, len(codes)
    while low < high:
        middle = (low + high) // 2
        if at(codes, middle) < code:
            low = middle + 1
        else:
            high = middle
    return low
