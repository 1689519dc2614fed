"""The numbers of a report as tables, CSV and console text."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from crfnet.evaluation.evaluator import EvaluationConfig
from crfnet.evaluation.named_metrics import difference
from crfnet.evaluation.trimap import Band
from crfnet.files import csv_text
from crfnet.report.arms import ArmResult, check_arms, compared_pairs
from crfnet.report.document import Block, Folded, Table, arm_label, plain
from crfnet.report.explanations import coverage
from crfnet.report.metric_intervals import (
    BOUNDARY,
    MEANS,
    MetricIntervals,
    bands_with_pixels,
    class_metric,
    difference_name,
    trimap_metric,
)
from crfnet.report.numbers import number, percent, points, signed, with_range

__all__ = [
    "BORDER_WIDTH",
    "COSTS",
    "SHOWN_WIDTHS",
    "class_table",
    "console_table",
    "cost_table",
    "crf_table",
    "difference_table",
    "fact_table",
    "fold_columns",
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
    "peak_memory_mb": "peak MB",
    "train_seconds": "training s",
    "search_seconds": "search s",
}


def shown_metrics(bands: Sequence[Band], max_width: int) -> dict[str, str]:
    """Metric name -> column title of the main tables; only bands that hold pixels should be given."""
    columns = {name: TITLES[name] for name in (*MEANS, *BOUNDARY)}
    for band in bands:
        for width in SHOWN_WIDTHS:
            if width <= max_width:
                columns[trimap_metric(band, "miou", width)] = f"{band} {width} px"
    return columns


def metric_table(arms: Sequence[ArmResult], intervals: MetricIntervals, columns: Mapping[str, str]) -> Table:
    """One row per arm: the metrics in percent with intervals; the best of each is bold."""
    best = {metric: max(intervals[arm.name, metric].estimate for arm in arms) for metric in columns}
    rows = []
    for arm in arms:
        found = {metric: intervals[arm.name, metric] for metric in columns}
        shown = [
            _bold(percent(i.estimate), len(arms) > 1 and i.estimate == best[m]) + with_range(i)
            for m, i in found.items()
        ]
        rows.append([arm_label(arm.name), *shown])
    return Table("Scores of the arms", ["arm", *columns.values()], rows, note=coverage(arms))


def cost_table(arms: Sequence[ArmResult]) -> Table:
    """One row per arm: what it costs."""
    rows = [[arm_label(arm.name), *(number(arm.cost(cost)) for cost in COSTS)] for arm in arms]
    return Table("Costs of the arms", ["arm", *COSTS.values()], rows)


def fold_columns(table: Table, matters: Collection[str]) -> list[Block]:
    """The table with the columns that matter, and the others on request; the rows' headings are in both."""
    titles = table.header[1:]
    shown = [0, *(i for i, title in enumerate(titles, 1) if title in matters)]
    rest = [0, *(i for i, title in enumerate(titles, 1) if title not in matters)]
    if len(rest) == 1:
        return [table]

    def part(columns: Sequence[int]) -> Table:
        rows = [[row[i] for i in columns] for row in table.rows]
        return replace(table, header=[table.header[i] for i in columns], rows=rows)

    others = part(rest)
    summary = ", ".join(title.replace("`", "") for title in others.header[1:])
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
        rows.append([_difference(arm, minus), *(_bold(points(i), i.excludes_zero) for i in found)])
    header = ["difference", *columns.values()]
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
    header = ["class", *map(arm_label, names), *(_difference(*pair) for pair in pairs)]
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

    Metrics that nothing defines are left out; costs have no interval.
    """
    rows = [
        (arm, metric, *(f"{v:.6f}" for v in (found.estimate, found.low, found.high)))
        for (arm, metric), found in intervals.items()
        if not math.isnan(found.estimate)
    ]
    costs = [(arm.name, cost, arm.cost(cost)) for arm in arms for cost in (*COSTS, "machine_load")]
    rows += [(name, cost, f"{value:.6g}", "", "") for name, cost, value in costs if not math.isnan(value)]
    return csv_text(("arm", "metric", "value", "low", "high"), rows)


def console_table(arms: Sequence[ArmResult], config: EvaluationConfig) -> str:
    """The result in a few lines of plain text: mIoU, its gain on the first arm with interval, trimaps, time.

    Of several seeds the means; the last line says over how many, and what the intervals cover.

    Raises:
        InputError: the arms did not score the same images.
    """
    check_arms(arms)
    first = arms[0]
    bands = bands_with_pixels(first.evaluation)
    width = min(BORDER_WIDTH, first.evaluation.max_width)
    header = [
        "arm",
        "mIoU",
        f"minus {first.name}",
        *(f"{band} {width} px" for band in bands),
        COSTS["seconds_per_image"],
    ]
    rows = []
    for arm in arms:
        seeds = [each.evaluation for each in arm.seeds]
        inside = [
            fmean(float(each.trimap_metrics(band, config.absent).miou[width - 1]) for each in seeds)
            for band in bands
        ]
        gain = difference([each.evaluation for each in first.seeds], seeds, "miou", config, paired=True)
        rows.append(
            [
                arm.name,
                percent(fmean(float(each.metrics(config.absent).miou) for each in seeds)),
                "" if arm is first else points(gain),
                *map(percent, inside),
                number(arm.cost("seconds_per_image")),
            ]
        )
    return f"{_aligned([header, *rows])}\n({coverage(arms)})"


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


def _difference(arm: str, minus: str) -> str:
    return f"{arm_label(arm)} − {arm_label(minus)}"


def _parameter(value: float | str) -> str:
    return plain(value) if isinstance(value, str) else f"{value:.4g}"


def _bold(text: str, is_bold: bool) -> str:
    return f"**{text}**" if is_bold else text
