"""What a report begins with: the answer in a paragraph, a small table, and what to do next."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from crfnet.evaluation.evaluator import Evaluation
from crfnet.evaluation.trimap import Band
from crfnet.report.answer import answer, busy
from crfnet.report.arms import ArmResult
from crfnet.report.document import Block, Bullets, Table, Text, arm_label
from crfnet.report.explanations import coverage
from crfnet.report.metric_intervals import (
    MetricIntervals,
    bands_with_pixels,
    difference_name,
    trimap_metric,
)
from crfnet.report.next_steps import Places, next_steps
from crfnet.report.numbers import percent, seconds, signed
from crfnet.report.tables import BORDER_WIDTH
from crfnet.report.verdict import Costs, Results, decide
from crfnet.search.result_files import BEST_FILE

__all__ = ["answer_blocks", "answer_table", "border_band", "results_of"]


def answer_blocks(
    folder: Path, arms: Sequence[ArmResult], intervals: MetricIntervals, class_names: Sequence[str]
) -> list[Block]:
    """Paragraph, table, next steps; paths are told relative to the report's folder."""
    results = results_of(arms, intervals, class_names)
    steps = next_steps(results, _places(folder, arms))
    following: list[Block] = [Text("**What to do next**"), Bullets(steps)] if steps else []
    return [Text(answer(results)), answer_table(arms, results), *following]


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
        images=len(first),
        seeds=len(arms[0].seeds),
        costs=costs,
    )


def answer_table(arms: Sequence[ArmResult], results: Results) -> Table:
    """A row for each arm: mIoU over the image and near the borders, with what it gains on the first arm."""
    first, winner = results.names[0], decide(results).winner
    metrics = {"over\nthe image": "miou"}
    if results.border is not None:
        metrics |= {f"within {results.border_width} px\nof borders": results.border}
    slow = any(busy(costs) for costs in results.costs.values())
    rows = []
    for name in results.names:
        cells = [_with_gain(results, name, metric) for metric in metrics.values()]
        costs = results.costs[name]
        cells.append(seconds(costs.cpu_seconds if slow else costs.seconds))
        label = arm_label(name)
        rows.append([f"**{label}**" if name == winner and len(arms) > 1 else label, *cells])
    gains = f", with the gain on {arm_label(first)} in points, bold where sure" if len(arms) > 1 else ""
    return Table(
        "The answer in numbers",
        ["arm", *metrics, "processor\ntime\nan image" if slow else "time\nan image"],
        rows,
        note=f"mIoU in %{gains}; {coverage(arms)}",
    )


def _with_gain(results: Results, name: str, metric: str) -> str:
    """A metric in per cent; in the other arms than the first also what it gains, in parts."""
    level, first = percent(results.of(name, metric).estimate), results.names[0]
    gain = results.of(difference_name(name, first), metric)
    if name == first or math.isnan(gain.estimate):
        return level
    shown = f"**{signed(gain.estimate)}**" if gain.excludes_zero else signed(gain.estimate)
    return "\n".join((level, shown, f"[{signed(gain.low)}, {signed(gain.high)}]"))


def _places(folder: Path, arms: Sequence[ArmResult]) -> dict[str, Places]:
    """What each arm is used with: the network that it shares with another is that one's."""
    trained = {arm.name: arm.train_folder for arm in arms if arm.train_folder is not None}
    places = {}
    for arm in arms:
        network = trained.get(arm.name.replace("posthoc", "unary"))
        searched = arm.search_folder if arm.name != "joint" else None  # its checkpoint holds its CRF
        places[arm.name] = Places(
            checkpoint=_there(folder, network, "checkpoint.pt"), crf=_there(folder, searched, BEST_FILE)
        )
    return places


def _there(folder: Path, place: Path | None, name: str) -> str:
    if place is None or not (place / name).is_file():
        return ""
    return os.path.relpath(place / name, folder)
