"""Racing: points are dropped once a paired test over the images seen so far says that they cannot win.

All points see the images block by block, in one shuffled order. After every block but the last each point is
tested against the leader, the best on the images seen. The criterion is a score of summed counts, no mean
over images; its difference is therefore tested by the jackknife: with D the leader's score less the point's
on n images and D_i the same without image i,

    se^2 = (n - 1) / n  sum_i (D_i - mean D)^2  (1 - n / N).

The last factor is that of a sample of n out of N without replacement: what counts is the order on these N
images, and once all are seen nothing is left to chance. A point is dropped when D / se lies beyond Student's
t with n - 1 degrees of freedom at level ``racing / (points x tests)`` (Bonferroni): by the union bound a
round drops its best point with probability at most ``racing``, as far as the jackknife's t is one.

The race of Maron & Moore 1994 ("Hoeffding races"), with a paired test as in Moore & Lee 1994.
"""

from collections.abc import Callable, Sequence

from jaxtyping import Int
from scipy.special import stdtrit
from torch import Tensor

__all__ = ["BLOCKS", "LEAST", "blocks", "cannot_win"]

BLOCKS = 10  #: blocks of images in a race at most
LEAST = 10  #: images before the first test

_Score = Callable[[Tensor], Tensor]


def blocks(images: int, racing: float) -> list[tuple[int, int]]:
    """First and last + 1 image of each block: all in one without a race, else at most ten of equal size.

    No test is made on fewer than ten images.
    """
    if racing == 0:
        return [(0, images)]
    size = max(LEAST, -(-images // BLOCKS))
    return [(start, min(start + size, images)) for start in range(0, images, size)]


def cannot_win(
    leader: Int[Tensor, "n ..."],
    others: Sequence[Int[Tensor, "n ..."]],
    score: _Score,
    *,
    images: int,
    level: float,
) -> list[bool]:
    """Whether each of `others` is significantly worse than the leader.

    Args:
        leader: counts on each of the n images seen.
        others: the same of other points.
        score: (..., *counts) -> (...).
        images: N, of which n have been seen.
        level: one-sided error of each single test, in (0, 1).
    """
    n = len(leader)
    if n < 2:
        return [False] * len(others)
    bound = float(stdtrit(n - 1, 1 - level))
    leader = leader.long()
    ahead, ahead_without = score(leader.sum(0)), score(leader.sum(0) - leader)
    dropped = []
    for other in others:
        other = other.long()
        difference = ahead - score(other.sum(0))
        without = ahead_without - score(other.sum(0) - other)
        spread = (without - without.mean()).square().sum() * (n - 1) / n * (1 - n / images)
        # NaN, where the score is not defined, drops nothing; nor does no difference at all.
        dropped.append(bool((difference > 0) & (difference > bound * spread.sqrt())))
    return dropped
