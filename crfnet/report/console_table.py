"""The numbers of a report as the last lines of a command."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import SupportsFloat

from crfnet.evaluation.bootstrap import Interval
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.evaluation.named_metrics import difference
from crfnet.report.arms import ArmResult, check_arms
from crfnet.report.explanations import coverage
from crfnet.report.metric_intervals import bands_with_pixels, few_images
from crfnet.report.numbers import number, percent, points
from crfnet.report.tables import BORDER_WIDTH, COSTS, measured_costs
from crfnet.report.trimap_names import band_name, band_notes

__all__ = ["console_table"]


def console_table(arms: Sequence[ArmResult], config: EvaluationConfig) -> str:
    """The result in a few lines of plain text: mIoU, its gain on the first arm with interval, trimaps, time.

    Of several seeds the means; the last line says over how many, and what the intervals cover. A column that
    has nothing to show for any arm is left out.

    Raises:
        InputError: the arms did not score the same images.
    """
    check_arms(arms)
    first = arms[0]
    bands = bands_with_pixels(first.evaluation)
    width = min(BORDER_WIDTH, first.evaluation.max_width)
    seeds = [[each.evaluation for each in arm.seeds] for arm in arms]
    columns = [
        ["arm", *(arm.name for arm in arms)],
        ["mIoU", *(percent(_mean(each.metrics(config.absent).miou for each in those)) for those in seeds)],
    ]
    if len(arms) > 1:
        few = few_images(arms)
        gains = [points(_gain(seeds[0], those, config, few=few)) for those in seeds[1:]]
        columns.append([f"minus {first.name}", "", *gains])
    for band in bands:
        inside = [
            _mean(each.trimap_metrics(band, config.absent).miou[width - 1] for each in those)
            for those in seeds
        ]
        columns.append([band_name(band, width), *map(percent, inside)])
    cost = "seconds_per_image"
    if cost in measured_costs(arms):
        columns.append([COSTS[cost], *(number(arm.cost(cost)) for arm in arms)])
    notes = [band_notes(bands, width), f"({coverage(arms)})"]
    return "\n".join([_aligned(columns), *filter(None, notes)])


def _aligned(columns: Sequence[Sequence[str]]) -> str:
    """Columns padded to equal width: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in zip(*columns, strict=True)
    )


def _mean(values: Iterable[SupportsFloat]) -> float:
    return fmean(map(float, values))


def _gain(
    first: Sequence[Evaluation], seeds: Sequence[Evaluation], config: EvaluationConfig, *, few: bool
) -> Interval:
    """In mIoU; of a few images without bounds."""
    found = difference(first, seeds, "miou", config, paired=True)
    return Interval(math.nan, math.nan, found.estimate) if few else found
