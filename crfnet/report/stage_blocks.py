"""The sections of what stages left in the arms' folders: searches, trainings, inferences."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from crfnet.report.arms import ArmResult
from crfnet.report.document import Block, Picture, Plot, Text
from crfnet.report.energy_curves import energy_figure, read_energy_traces
from crfnet.report.explanations import about_energy, about_search, about_training
from crfnet.report.training_curves import (
    ParameterCurves,
    parameter_figure,
    read_training_log,
)
from crfnet.search.result_files import HEATMAP_FILE

__all__ = ["ENERGY_FILE", "energy_blocks", "training_blocks", "search_blocks"]

ENERGY_FILE = "energy/energy.csv"  #: in an arm's folder


def search_blocks(arms: Sequence[ArmResult]) -> Iterator[Block]:
    """The heat map of every search; of several seeds, those of the first."""
    users: dict[Path, list[str]] = {}
    for arm in arms:
        if arm.search_folder is not None and (arm.search_folder / HEATMAP_FILE).is_file():
            users.setdefault(arm.search_folder, []).append(arm.name)
    for folder, names in users.items():
        yield Text(about_search(names, _seed(arms)))
        alt = f"Heat map of the search for {', '.join(names)}: score over w1, theta_alpha and theta_beta"
        yield Picture(_file("search", names[0]), alt, (folder / HEATMAP_FILE).read_bytes())


def training_blocks(arms: Sequence[ArmResult]) -> Iterator[Block]:
    """The CRF's parameters over every training of a CRF, with a line for each seed."""
    for arm in arms:
        trainings = {
            label: _parameter_curves(each) for label, each in zip(arm.seed_labels, arm.seeds, strict=True)
        }
        trainings = {label: curves for label, curves in trainings.items() if curves}
        if trainings:
            yield Text(about_training(arm.name, len(trainings)))
            names = dict.fromkeys(name for curves in trainings.values() for name in curves)
            alt = f"Curves of {', '.join(names)} over the training of {arm.name}"
            yield Plot(_file("training", arm.name), alt, parameter_figure(trainings))


def energy_blocks(arms: Sequence[ArmResult]) -> Iterator[Block]:
    """Free energy over the iterations of every arm whose inference was followed; of the first seed."""
    files = {arm.name: arm.folder / ENERGY_FILE for arm in arms if arm.folder is not None}
    traces = {name: read_energy_traces(path) for name, path in files.items() if path.is_file()}
    if traces:
        yield Text(about_energy(arms, _seed(arms)))
        alt = f"Curves of free energy and change over the iterations of {', '.join(traces)}"
        yield Plot("energy", alt, energy_figure(traces))


def _parameter_curves(arm: ArmResult) -> ParameterCurves:
    log = None if arm.train_folder is None else arm.train_folder / "log.jsonl"
    return read_training_log(log) if log is not None and log.is_file() else {}


def _seed(arms: Sequence[ArmResult]) -> str:
    """What the first seed is called where there are several."""
    return arms[0].seed_labels[0] if arms[0].repeats else ""


def _file(what: str, arm: str) -> str:
    """A name for a file, and an id for a page, of whatever the arm is called."""
    return f"{what}_{re.sub(r'[^A-Za-z0-9_]+', '_', arm.replace('+', '_plus'))}"
