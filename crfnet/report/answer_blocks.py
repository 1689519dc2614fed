"""What a report begins with: the answer in a paragraph, a small table, and what to do next."""

import itertools
import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crfnet.errors import printable
from crfnet.files import read_yaml
from crfnet.report.answer import answer, busy
from crfnet.report.arms import ArmResult
from crfnet.report.document import Block, Bullets, Table, Text, arm_label
from crfnet.report.explanations import coverage
from crfnet.report.metric_intervals import (
    MetricIntervals,
    difference_name,
    few_images,
)
from crfnet.report.next_steps import Places, RunPlaces, next_steps
from crfnet.report.numbers import percent, seconds, signed
from crfnet.report.results import results_of
from crfnet.report.search_edges import arms_at_edges
from crfnet.report.seeds import CONFIG_FILE
from crfnet.report.trimap_names import band_name, breakable
from crfnet.report.verdict import Results, decide
from crfnet.search.result_files import BEST_FILE, IMAGES_FILE

__all__ = ["answer_blocks", "answer_table"]


def answer_blocks(
    folder: Path,
    arms: Sequence[ArmResult],
    intervals: MetricIntervals,
    class_names: Sequence[str],
    *,
    command: str,
    made_up: bool,
) -> list[Block]:
    """Paragraph, table, next steps; commands name paths as seen from where the report was made.

    Networks of images that are made up know no photos: ``predict`` is shown with the data set's own.
    ``command`` is that of the run.
    """
    results = results_of(arms, intervals, class_names)
    run = _run_places(folder, arms, command)
    steps = next_steps(results, replace(run, images="--split val") if made_up else run)
    what = "**What to do next** (in the folder where crfnet was started)"
    following: list[Block] = [Text(what), Bullets(steps)] if steps else []
    return [Text(answer(results)), answer_table(arms, results), *following]


def answer_table(arms: Sequence[ArmResult], results: Results) -> Table:
    """A row for each arm: mIoU over the image and near the borders, with what it gains on the first arm."""
    first, winner = results.names[0], decide(results).winner
    named = len(arms) > 1 and not few_images(arms)
    metrics = {"over\nthe image": "miou"}
    if results.border is not None:
        metrics |= {breakable(band_name(results.border_band, results.border_width)): results.border}
    slow = any(busy(costs) for costs in results.costs.values())
    rows = []
    for name in results.names:
        cells = [_with_gain(results, name, metric) for metric in metrics.values()]
        costs = results.costs[name]
        cells.append(seconds(costs.cpu_seconds if slow else costs.seconds))
        label = arm_label(name)
        rows.append([f"**{label}**" if name == winner and named else label, *cells])
    gains = ""
    if len(arms) > 1:
        sure = "" if few_images(arms) else ", bold where sure"
        gains = f", with the gain on {arm_label(first)} in points{sure}"
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
    if math.isnan(gain.low):
        return f"{level}\n{shown}"
    return "\n".join((level, shown, f"[{signed(gain.low)}, {signed(gain.high)}]"))


#: Whose network an arm is behind, where it has none of its own.
_NETWORKS = {"posthoc": "unary", "dt": "unary", "posthoc+": "unary+", "dt+": "unary+"}


def _run_places(folder: Path, arms: Sequence[ArmResult], command: str) -> RunPlaces:
    """What commands name of the run, and what each arm is used with: the network of another, where shared."""
    trained = {arm.name: arm.train_folder for arm in arms if arm.train_folder is not None}
    places = {}
    for arm in arms:
        network = trained.get(_NETWORKS.get(arm.name, arm.name))
        has_own = arm.name == "joint" or arm.train_folder is not None  # in its checkpoint, trained with it
        searched = None if has_own else arm.search_folder
        places[arm.name] = Places(
            checkpoint=_there(network, "checkpoint.pt"),
            crf=_there(searched, BEST_FILE),
            images=_there(searched, IMAGES_FILE),
        )
    return RunPlaces(
        folder=_from_here(folder),
        config=_there(folder, CONFIG_FILE) or "CONFIG",
        seed=_seed(folder / CONFIG_FILE),
        arms=places,
        edges=arms_at_edges(arms),
        start=_option(command, "--checkpoint"),
        trained=not command.startswith("crfnet evaluate"),
    )


def _option(command: str, name: str) -> str:
    """The value of an option in a command, quoted; empty where it has none."""
    try:
        words = shlex.split(command.replace(f"{name}=", f"{name} "))
    except ValueError:  # written by hand
        return ""
    values = [value for word, value in itertools.pairwise(words) if word == name]
    return shlex.quote(values[-1]) if values else ""


def _there(place: Path | None, name: str) -> str:
    if place is None or not (place / name).is_file():
        return ""
    return shlex.quote(_from_here(place / name))


def _from_here(path: Path) -> str:
    """The path as seen from the working folder where it lies there, else as it was given."""
    resolved, here = path.resolve(), Path.cwd()
    if resolved == here:
        path = Path("..") / here.name
    elif resolved.is_relative_to(here):
        path = resolved.relative_to(here)
    elif (shorter := Path(os.path.normpath(path))).resolve() == resolved:  # not so beyond some links
        path = shorter
    return printable(str(path))


def _seed(config: Path) -> int:
    """That a run was trained with; 0, the default, where nothing tells."""
    found = read_yaml(config) if config.is_file() else None
    seed = found.get("seed") if isinstance(found, dict) else None
    return seed if type(seed) is int else 0
