"""What mean field with settling pixels reads, works in and returns, as tuples that compiled code takes."""

from typing import NamedTuple

import numpy as np

__all__ = ["Settings", "Tables"]


class Settings(NamedTuple):
    """Unary, kernels and weights of one image. A column is a label of a variant; a block, eight pixels."""

    unary: np.ndarray  #: (l, n)
    last: np.ndarray  #: (l, 8), the unary of the last block where n is no multiple of eight
    weights: np.ndarray  #: (variants, 2) of the lattice's messages and the grid's
    gain: float  #: the most that messages can add to a logit, nats
    cut: float  #: nats below the best at which a marginal counts as 0
    tolerance: float  #: the largest change of a marginal in a block that is settled
    limit: float  #: mean square that the directions may leave of the changes at a pixel
    delay: float  #: or what share of them, root mean square
    iterations: int
    normalization: int  #: 0 none, 1 after, 2 before, 3 symmetric
    corners: np.ndarray  #: int32 (n, d + 1)
    barycentric: np.ndarray  #: (n, d + 1)
    neighbors: np.ndarray  #: int32 (d + 1, corners, 2)
    alpha: float
    width: int  #: pixels of a line
    across: np.ndarray  #: (radius + 1,) taps along a line; none without the spatial kernel
    down: np.ndarray  #: likewise, across lines
    sums: np.ndarray  #: (n or 0,) row sums of the spatial kernel


class Tables(NamedTuple):
    """Memory to work in, and results. Active blocks are stored one behind another, as entries."""

    active: np.ndarray  #: int64 (blocks,), the block of every entry, ascending
    starts: np.ndarray  #: int64 (blocks,), where an entry's labels begin in ``names``
    counts: np.ndarray  #: int64 (blocks,), how many it has
    leads: np.ndarray  #: (l,), nats by which another label has to lead one so that this never counts
    names: np.ndarray  #: int32 (l blocks,), the labels that can count there
    logits: np.ndarray  #: (columns blocks, 8), of an entry's labels, variant by variant
    sent: np.ndarray  #: likewise, the marginals of which everybody knows
    change: np.ndarray  #: likewise, the marginals less ``sent``
    rows: np.ndarray  #: (groups, blocks, 64), what entries send: eight channels of each pixel
    near: np.ndarray  #: (groups, blocks, 64), messages of the lattice
    beside: np.ndarray  #: (groups, blocks, 64), messages of the grid
    vertices: np.ndarray  #: (2, corners + 1, 8)
    between: np.ndarray  #: (n + 2 radius lines + 8, 8), what lies between the grid's two axes
    factors: np.ndarray  #: (4, n): what senders and receivers of the lattice, then of the grid, multiply with
    gram: np.ndarray  #: float64 (l, l), of the marginals
    grams: np.ndarray  #: float64 (columns, columns), of the changes
    basis: np.ndarray  #: (l, 8 groups), directions of the marginals
    bases: np.ndarray  #: (columns, 8 groups), of the changes
    x: np.ndarray  #: (columns, 8), logits of one entry; likewise the next two
    q: np.ndarray
    s: np.ndarray
    behind: np.ndarray  #: (l, 8), see `shorten`
    places: np.ndarray  #: int64 (l,), likewise
    channels: np.ndarray  #: (2 groups or more, 8, 8)
    labels: np.ndarray  #: int32 (variants, 8 blocks), the answer
    trace: np.ndarray  #: int64 (steps, 2): entries that send, and groups of channels
