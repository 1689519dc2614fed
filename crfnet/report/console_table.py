"""The numbers of a report as the last lines of a command."""

import math
from collections.abc import Sequence
from statistics import fmean

from crfnet.evaluation.bootstrap import Interval
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.evaluation.named_metrics import difference
from crfnet.report.arms import ArmResult, check_arms
from crfnet.report.explanations import coverage
from crfnet.report.metric_intervals import bands_with_pixels, few_images
from crfnet.report.numbers import number, percent, points
from crfnet.report.tables import BORDER_WIDTH, COSTS
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
    timed = any(not math.isnan(arm.cost("seconds_per_image")) for arm in arms)
    header = [
        "arm",
        "mIoU",
        *([f"minus {first.name}"] if len(arms) > 1 else []),
        *(band_name(band, width) for band in bands),
        *([COSTS["seconds_per_image"]] if timed else []),
    ]
    rows = []
    for arm in arms:
        seeds = [each.evaluation for each in arm.seeds]
        inside = [
            fmean(float(each.trimap_metrics(band, config.absent).miou[width - 1]) for each in seeds)
            for band in bands
        ]
        gain = _gain([each.evaluation for each in first.seeds], seeds, config, few=few_images(arms))
        rows.append(
            [
                arm.name,
                percent(fmean(float(each.metrics(config.absent).miou) for each in seeds)),
                *(["" if arm is first else points(gain)] if len(arms) > 1 else []),
                *map(percent, inside),
                *([number(arm.cost("seconds_per_image"))] if timed else []),
            ]
        )
    notes = [band_notes(bands, width), f"({coverage(arms)})"]
    return "\n".join([_aligned([header, *rows]), *filter(None, notes)])


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to equal width: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _gain(
    first: Sequence[Evaluation], seeds: Sequence[Evaluation], config: EvaluationConfig, *, few: bool
) -> Interval:
    """In mIoU; of a few images without bounds."""
    found = difference(first, seeds, "miou", config, paired=True)
    return Interval(math.nan, math.nan, found.estimate) if few else found
