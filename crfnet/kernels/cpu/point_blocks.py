"""Points in blocks of sixteen near neighbors: values into blocks and back; which blocks are near which."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

from typing import NamedTuple

import numpy as np

from crfnet.kernels.cpu.arithmetic import any_above, fma, maximum, sub
from crfnet.kernels.cpu.atomics import claim, finish, wait
from crfnet.kernels.cpu.compile import kernel
from crfnet.kernels.cpu.vectors import at, filled, load, put, spread_at, store

__all__ = ["BLOCK", "SUMS", "PointBlocks", "copy_blocks", "find_near", "table_of", "write_block"]

BLOCK = 16  #: points of a block: two vectors
SUMS = 4  #: pairs of vectors that are summed at once: of four channels, or of four columns
_COPIES = 64  # blocks that a task copies


class PointBlocks(NamedTuple):
    """The points of a batch in blocks, image by image; some may come twice to fill up."""

    points: np.ndarray  #: (b, blocks, d, 16), C-contiguous: the features
    slots: np.ndarray  #: int32 (b, blocks, 16), each point's pixel in its image; -1 where it does not count
    low: np.ndarray  #: (b, d, blocks), filled up to a multiple of 8: the box of every block
    high: np.ndarray  #: like ``low``; a block that is to be left out has inf below and -inf above
    farthest: float  #: the ``|f_i - f_j|^2`` from which pairs are skipped, where all of two blocks are


def table_of(values: np.ndarray, blocks: PointBlocks) -> np.ndarray:
    """Room for values in blocks (b, blocks, channels, 16), all zeros."""
    channels = -(-values.shape[1] // SUMS) * SUMS
    return np.zeros((*blocks.slots.shape[:2], channels, BLOCK), values.dtype)


@kernel
def copy_blocks(counters, phase, values, slots, table):
    """One phase: (b, l, n) into blocks; 0 for a point that does not count."""
    _, labels, pixels = values.shape
    batch, blocks, channels, _ = table.shape
    tasks = (batch * blocks + _COPIES - 1) // _COPIES
    task = claim(counters, phase)
    while task < tasks:
        for block in range(task * _COPIES, min(batch * blocks, (task + 1) * _COPIES)):
            for c in range(labels):
                source, target = (block // blocks * labels + c) * pixels, (block * channels + c) * BLOCK
                for i in range(BLOCK):
                    slot = at(slots, block * BLOCK + i)
                    if slot >= 0:
                        put(table, target + i, at(values, source + slot))
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@kernel
def write_block(sums, slots, row, out, image):
    """The sums of a block to its pixels."""
    _, channels, pixels = out.shape
    for c in range(channels):
        target = (image * channels + c) * pixels
        for i in range(BLOCK):
            slot = at(slots, row * BLOCK + i)
            if slot >= 0:
                put(out, target + slot, at(sums, c * BLOCK + i))


@kernel
def find_near(low, high, image, block, farthest, gaps, near):
    """Lists the blocks of an image whose boxes are nearer than ``farthest``, squared; says how many."""
    _, dimensions, boxes = low.shape
    first, limit, zero = image * dimensions * boxes, filled(low, farthest), filled(low, 0.0)
    blocks, found = len(near), 0
    for start in range(0, boxes, 8):
        gap = zero
        for place in range(first, first + dimensions * boxes, boxes):
            above = sub(load(low, place + start), spread_at(high, place + block))
            below = sub(spread_at(low, place + block), load(high, place + start))
            away = maximum(maximum(above, below), zero)
            gap = fma(away, away, gap)
        if any_above(limit, gap):
            store(gaps, 0, gap)
            for i in range(8):
                if at(gaps, i) < farthest:
                    near[found] = image * blocks + start + i
                    found += 1
    return found
