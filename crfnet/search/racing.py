"""Racing: points are dropped once a paired test over the images seen so far says that they cannot win.

All points see the images block by block, in one shuffled order. After every block but the last each point is
tested against the leader, the best on the images seen. The criterion is a score of summed counts, no mean
over images; its difference is therefore tested by the jackknife: with D the leader's score less the point's
on n images and D_i the same without image i,

    se^2 = (n - 1) / n  sum_i (D_i - mean D)^2  (1 - n / N).

The last factor is that of a sample of n out of N without replacement: what counts is the order on these N
images, and once all are seen nothing is left to chance. A point is dropped when D / se is more than chance
would give it: than the largest of its differences from all points reaches, were none of them better, with
probability ``racing / tests``. Points of a grid rise and fall together, so that this bound lies far below
that of as many independent tests (Bonferroni). It is a quantile of simulated differences with the
jackknife's covariances (the multiplier bootstrap of Chernozhukov, Chetverikov & Kato 2013, "Gaussian
approximations and multiplier bootstrap for maxima of sums of high-dimensional random vectors"), taken from
the normal distribution to Student's t with n - 1 degrees of freedom. By the union bound over the tests a
round drops its best point with probability at most ``racing``, as far as few images behave like many.

The race of Maron & Moore 1994 ("Hoeffding races"), with a paired test as in Moore & Lee 1994.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from scipy.special import ndtr, stdtrit
from torch import Tensor

__all__ = ["BLOCKS", "LEAST", "blocks", "eliminated"]

BLOCKS = 10  #: blocks of images in a race at most
LEAST = 10  #: images before the first test
_DRAWS = 4000  # of the simulation: the quantile at 0.05 / 9 has some 20 beyond it

_Score = Callable[[Tensor], Tensor]


def blocks(images: int, racing: float) -> list[tuple[int, int]]:
    """First and last + 1 image of each block: all in one without a race, else at most ten of equal size.

    No test is made on fewer than ten images.
    """
    if racing == 0:
        return [(0, images)]
    size = max(LEAST, -(-images // BLOCKS))
    return [(start, min(start + size, images)) for start in range(0, images, size)]


def eliminated(
    counts: Sequence[Int[Tensor, "n ..."]], score: _Score, *, images: int, level: float
) -> list[bool]:
    """Whether each point is significantly worse than the leader, the best on the images seen.

    Args:
        counts: of every point in the race, on each of the n images seen.
        score: (..., *counts) -> (...).
        images: N, of which n have been seen.
        level: chance that this test drops the best point, in (0, 1).
    """
    n = len(counts[0])
    if n < 2:
        return [False] * len(counts)
    scores = torch.stack([score(one.long().sum(0)) for one in counts])
    without = torch.stack([score(one.long().sum(0) - one.long()) for one in counts])
    deviations = (without - without.mean(1, keepdim=True)).nan_to_num()
    # The same draws at every test and in every process.
    draws = torch.randn(_DRAWS, n, dtype=deviations.dtype, generator=torch.Generator().manual_seed(n))
    simulated = deviations @ draws.mT
    leader = int(scores.nan_to_num(-torch.inf).argmax())
    lost = []
    for point in range(len(counts)):
        ahead = float(scores[leader] - scores[point])
        size = (deviations[point] - deviations).square().sum(1).sqrt()
        if not ahead > 0 or size[leader] == 0:  # NaN, a score that is not defined, drops nothing either
            lost.append(False)
            continue
        others = size > 0
        largest = ((simulated[point] - simulated[others]) / size[others].unsqueeze(1)).amax(0)
        bound = _to_student(float(largest.quantile(1 - level)), n - 1)
        lost.append(ahead > bound * float(size[leader]) * math.sqrt((n - 1) / n * (1 - n / images)))
    return lost


def _to_student(quantile: float, freedom: int) -> float:
    """That quantile of Student's t which the normal distribution has at `quantile`."""
    return float(stdtrit(freedom, ndtr(quantile)))
