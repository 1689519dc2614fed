"""The numbers of a report as markdown, CSV and console text."""

import csv
import io
import math
from collections.abc import Mapping, Sequence

from crfnet.evaluation.confusion import metrics
from crfnet.evaluation.evaluator import EvaluationConfig
from crfnet.evaluation.significance import Interval, paired_bootstrap
from crfnet.evaluation.trimap import Band
from crfnet.report.arms import ArmResult, check_arms, compared_pairs
from crfnet.report.scores import (
    MEANS,
    Scores,
    bands_with_pixels,
    class_metric,
    difference_name,
    trimap_metric,
)

__all__ = [
    "SHOWN_WIDTHS",
    "class_table",
    "console_table",
    "crf_table",
    "difference_table",
    "fact_table",
    "score_table",
    "scores_csv",
    "shown_metrics",
]

SHOWN_WIDTHS = (2, 5, 10)  #: trimap widths of the tables, pixels; the curves and the CSV have all

MEAN_TITLES = {"miou": "mIoU", "pixel_accuracy": "pixel acc.", "mean_accuracy": "mean acc."}
COSTS = {
    "seconds_per_image": "s / image",
    "train_seconds": "training s",
    "search_seconds": "search s",
    "peak_memory_mb": "peak MB",
}


def shown_metrics(bands: Sequence[Band], max_width: int) -> dict[str, str]:
    """Metric name -> column title of the main tables; only bands that hold pixels should be given."""
    columns = {name: MEAN_TITLES[name] for name in MEANS}
    for band in bands:
        for width in SHOWN_WIDTHS:
            if width <= max_width:
                columns[trimap_metric(band, "miou", width)] = f"{band} {width} px"
    return columns


def score_table(arms: Sequence[ArmResult], scores: Scores, columns: Mapping[str, str]) -> str:
    """One row per arm: the metrics in percent, then what the arm cost; the best of each metric is bold."""
    best = {metric: max(scores[arm.name, metric].estimate for arm in arms) for metric in columns}
    rows = []
    for arm in arms:
        values = [scores[arm.name, metric].estimate for metric in columns]
        shown = [
            _bold(_percent(v), len(arms) > 1 and v == best[m]) for m, v in zip(columns, values, strict=True)
        ]
        rows.append([f"`{arm.name}`", *shown, *(_number(getattr(arm, cost)) for cost in COSTS)])
    return _markdown(["arm", *columns.values(), *COSTS.values()], rows)


def difference_table(arms: Sequence[ArmResult], scores: Scores, columns: Mapping[str, str]) -> str:
    """One row per compared pair: difference in points with its interval, bold where that excludes 0."""
    rows = []
    for arm, minus in compared_pairs([arm.name for arm in arms]):
        found = [scores[difference_name(arm, minus), metric] for metric in columns]
        rows.append([f"`{arm}` − `{minus}`", *(_bold(_points(i), i.excludes_zero) for i in found)])
    return _markdown(["difference", *columns.values()], rows)


def class_table(arms: Sequence[ArmResult], scores: Scores, class_names: Sequence[str]) -> str:
    """One row per class: IoU of each arm in percent, then the differences in points, bold if sure."""
    names = [arm.name for arm in arms]
    pairs = compared_pairs(names)
    rows = []
    for class_name in class_names:
        metric = class_metric(class_name)
        changes = [scores[difference_name(*pair), metric] for pair in pairs]
        rows.append(
            [
                _escaped(class_name),
                *(_percent(scores[name, metric].estimate) for name in names),
                *(_bold(_signed(change.estimate), change.excludes_zero) for change in changes),
            ]
        )
    return _markdown(["class", *(f"`{n}`" for n in names), *(f"`{a}` − `{b}`" for a, b in pairs)], rows)


def crf_table(arms: Sequence[ArmResult]) -> str:
    """One row per arm with a CRF, one column per parameter."""
    using = {arm.name: arm.crf for arm in arms if arm.crf is not None}
    columns = list(dict.fromkeys(key for crf in using.values() for key in crf))
    rows = [
        [f"`{name}`", *(_parameter(crf[column]) if column in crf else "–" for column in columns)]
        for name, crf in using.items()
    ]
    return _markdown(["arm", *columns], rows)


def fact_table(facts: Mapping[str, str]) -> str:
    """How the run was made: name, value."""
    rows = [[_escaped(name), _escaped(value)] for name, value in facts.items()]
    return _markdown(["what", "value"], rows, numbers="---")


def scores_csv(arms: Sequence[ArmResult], scores: Scores) -> str:
    """Rows ``arm,metric,value,low,high``; metrics as fractions, a difference is the arm ``a - b``.

    Metrics that nothing defines are left out; costs have no interval.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["arm", "metric", "value", "low", "high"])
    for (arm, metric), found in scores.items():
        if not math.isnan(found.estimate):
            writer.writerow([arm, metric, *(f"{v:.6f}" for v in (found.estimate, found.low, found.high))])
    for result in arms:
        for cost in COSTS:
            value = getattr(result, cost)
            if not math.isnan(value):
                writer.writerow([result.name, cost, f"{value:.6g}", "", ""])
    return stream.getvalue()


def console_table(arms: Sequence[ArmResult], config: EvaluationConfig) -> str:
    """The result in a few lines of plain text: mIoU, its gain on the first arm with interval, trimaps, time.

    Raises:
        InputError: the arms did not score the same images.
    """
    check_arms(arms)
    first = arms[0]
    bands = bands_with_pixels(first.evaluation)
    width = min(5, first.evaluation.max_width)
    header = [
        "arm",
        "mIoU",
        f"minus {first.name}",
        *(f"{band} {width} px" for band in bands),
        COSTS["seconds_per_image"],
    ]
    rows = []
    for arm in arms:
        inside = [arm.evaluation.trimap_metrics(band, config.absent).miou[width - 1] for band in bands]
        gain = paired_bootstrap(
            first.evaluation.confusion,
            arm.evaluation.confusion,
            lambda c: metrics(c, config.absent).miou,
            config.draws,
            config.seed,
        )
        rows.append(
            [
                arm.name,
                _percent(float(arm.evaluation.metrics(config.absent).miou)),
                "" if arm is first else _points(gain),
                *(_percent(float(value)) for value in inside),
                _number(arm.seconds_per_image),
            ]
        )
    return _aligned([header, *rows])


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


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: str = "---:") -> str:
    rule = ["---", *(numbers for _ in header[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.2f}"


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:+.2f}"


def _points(found: Interval) -> str:
    if math.isnan(found.estimate):
        return "–"
    return f"{_signed(found.estimate)} [{_signed(found.low)}, {_signed(found.high)}]"


def _number(value: float) -> str:
    """Three significant digits, all digits of a large number; – when not measured."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _parameter(value: float | str) -> str:
    return _escaped(value) if isinstance(value, str) else f"{value:.4g}"


def _bold(text: str, is_bold: bool) -> str:
    return f"**{text}**" if is_bold else text


def _escaped(text: str) -> str:
    """Safe inside a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")
