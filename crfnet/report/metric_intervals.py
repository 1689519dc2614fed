"""Every metric of every arm and every difference of two arms, each with its bootstrap interval.

All arms are resampled on the same draws of images and of seeds, so a difference of draws is a paired
difference: the arms of one run all come from one network.

So few images as are less than `FEWEST_IMAGES` get no interval: one of a bootstrap over n images is about
1.96 sqrt((n - 1) / n) standard errors wide to either side, where Student's t of n - 1 degrees of freedom asks
for more. Of normally distributed differences it misses the true one in 40 % of cases for two images, in 15 %
for five, in 9.6 % for ten: from there on less than twice as often as the 5 % that it stands for.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor
from tqdm import tqdm

from crfnet.evaluation.bootstrap import (
    Interval,
    PerImage,
    PerSeed,
    Statistic,
    percentile_interval,
    resample_counts,
    resample_seeds,
    resampled_seeds,
    seeds_generator,
    seeds_score,
)
from crfnet.evaluation.confusion import Absent, tallies, tally_metrics
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.evaluation.named_metrics import named_metric
from crfnet.evaluation.trimap import BANDS, Band
from crfnet.report.arms import ArmResult, compared_pairs

__all__ = [
    "BOUNDARY",
    "FEWEST_IMAGES",
    "MEANS",
    "MetricIntervals",
    "bands_with_pixels",
    "class_metric",
    "difference_name",
    "few_images",
    "metric_intervals",
    "trimap_metric",
]

FEWEST_IMAGES = 10  #: of which a bootstrap's interval means something

#: (arm or "arm - other", metric) -> interval, of too few images without bounds (NaN)
#: metrics are fractions in 0..1, differences in -1..1
MetricIntervals: TypeAlias = dict[tuple[str, str], Interval]

MEANS = ("miou", "pixel_accuracy", "mean_accuracy")  #: of the whole image and of each trimap
BOUNDARY = ("boundary_iou", "boundary_f")


def few_images(arms: Sequence[ArmResult]) -> bool:
    """Whether the arms were scored on so few images that nothing can be said of others."""
    return len(arms[0].evaluation) < FEWEST_IMAGES


def bands_with_pixels(evaluation: Evaluation) -> tuple[Band, ...]:
    """The bands in which anything was scored; labels without void have no void band."""
    return tuple(band for band in BANDS if evaluation.trimap_tallies(band, evaluation.max_width).any())


def class_metric(class_name: str) -> str:
    """Name of a class's IoU."""
    return f"iou/{class_name}"


def trimap_metric(band: Band, metric: str, width: int) -> str:
    """Name of a metric inside the band of a width in pixels."""
    return f"trimap_{band}/{metric}@{width}"


def difference_name(arm: str, minus: str) -> str:
    """Name under which the difference of two arms is found."""
    return f"{arm} - {minus}"


def metric_intervals(
    arms: Sequence[ArmResult],
    class_names: Sequence[str],
    config: EvaluationConfig,
    wanted: Collection[str] | None = None,
) -> MetricIntervals:
    """Score the arms and their `compared_pairs`; the widths are those of the evaluations.

    Those of less than `FEWEST_IMAGES` images have no bounds. Given ``wanted``, only what is counted together
    with one of these metrics is scored.

    Metrics of an arm with several seeds are means over them, intervals those of `seeds_bootstrap`. Costs
    about draws x images x 3 classes multiplications per arm, seed and (band, width).
    """
    counts = resample_counts(len(arms[0].evaluation), config.draws, config.seed)
    weights = resample_seeds(len(arms[0].seeds), config.draws, seeds_generator(config.seed))
    intervals: MetricIntervals = {}
    blocks = zip(*(_seed_blocks(arm, class_names, config.absent) for arm in arms), strict=True)
    total = 1 + len(BOUNDARY) + len(bands_with_pixels(arms[0].evaluation)) * arms[0].evaluation.max_width
    for block in tqdm(blocks, "bootstrap", total, mininterval=0.5, leave=False, disable=wanted is not None):
        if wanted is not None and not set(wanted) & set(block[0][0]):
            continue
        estimates, samples = {}, {}
        for arm, (names, per_seed, statistic) in zip(arms, block, strict=True):
            estimates[arm.name] = seeds_score(per_seed, statistic)
            if few_images(arms):
                samples[arm.name] = estimates[arm.name].expand(1, -1) * math.nan
            else:
                samples[arm.name] = resampled_seeds(per_seed, statistic, counts, weights)
            _store(intervals, arm.name, names, estimates[arm.name], samples[arm.name])
        for arm_name, minus in compared_pairs([arm.name for arm in arms]):
            estimate, sample = (of[arm_name] - of[minus] for of in (estimates, samples))
            _store(intervals, difference_name(arm_name, minus), names, estimate, sample)
    return intervals


def _seed_blocks(
    arm: ArmResult, class_names: Sequence[str], absent: Absent
) -> Iterator[tuple[list[str], PerSeed, Statistic]]:
    """`_blocks` with the counts of all seeds of an arm."""
    for block in zip(*(_blocks(each.evaluation, class_names, absent) for each in arm.seeds), strict=True):
        names, _, statistic = block[0]
        yield names, torch.stack([per_image for _, per_image, _ in block]), statistic


def _blocks(
    evaluation: Evaluation, class_names: Sequence[str], absent: Absent
) -> Iterator[tuple[list[str], PerImage, Statistic]]:
    """(metric names, counts, sums of counts -> metrics) of the image, its borders, each band and width."""
    names = [*MEANS, *map(class_metric, class_names)]
    yield names, tallies(evaluation.confusion), partial(_statistic, columns=len(names), absent=absent)
    for name in BOUNDARY:
        what = named_metric(name, absent)
        yield [name], what.per_image(evaluation), partial(_column, statistic=what.statistic)
    means = partial(_statistic, columns=len(MEANS), absent=absent)
    for band in bands_with_pixels(evaluation):
        for width in range(1, evaluation.max_width + 1):
            names = [trimap_metric(band, metric, width) for metric in MEANS]
            yield names, evaluation.trimap_tallies(band, width), means


def _statistic(tallied: Tensor, columns: int, absent: Absent) -> Tensor:
    """The means, then the IoU of each class, as many as there are ``columns``."""
    found = tally_metrics(tallied, absent)
    means = torch.stack([getattr(found, name) for name in MEANS], -1)
    return torch.cat([means, found.per_class_iou], -1)[..., :columns]


def _column(sums: Tensor, statistic: Statistic) -> Tensor:
    return statistic(sums).unsqueeze(-1)


def _store(
    intervals: MetricIntervals, arm: str, names: Sequence[str], estimates: Tensor, samples: Tensor
) -> None:
    for column, name in enumerate(names):
        intervals[arm, name] = percentile_interval(estimates[column], samples[:, column])
