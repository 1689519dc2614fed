"""The CRF's parameters over the iterations of its training, as curves."""

import json
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from crfnet.report.metric_figures import arm_styles, finish_panel

__all__ = [
    "ParameterCurves",
    "parameter_figure",
    "read_training_log",
]

UNITS = {
    "theta_alpha": "theta_alpha, px",
    "theta_gamma": "theta_gamma, px",
    "theta_beta": "theta_beta, 0..255",
}
COLUMNS = 3

ParameterCurves: TypeAlias = dict[str, tuple[list[int], list[float]]]  #: parameter -> steps and values


def read_training_log(log: Path) -> ParameterCurves:
    """Steps and values of every CRF parameter in a training's log.jsonl; per-class weights as their mean.

    Whole matrices are left out; a line that was cut off by a kill, or is none of ours, ends the curves.
    """
    curves: ParameterCurves = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry: dict[str, Any] = json.loads(line)
            step, given = int(entry["step"]), entry.get("crf", {}).items()
            numbers = {name: np.asarray(value, dtype=float) for name, value in given}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            break
        for name, number in numbers.items():
            if number.ndim < 2:
                steps, values = curves.setdefault(name, ([], []))
                steps.append(step)
                values.append(float(number.mean()))
    return curves


def parameter_figure(trainings: Mapping[str, ParameterCurves]) -> Figure:
    """One panel per parameter, its value against the iteration of the training; a line per training."""
    names = list(dict.fromkeys(name for curves in trainings.values() for name in curves))
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.4 * rows), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    style = arm_styles(["joint"])["joint"]
    for panel, name in zip(panels, names, strict=False):
        for (label, curves), dashes in zip(trainings.items(), cycle(("-", "--", ":", "-."))):
            if name in curves:
                panel.plot(*curves[name], linewidth=1.6, label=label, **style, linestyle=dashes)
        finish_panel(panel, UNITS.get(name, name), "iteration of training")
    if len(trainings) > 1:
        panels[0].legend(frameon=False, fontsize="small")
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    return figure
