"""What one run of mean-field steps reads, works in and returns, as the tuples that compiled code takes."""

from typing import NamedTuple

import numpy as np

__all__ = ["BLOCKS", "PIECES", "Kernels", "Labels", "Scratch", "Tables"]

BLOCKS = 64  # of eight pixels, in a task
PIECES = 16  # in which the sample is taken; their number is fixed so that sums do not depend on threads


class Kernels(NamedTuple):
    """The kernels of an image: lattices first, then Gaussians of the grid."""

    corners: np.ndarray  #: int32, flat, of all lattices one after another; likewise the next two
    weights: np.ndarray
    neighbors: np.ndarray
    lattices: np.ndarray  #: int64 (lattices, 4): first entry, d + 1, first neighbor, corners
    alphas: np.ndarray  #: float64 (lattices,)
    shape: np.ndarray  #: int64 (3,), the grid
    radii: np.ndarray  #: int64 (grids, 3)
    taps: np.ndarray  #: (grids, 3, radius + 1)
    sums: np.ndarray  #: (grids, 3, longest axis), row sums along each axis
    normalizations: np.ndarray  #: int64 (kernels,): 0 none, 1 after, 2 before, 3 symmetric
    scales: np.ndarray  #: (kernels,), by which messages are multiplied
    slots: np.ndarray  #: int64 (kernels,), the table of messages to which each adds
    adds: np.ndarray  #: bool (kernels,), False for the first of a table


class Labels(NamedTuple):
    """Unary and weights. A column is a label of a variant."""

    unary: np.ndarray  #: (l, n)
    last: np.ndarray  #: (l, 8), the unary of the last block where n is no multiple of eight, else nothing
    inside: np.ndarray  #: (8 blocks,), 0 for pixels that do not count
    masked: bool  #: some pixel of a whole block does not count
    weights: np.ndarray  #: (tables, columns) of messages
    gains: np.ndarray  #: (columns,), the most that messages can add to a logit
    losses: np.ndarray  #: (columns,), the least that they add
    lowest: np.ndarray  #: (l,), the least of these of all variants
    variants: int
    cut: float  #: nats, see `softmax_block`
    limit: float  #: mean square that the projection may leave of a pixel; negative for no projection
    still: float  #: square that the change of a pixel may come to unsent; negative: every step sends all
    sample: int  #: blocks from which the basis is taken


class Tables(NamedTuple):
    """Memory to work in, and results."""

    rows: np.ndarray  #: (slots, 8 blocks, 8), see `first_sent`
    lattice: np.ndarray  #: (pieces or 2, corners + 1, 8)
    pieces: int  #: in which points are splatted
    between: np.ndarray  #: (1 or 2, n, 8)
    send: np.ndarray  #: (kernels, n), 1 at first
    receive: np.ndarray  #: likewise
    logits: np.ndarray  #: (l blocks, 8), the unary of labels that are possible in a block, block by block
    names: np.ndarray  #: int32 (l blocks,), which labels these are
    nearest: np.ndarray  #: (tasks, l), nats by which a label is behind the best one where it is nearest
    leads: np.ndarray  #: (columns,), nats by which another label has to lead one so that this never counts
    starts: np.ndarray  #: int64 (blocks,), the place of a block's first
    counts: np.ndarray  #: int64 (blocks,), how many it has
    basis: np.ndarray  #: (2, columns, 8 groups), of this step and of the one before
    support: np.ndarray  #: int64 (2, columns + 1): how many rows of the basis are not 0, then which
    supported: np.ndarray  #: bool (2, columns), the same
    minus: np.ndarray  #: (columns,), -1
    grams: np.ndarray  #: float64 (PIECES, columns, columns)
    chosen: np.ndarray  #: int64 (steps, 2): groups of channels by the sample, and by all pixels
    again: np.ndarray  #: bool (steps,), the sample was not enough
    active: np.ndarray  #: int64 (blocks,), 1 for those that send and hear in a step of few
    rest: np.ndarray  #: float64 (blocks, 2): sum and maximum over its pixels of the squares left unsent
    left: np.ndarray  #: float64 (steps, tasks, 3): sum and maximum of these; how many blocks are active
    out: np.ndarray  #: (columns, n), log marginals
    last: np.ndarray  #: (columns, 8), those of the last block
    stop: np.ndarray  #: bool (1,), True from anywhere ends the run before its next step


class Scratch(NamedTuple):
    """Memory of one thread, for eight pixels."""

    x: np.ndarray  #: (columns, 8), logits; only those of possible columns are set
    q: np.ndarray  #: (8 groups, 8), marginals; 0 between two blocks
    possible: np.ndarray  #: int64 (columns,)
    some: np.ndarray  #: int64 (columns,), possible columns that get messages
    active: np.ndarray  #: int64 (columns,), columns whose marginal is not 0
    messages: np.ndarray  #: (8, 8)
    channels: np.ndarray  #: (8 groups, 8)
    changes: np.ndarray  #: (8 groups, 8)
    sums: np.ndarray  #: (2, 8)
