"""What happened on the way: the CRF's parameters while it was trained, the energy while it was solved."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from crfnet.errors import InputError
from crfnet.files import write_csv
from crfnet.report.curves import arm_styles

__all__ = [
    "Descent",
    "History",
    "energy_figure",
    "parameter_figure",
    "read_descents",
    "read_history",
    "write_descents",
]

UNITS = {
    "theta_alpha": "theta_alpha, px",
    "theta_gamma": "theta_gamma, px",
    "theta_beta": "theta_beta, 0..255",
}
COLUMNS = 3

History: TypeAlias = dict[str, tuple[list[int], list[float]]]  #: parameter -> steps and values


@dataclass(frozen=True)
class Descent:
    """The inference on one image.

    Attributes:
        id: of the image.
        free_energy: of Q^0, Q^1, ..., in nats per pixel, up to a constant.
        change: the largest change of a marginal in step 1, 2, ..., in 0..1.
    """

    id: str
    free_energy: Sequence[float]
    change: Sequence[float]


def write_descents(path: Path, descents: Sequence[Descent]) -> None:
    """Rows ``image,iteration,free_energy,change``; iteration 0 is the logits' softmax, without change."""
    rows = [["image", "iteration", "free_energy", "change"]]
    for each in descents:
        for step, value in enumerate(each.free_energy):
            change = f"{each.change[step - 1]:.6g}" if step else ""
            rows.append([each.id, str(step), f"{value:.9g}", change])
    write_csv(path, rows)


def read_descents(path: Path) -> list[Descent]:
    """What `write_descents` wrote.

    Raises:
        InputError: the file is no such table.
    """
    energies: dict[str, list[float]] = {}
    changes: dict[str, list[float]] = {}
    try:
        with path.open(newline="") as stream:
            for row in csv.DictReader(stream):
                energies.setdefault(row["image"], []).append(float(row["free_energy"]))
                if row["change"]:
                    changes.setdefault(row["image"], []).append(float(row["change"]))
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as energies per iteration ({error})") from error
    if not energies:
        raise InputError(f"{path}: holds no energies")
    return [Descent(id, values, changes.get(id, [])) for id, values in energies.items()]


def read_history(log: Path) -> History:
    """Steps and values of every CRF parameter in a training's log.jsonl; per-class weights as their mean.

    Whole matrices are left out; a line that was cut off by a kill, or is none of ours, ends the history.
    """
    history: History = {}
    for line in log.read_text(errors="replace").splitlines():
        try:
            entry: dict[str, Any] = json.loads(line)
            step, given = int(entry["step"]), entry.get("crf", {}).items()
            numbers = {name: np.asarray(value, dtype=float) for name, value in given}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            break
        for name, number in numbers.items():
            if number.ndim < 2:
                steps, values = history.setdefault(name, ([], []))
                steps.append(step)
                values.append(float(number.mean()))
    return history


def parameter_figure(histories: Mapping[str, History]) -> Figure:
    """One panel per parameter, its value against the iteration of the training; a line per training."""
    names = list(dict.fromkeys(name for history in histories.values() for name in history))
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.4 * rows), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    style = arm_styles(["joint"])["joint"]
    for panel, name in zip(panels, names, strict=False):
        for (label, history), dashes in zip(histories.items(), cycle(("-", "--", ":", "-."))):
            if name in history:
                panel.plot(*history[name], linewidth=1.6, label=label, **style, linestyle=dashes)
        _finish(panel, UNITS.get(name, name), "iteration of training")
    if len(histories) > 1:
        panels[0].legend(frameon=False, fontsize="small")
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    return figure


def energy_figure(descents: Mapping[str, Sequence[Descent]]) -> Figure:
    """Free energy above that of iteration 0, change of the marginals: a line per image, a color per arm."""
    styles = arm_styles([*descents])
    figure = Figure(figsize=(8.6, 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, of_arm in descents.items():
        for index, each in enumerate(of_arm):
            label = name if index == 0 else None
            style = styles[name] | {"linewidth": 1.2, "label": label}
            left.plot([value - each.free_energy[0] for value in each.free_energy], **style)
            right.plot(range(1, len(each.change) + 1), each.change, **style)
    right.set_yscale("log", nonpositive="mask")  # no change at all has no place on it
    left.legend(frameon=False)
    _finish(left, "free energy F(Q) − F(Q⁰), nats per pixel", "iteration")
    _finish(right, "largest change of a marginal", "iteration")
    return figure


def _finish(panel: Axes, title: str, label: str) -> None:
    panel.set_title(title, fontsize="medium")
    panel.set_xlabel(label)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.grid(color="0.92")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
