"""Racing: points are eliminated once a paired test over the images seen so far says that they cannot win.

All points are evaluated block by block, in one shuffled order. After every block but the last each point is
tested against the leader, the best on the images seen. The criterion is a metric of summed counts, not a mean
over images; its difference is therefore tested by the jackknife: with D the leader's metric minus the point's
on n images and D_i the same without image i,

    se^2 = (n - 1) / n  sum_i (D_i - mean D)^2  (1 - n / N).

The last factor is the finite-population correction of a sample of n out of N: the ranking on these N images
is what matters, and once all are seen nothing is left to chance. A point is eliminated when D / se exceeds
the bound that the largest of its differences from all points, were none of them better, exceeds with
probability ``racing / tests``. Points of a grid are highly correlated, so that this bound lies far below
that of as many independent tests (Bonferroni). It is a quantile of simulated differences with the
jackknife's covariances (the multiplier bootstrap of Chernozhukov, Chetverikov & Kato 2013, "Gaussian
approximations and multiplier bootstrap for maxima of sums of high-dimensional random vectors"), taken from
the normal distribution to Student's t with n - 1 degrees of freedom. By the union bound over the tests a
round eliminates its best point with probability at most ``racing``, as far as the asymptotics hold for few
images.

The race of Maron & Moore 1994 ("Hoeffding races"), with a paired test as in Moore & Lee 1994.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from scipy.special import ndtr, stdtrit
from torch import Tensor

__all__ = ["MAX_BLOCKS", "MIN_IMAGES", "eliminated", "image_blocks"]

MAX_BLOCKS = 10  #: blocks of images in a race at most
MIN_IMAGES = 10  #: images before the first test
_NUM_SIMULATIONS = 4000  # the quantile at 0.05 / 9 has some 20 beyond it

_Metric = Callable[[Tensor], Tensor]


def image_blocks(num_images: int, racing: float) -> list[tuple[int, int]]:
    """(start, stop) of each block of images: one block without a race, else at most ten of equal size.

    No test is made on fewer than ten images.
    """
    if racing == 0:
        return [(0, num_images)]
    size = max(MIN_IMAGES, -(-num_images // MAX_BLOCKS))
    return [(start, min(start + size, num_images)) for start in range(0, num_images, size)]


def eliminated(
    counts: Sequence[Int[Tensor, "n ..."]], metric: _Metric, *, num_images: int, level: float
) -> list[bool]:
    """Whether each point is significantly worse than the leader, the best on the images seen.

    Args:
        counts: of every point in the race, on each of the n images seen.
        metric: (..., *counts) -> (...).
        num_images: N, of which n have been seen.
        level: probability that this test eliminates the best point, in (0, 1).
    """
    n = len(counts[0])
    if n < 2:
        return [False] * len(counts)
    metrics = torch.stack([metric(one.long().sum(0)) for one in counts])
    without = torch.stack([metric(one.long().sum(0) - one.long()) for one in counts])
    deviations = (without - without.mean(1, keepdim=True)).nan_to_num()
    # The same random numbers at every test and in every process.
    generator = torch.Generator().manual_seed(n)
    noise = torch.randn(_NUM_SIMULATIONS, n, dtype=deviations.dtype, generator=generator)
    simulated = deviations @ noise.mT
    leader = int(metrics.nan_to_num(-torch.inf).argmax())
    out = []
    for point in range(len(counts)):
        lead = float(metrics[leader] - metrics[point])
        size = (deviations[point] - deviations).square().sum(1).sqrt()
        if not lead > 0 or size[leader] == 0:  # NaN, a metric that is not defined, eliminates nothing either
            out.append(False)
            continue
        others = size > 0
        largest = ((simulated[point] - simulated[others]) / size[others].unsqueeze(1)).amax(0)
        bound = _student_quantile(float(largest.quantile(1 - level)), n - 1)
        out.append(lead > bound * float(size[leader]) * math.sqrt((n - 1) / n * (1 - n / num_images)))
    return out


def _student_quantile(quantile: float, degrees_of_freedom: int) -> float:
    """The quantile of Student's t that corresponds to a `quantile` of the normal distribution."""
    return float(stdtrit(degrees_of_freedom, ndtr(quantile)))
