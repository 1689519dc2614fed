"""The numbers of a report as tables and CSV."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from crfnet.evaluation.bootstrap import Interval
from crfnet.evaluation.trimap import Band
from crfnet.files import csv_text
from crfnet.report.arms import ArmResult, compared_pairs
from crfnet.report.document import Block, Folded, Table, arm_label, plain
from crfnet.report.explanations import coverage
from crfnet.report.metric_intervals import (
    BOUNDARY,
    MEANS,
    MetricIntervals,
    bands_with_pixels,
    class_metric,
    difference_name,
    few_images,
    trimap_metric,
)
from crfnet.report.numbers import number, percent, points, signed, with_range
from crfnet.report.trimap_names import band_name, band_notes, breakable

__all__ = [
    "BORDER_WIDTH",
    "COSTS",
    "SHOWN_WIDTHS",
    "class_table",
    "cost_table",
    "crf_table",
    "difference_table",
    "fact_table",
    "fold_columns",
    "measured_costs",
    "metric_table",
    "metrics_csv",
    "shown_metrics",
]

BORDER_WIDTH = 3  #: pixels from a border that are called near it where one width speaks for all
SHOWN_WIDTHS = (BORDER_WIDTH, 5, 10)  #: trimap widths of the tables, pixels; the curves and the CSV have all

TITLES = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel acc.",
    "mean_accuracy": "mean acc.",
    "boundary_iou": "Boundary IoU",
    "boundary_f": "boundary F",
}
COSTS = {
    "seconds_per_image": "s / image",
    "cpu_seconds_per_image": "processor s / image",
    "peak_memory_mb": "peak MiB",
    "train_seconds": "training s",
    "search_seconds": "search s",
}


def shown_metrics(bands: Sequence[Band], max_width: int) -> dict[str, str]:
    """Metric name -> column title of the main tables; only bands that hold pixels should be given."""
    columns = {name: TITLES[name] for name in (*MEANS, *BOUNDARY)}
    for band in bands:
        for width in SHOWN_WIDTHS:
            if width <= max_width:
                columns[trimap_metric(band, "miou", width)] = band_name(band, width)
    return columns


def metric_table(arms: Sequence[ArmResult], intervals: MetricIntervals, columns: Mapping[str, str]) -> Table:
    """One row per arm: the metrics in percent with intervals; the best of each is bold."""
    told = len(arms) > 1 and not few_images(arms)
    best = {metric: max(intervals[arm.name, metric].estimate for arm in arms) for metric in columns}
    rows = []
    for arm in arms:
        found = {metric: intervals[arm.name, metric] for metric in columns}
        shown = [
            _bold(percent(i.estimate), told and i.estimate == best[m]) + with_range(i).replace(" ", "\n", 1)
            for m, i in found.items()
        ]
        rows.append([arm_label(arm.name), *shown])
    bands = bands_with_pixels(arms[0].evaluation)
    note = "; ".join(filter(None, (band_notes(bands, "w"), coverage(arms))))
    return Table("Scores of the arms", ["arm", *map(breakable, columns.values())], rows, note=note)


def cost_table(arms: Sequence[ArmResult]) -> Table:
    """One row per arm: what it costs, as far as it was measured for any of them."""
    known = measured_costs(arms)
    rows = [[arm_label(arm.name), *(number(arm.cost(cost)) for cost in known)] for arm in arms]
    return Table("Costs of the arms", ["arm", *(COSTS[cost] for cost in known)], rows)


def measured_costs(arms: Sequence[ArmResult]) -> list[str]:
    """Those of `COSTS` that were measured for any arm."""
    return [cost for cost in COSTS if any(not math.isnan(arm.cost(cost)) for arm in arms)]


def fold_columns(table: Table, matters: Sequence[str]) -> list[Block]:
    """The table with the columns that matter, in their order, and the others on request.

    The rows' headings are in both. Line ends in headings make no difference.
    """
    titles = {title.replace("\n", " "): i for i, title in enumerate(table.header) if i}
    shown = [0, *(titles[title] for title in matters if title in titles)]
    rest = [0, *(i for i in titles.values() if i not in shown)]
    if len(rest) == 1:
        return [table]

    def part(columns: Sequence[int]) -> Table:
        rows = [[row[i] for i in columns] for row in table.rows]
        return replace(table, header=[table.header[i] for i in columns], rows=rows)

    others = part(rest)
    summary = ", ".join(title.replace("`", "").replace("\n", " ") for title in others.header[1:])
    if len(shown) == 1:
        return [Folded(f"{table.caption}: {summary}", [table])]
    more = replace(others, caption=f"{table.caption}, more columns", note="")
    return [part(shown), Folded(f"More columns: {summary}", [more])]


def difference_table(
    arms: Sequence[ArmResult], intervals: MetricIntervals, columns: Mapping[str, str]
) -> Table:
    """One row per compared pair: difference in points with its interval, bold where that excludes 0."""
    rows = []
    for arm, minus in compared_pairs([arm.name for arm in arms]):
        found = [intervals[difference_name(arm, minus), metric] for metric in columns]
        rows.append([_broken_difference(arm, minus), *map(_points, found)])
    header = ["difference", *map(breakable, columns.values())]
    return Table("Differences of the arms", header, rows, note=coverage(arms))


def class_table(arms: Sequence[ArmResult], intervals: MetricIntervals, class_names: Sequence[str]) -> Table:
    """One row per class: IoU of each arm in percent, then the differences in points, bold if sure."""
    names = [arm.name for arm in arms]
    pairs = compared_pairs(names)
    rows = []
    for class_name in class_names:
        metric = class_metric(class_name)
        changes = [intervals[difference_name(*pair), metric] for pair in pairs]
        rows.append(
            [
                plain(class_name),
                *(percent(intervals[name, metric].estimate) for name in names),
                *(_bold(signed(change.estimate), change.excludes_zero) for change in changes),
            ]
        )
    header = ["class", *map(arm_label, names), *(_broken_difference(*pair) for pair in pairs)]
    return Table("IoU of each class", header, rows, note=coverage(arms))


def crf_table(arms: Sequence[ArmResult]) -> Table:
    """One row per arm with a CRF, and per seed where there are several; one column per parameter."""
    using = {
        arm_label(arm.name) + (f", {label}" if arm.repeats else ""): each.crf
        for arm in arms
        for label, each in zip(arm.seed_labels, arm.seeds, strict=True)
        if each.crf is not None
    }
    columns = list(dict.fromkeys(key for crf in using.values() for key in crf))
    rows = [
        [name, *(_parameter(crf[column]) if column in crf else "–" for column in columns)]
        for name, crf in using.items()
    ]
    return Table("Parameters of the CRF", ["arm", *columns], rows)


def fact_table(facts: Mapping[str, str]) -> Table:
    """How the run was made: name, value."""
    rows = [[plain(name), plain(value)] for name, value in facts.items()]
    return Table("How this was made", ["what", "value"], rows, numbers=False)


def metrics_csv(arms: Sequence[ArmResult], intervals: MetricIntervals) -> str:
    """Rows ``arm,metric,value,low,high``; metrics as fractions, a difference is the arm ``a - b``.

    Metrics that nothing defines are left out; costs have no interval, nor have metrics of few images.
    """
    rows = [
        (arm, metric, *(_fraction(v) for v in (found.estimate, found.low, found.high)))
        for (arm, metric), found in intervals.items()
        if not math.isnan(found.estimate)
    ]
    costs = [(arm.name, cost, arm.cost(cost)) for arm in arms for cost in (*COSTS, "machine_load")]
    rows += [(name, cost, f"{value:.6g}", "", "") for name, cost, value in costs if not math.isnan(value)]
    return csv_text(("arm", "metric", "value", "low", "high"), rows)


def _broken_difference(arm: str, minus: str) -> str:
    return f"{arm_label(arm)}\n− {arm_label(minus)}"


def _points(found: Interval) -> str:
    """A difference, bold where it is sure, above its interval."""
    value, _, bounds = points(found).partition(" ")
    return _bold(value, found.excludes_zero) + (bounds and f"\n{bounds}")


def _fraction(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


def _parameter(value: float | str) -> str:
    return plain(value) if isinstance(value, str) else f"{value:.4g}"


def _bold(text: str, is_bold: bool) -> str:
    return f"**{text}**" if is_bold else text
