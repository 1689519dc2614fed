"""What a search leaves behind: best.yaml, table.csv, heatmap.png, images.txt."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import yaml

from crfnet.crf.layer import CRFConfig
from crfnet.errors import InputError
from crfnet.files import write_atomically
from crfnet.search.grid import AXES, Grid, Point, SearchConfig
from crfnet.search.study import Scored

__all__ = [
    "BEST_FILE",
    "best_config",
    "HEATMAP_FILE",
    "IMAGES_FILE",
    "TABLE_FILE",
    "load_crf_config",
    "write_best",
    "write_heatmap",
    "write_images",
    "write_table",
]

BEST_FILE = "best.yaml"
TABLE_FILE = "table.csv"
HEATMAP_FILE = "heatmap.png"
IMAGES_FILE = "images.txt"

#: What a search decides, of all that a CRFConfig holds.
_DECIDED = (*AXES, "w2", "theta_gamma", "iterations", "normalization")


def load_crf_config(path: Path) -> CRFConfig:
    """The CRF parameters under the one key `crf` of a YAML file; keys left out keep their defaults.

    Raises:
        InputError: no such file, not YAML, an unknown key, a value of a wrong type or out of its range.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"{path}: cannot be read as YAML ({reason})") from error
    if not isinstance(content, dict) or list(content) != ["crf"] or not isinstance(content["crf"], dict):
        got = ", ".join(map(str, content)) if isinstance(content, dict) else repr(content)
        raise InputError(f"{path}: holds {got}; expected the one key crf with a mapping under it")
    types = get_type_hints(CRFConfig)
    known = [field.name for field in fields(CRFConfig)]
    values: dict[str, Any] = {}
    for key, value in content["crf"].items():
        if key not in known:
            raise InputError(f"{path}: unknown key crf.{key}; known are {', '.join(known)}")
        values[key] = _typed(value, types[key], f"{path}: crf.{key}")
    try:
        return CRFConfig(**values)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _typed(value: object, wanted: Any, place: str) -> object:
    """`value`, if it is what the annotation `wanted` allows; an integer serves as a float."""
    if get_origin(wanted) is Literal:
        good, allowed = value in get_args(wanted), "one of " + ", ".join(get_args(wanted))
    elif wanted is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        good, allowed = number and math.isfinite(float(str(value))), "a finite number"
        value = float(str(value)) if good else value
    else:
        good, allowed = type(value) is wanted, {int: "an integer", bool: "true or false", str: "text"}[wanted]
    if not good:
        raise InputError(f"{place} is {value!r}; expected {allowed}")
    return value


def best_config(point: Point, config: SearchConfig) -> CRFConfig:
    """The CRF that the search ran at `point`."""
    return CRFConfig(
        **point._asdict(),
        w2=config.w2,
        theta_gamma=config.theta_gamma,
        iterations=config.iterations,
        normalization=config.normalization,
    )


def write_best(path: Path, crf: CRFConfig, head: Sequence[str]) -> None:
    """Writes the parameters that the search decided, under `crf:`, below `head` as comment lines."""
    body = yaml.safe_dump({"crf": {key: getattr(crf, key) for key in _DECIDED}}, sort_keys=False)
    lines = [f"# {' '.join(line.split())}\n" for line in head]
    write_atomically(path, ("".join(lines) + body).encode())


def write_table(path: Path, rows: Sequence[Scored]) -> None:
    """Writes one line a point, in the given order; mIoU and pixel accuracy in 0..1, seconds of wall time."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(["round", *AXES, "miou", "pixel_accuracy", "seconds"])
    for row in rows:
        parameters = [f"{value:.9g}" for value in row.point]
        scores = [f"{row.miou:.6f}", f"{row.pixel_accuracy:.6f}", f"{row.seconds:.3f}"]
        writer.writerow([row.round, *parameters, *scores])
    write_atomically(path, content.getvalue().encode())


def write_images(path: Path, ids: Sequence[str]) -> None:
    """Writes the ids that the search chose on, one a line; leave them out of every reported score."""
    write_atomically(path, "".join(f"{id_}\n" for id_ in ids).encode())


def write_heatmap(path: Path, grids: Sequence[Grid], miou: Mapping[Point, float], best: Point) -> None:
    """Draws mIoU (per cent) as small multiples: a row per round, a panel per w1.

    Across a panel runs theta_alpha, up runs theta_beta; one colour scale for all. A frame marks the best
    point, in the round that scored it first.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(grid.w1) for grid in grids)
    widest = max(len(grid.theta_alpha) for grid in grids)
    tallest = max(len(grid.theta_beta) for grid in grids)
    size = (1.5 + columns * max(2.0, 0.5 * widest), 0.8 + len(grids) * max(1.8, 0.4 * tallest + 0.8))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(grids), columns, squeeze=False)
    for grid, row in zip(grids, axes, strict=True):
        for panel in row[len(grid.w1) :]:
            panel.set_axis_off()
        for w1, panel in zip(grid.w1, row, strict=False):
            picture = _panel(panel, grid, w1, miou)
            picture.set_clim(100 * min(miou.values()), 100 * max(miou.values()))
            panel.set_title(f"w1 = {w1:g}", fontsize=9)
        row[0].set_ylabel("theta_beta")
    _frame(axes, grids, best)
    figure.supxlabel("theta_alpha (px)", fontsize=10)
    figure.colorbar(picture, ax=axes, label="mIoU (%)")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_atomically(path, content.getvalue())


def _panel(panel: Any, grid: Grid, w1: float, miou: Mapping[Point, float]) -> Any:
    """One picture theta_beta x theta_alpha with the numbers written in its cells."""
    values = np.array([[100 * miou[Point(w1, a, b)] for a in grid.theta_alpha] for b in grid.theta_beta])
    picture = panel.imshow(values, origin="lower", cmap="viridis", aspect="auto")
    panel.set_xticks(range(len(grid.theta_alpha)), [f"{a:g}" for a in grid.theta_alpha], fontsize=7)
    panel.set_yticks(range(len(grid.theta_beta)), [f"{b:g}" for b in grid.theta_beta], fontsize=7)
    middle = 50 * (min(miou.values()) + max(miou.values()))
    for (j, i), value in np.ndenumerate(values):
        colour = "white" if value < middle else "black"
        panel.text(i, j, f"{value:.1f}", ha="center", va="center", fontsize=6, color=colour)
    return picture


def _frame(axes: Any, grids: Sequence[Grid], best: Point) -> None:
    from matplotlib.patches import Rectangle

    row = next(i for i, grid in enumerate(grids) if best in grid.points())
    grid = grids[row]
    corner = (grid.theta_alpha.index(best.theta_alpha) - 0.5, grid.theta_beta.index(best.theta_beta) - 0.5)
    panel = axes[row][grid.w1.index(best.w1)]
    panel.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="red", linewidth=2))
