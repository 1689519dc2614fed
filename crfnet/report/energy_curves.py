"""The free energy over the iterations of the CRF's inference: as a file, and as curves."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from crfnet.errors import InputError
from crfnet.files import regular, write_csv
from crfnet.report.figure_text import figure_text
from crfnet.report.metric_figures import arm_styles, finish_panel

__all__ = ["EnergyTrace", "energy_figure", "read_energy_traces", "write_energy_traces"]


@dataclass(frozen=True)
class EnergyTrace:
    """The inference on one image.

    Attributes:
        id: of the image.
        free_energy: of Q^0, Q^1, ..., in nats per pixel, up to a constant.
        change: the largest change of a marginal in step 1, 2, ..., in 0..1.
    """

    id: str
    free_energy: Sequence[float]
    change: Sequence[float]


def write_energy_traces(path: Path, traces: Sequence[EnergyTrace]) -> None:
    """Rows ``image,iteration,free_energy,change``; iteration 0 is the logits' softmax, without change."""
    rows = [
        (each.id, step, f"{value:.9g}", f"{each.change[step - 1]:.6g}" if step else "")
        for each in traces
        for step, value in enumerate(each.free_energy)
    ]
    write_csv(path, ("image", "iteration", "free_energy", "change"), rows)


def read_energy_traces(path: Path) -> list[EnergyTrace]:
    """What `write_energy_traces` wrote.

    Raises:
        InputError: the file is no such table.
    """
    energies: dict[str, list[float]] = {}
    changes: dict[str, list[float]] = {}
    try:
        with regular(path).open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                energies.setdefault(row["image"], []).append(float(row["free_energy"]))
                if row["change"]:
                    changes.setdefault(row["image"], []).append(float(row["change"]))
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as energies per iteration ({error})") from error
    if not energies:
        raise InputError(f"{path}: holds no energies")
    return [EnergyTrace(id, values, changes.get(id, [])) for id, values in energies.items()]


def energy_figure(traces: Mapping[str, Sequence[EnergyTrace]]) -> Figure:
    """Free energy above that of iteration 0, change of the marginals: a line per image, a color per arm."""
    styles = arm_styles([*traces])
    figure = Figure(figsize=(8.6, 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, of_arm in traces.items():
        for index, each in enumerate(of_arm):
            label = figure_text(name) if index == 0 else None
            style = styles[name] | {"linewidth": 1.2, "label": label}
            left.plot([value - each.free_energy[0] for value in each.free_energy], **style)
            right.plot(range(1, len(each.change) + 1), each.change, **style)
    right.set_yscale("log", nonpositive="mask")  # no change at all has no place on it
    left.legend(frameon=False)
    finish_panel(left, "free energy F(Q) − F(Q⁰), nats per pixel", "iteration")
    finish_panel(right, "largest change of a marginal", "iteration")
    return figure
