"""What the rules of the verdict look at, taken from arms and intervals."""

from collections.abc import Sequence

from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.evaluation.trimap import Band
from crfnet.report.arms import ArmResult
from crfnet.report.metric_intervals import (
    MetricIntervals,
    bands_with_pixels,
    metric_intervals,
    trimap_metric,
)
from crfnet.report.tables import BORDER_WIDTH
from crfnet.report.verdict import Costs, Results, Verdict, decide

__all__ = ["border_band", "early_verdict", "results_of"]


def border_band(evaluation: Evaluation) -> Band | None:
    """The band of more pixels near the borders: labels with void ribbons have few borders without."""
    width = min(BORDER_WIDTH, evaluation.max_width)
    bands = bands_with_pixels(evaluation)
    pixels = {band: int(evaluation.trimap_tallies(band, width)[..., 1].sum()) for band in bands}
    return max(bands, key=lambda band: pixels[band], default=None)


def results_of(arms: Sequence[ArmResult], intervals: MetricIntervals, class_names: Sequence[str]) -> Results:
    """What the rules of the verdict look at."""
    first = arms[0].evaluation
    width, band = min(BORDER_WIDTH, first.max_width), border_band(first)
    costs = {
        arm.name: Costs(
            seconds=arm.cost("seconds_per_image"),
            cpu_seconds=arm.cost("cpu_seconds_per_image"),
            train_seconds=arm.cost("train_seconds"),
            search_seconds=arm.cost("search_seconds"),
            peak_mb=arm.cost("peak_memory_mb"),
            load=arm.cost("machine_load"),
        )
        for arm in arms
    }
    return Results(
        names=[arm.name for arm in arms],
        intervals=intervals,
        class_names=class_names,
        border=None if band is None else trimap_metric(band, "miou", width),
        border_width=width,
        border_band=band or "change",
        seen={arm.name: arm.seen for arm in arms if arm.seen != 0},
        images=len(first),
        seeds=len(arms[0].seeds),
        costs=costs,
    )


def early_verdict(arms: Sequence[ArmResult], config: EvaluationConfig) -> Verdict:
    """The verdict of the report, from the two metrics alone that decide it: before the long bootstrap."""
    band, width = border_band(arms[0].evaluation), min(BORDER_WIDTH, arms[0].evaluation.max_width)
    wanted = ["miou"] if band is None else ["miou", trimap_metric(band, "miou", width)]
    return decide(results_of(arms, metric_intervals(arms, (), config, wanted), ()))
