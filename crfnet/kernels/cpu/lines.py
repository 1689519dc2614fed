"""Lines of pixels with zeros around them, (image, line, channel, pixel), for windows of a pixel grid.

The zeros stand for pixels that do not exist, and the lines of all channels that a window reads lie side by
side.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

from collections.abc import Sequence

import numpy as np

from crfnet.kernels.cpu.atomics import claim, finish, wait
from crfnet.kernels.cpu.compile import inline, kernel
from crfnet.kernels.cpu.vectors import at, load, put, store

__all__ = ["PIXELS", "SUMS", "around", "copy_lines", "lines_of", "store_pair", "window_of", "write_block"]

PIXELS = 16  #: of a block: two vectors
SUMS = 4  #: pairs of vectors that are summed at once: of four channels, or of four neighbors


def window_of(grid: Sequence[int], radius: int) -> tuple[np.ndarray, np.ndarray]:
    """The sizes of three axes, and how far the window reaches along each."""
    shape = np.array([1] * (3 - len(grid)) + list(grid), np.int64)
    return shape, np.minimum(shape - 1, radius)


def lines_of(x: np.ndarray, shape: np.ndarray, reaches: np.ndarray) -> np.ndarray:
    """Room for x in lines (b, lines, channels, pixels), all zeros.

    A line has the window's reach before and behind it, blocks of pixels are filled up, and it takes an odd
    number of cache lines, so that neighbors above one another do not compete for one place in the cache.
    """
    wide = -(-int(shape[2]) // PIXELS) * PIXELS + 2 * int(reaches[2]) + SUMS
    pitch = (-(-wide // 16) | 1) * 16
    channels = -(-x.shape[1] // SUMS) * SUMS
    return np.zeros((len(x), int(shape[0] * shape[1]), channels, pitch), x.dtype)


@inline
def around(place, reach, size):
    """The places up to a reach away that an axis of this size has."""
    return range(max(0, place - reach), min(size, place + reach + 1))


@kernel
def copy_lines(counters, phase, source, width, reach, table):
    """One phase: (b, c, n) into lines, whose first pixel comes after the reach."""
    channels, (batch, lines, room, pitch) = source.shape[1], table.shape
    tasks = batch * lines
    task = claim(counters, phase)
    while task < tasks:
        for c in range(channels):
            read = (task // lines * channels + c) * lines * width + task % lines * width
            write = (task * room + c) * pitch + reach
            done = 0
            while done + 8 <= width:
                store(table, write + done, load(source, read + done))
                done += 8
            for x in range(done, width):
                put(table, write + x, at(source, read + x))
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@inline
def store_pair(rows, place, x, x_2):
    """Sixteen numbers."""
    store(rows, place, x)
    store(rows, place + 8, x_2)


@kernel
def write_block(sums, channels, out, image, pixels, place, some):
    """The first pixels of a block to where they belong in (b, c, n)."""
    for c in range(channels):
        to = (image * channels + c) * pixels + place
        if some == PIXELS:
            store_pair(out, to, load(sums, c * PIXELS), load(sums, c * PIXELS + 8))
        else:
            for i in range(some):
                put(out, to + i, at(sums, c * PIXELS + i))
