"""heatmap.png: the criterion over theta_alpha and theta_beta."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crfnet.files import write_atomically
from crfnet.search.grid import Point
from crfnet.search.leaderboard import Leaderboard

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_heatmap"]

_DPI = 120
_MAX_PIXELS = 30_000  #: of a side; of many values each is smaller (Matplotlib takes 65,535)


def write_heatmap(path: Path, leaderboard: Leaderboard) -> None:
    """Draw the criterion in percent over theta_alpha and theta_beta.

    A grid search is a heat map per round (rows) and w1 (columns); where it has several w2, theta_gamma or
    iterations, a cell is the best of them. Other samplers are one scatter plot. One color scale for all. A
    red frame marks the best point, a dash those that a race eliminated.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = {
        point: 100 * leaderboard.metric(point, range(candidate.num_images))
        if candidate.num_images == leaderboard.num_images
        else math.nan
        for point, candidate in leaderboard.candidates.items()
    }
    best = leaderboard.best(leaderboard.overall)
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    label = f"{leaderboard.criterion.label} (%)"
    if leaderboard.config.sampler == "grid":
        _draw_grid(figure, [points for points in leaderboard.overall.rounds if points], metrics, best, label)
    else:
        _draw_scatter(figure, metrics, best, label)
    content = io.BytesIO()
    largest = max(figure.get_size_inches())
    figure.savefig(content, format="png", dpi=min(_DPI, _MAX_PIXELS / largest))
    write_atomically(path, content.getvalue())


def _draw_grid(
    figure: "Figure", rounds: list[list[Point]], metrics: dict[Point, float], best: Point, label: str
) -> None:
    columns = [sorted({p.w1 for p in points}) for points in rounds]
    max_alphas = max(len({p.theta_alpha for p in points}) for points in rounds)
    max_betas = max(len({p.theta_beta for p in points}) for points in rounds)
    max_panels = max(map(len, columns))
    figure.set_size_inches(
        1.5 + max_panels * max(2.0, 0.5 * max_alphas), 0.8 + len(rounds) * max(1.8, 0.4 * max_betas + 0.8)
    )
    finite = [metric for metric in metrics.values() if not math.isnan(metric)]
    margin = 0.5 if min(finite) == max(finite) else 0.0  # else every panel would find limits of its own
    limits = (min(finite) - margin, max(finite) + margin)
    axes = figure.subplots(len(rounds), max_panels, squeeze=False)
    best_framed = False
    image: Any = None
    for points, weights, row in zip(rounds, columns, axes, strict=True):
        for panel in row[len(weights) :]:
            panel.set_axis_off()
        for w1, panel in zip(weights, row, strict=False):
            panel_points = [p for p in points if p.w1 == w1]
            image = _draw_heatmap(panel, panel_points, metrics, limits)
            panel.set_title(f"w1 = {w1:g}", fontsize=9)
            if best in panel_points and not best_framed:
                best_framed = True  # in the round that proposed it first
                _frame_best(panel, panel_points, best)
        row[0].set_ylabel("theta_beta")
    figure.supxlabel("theta_alpha (px)", fontsize=10)
    figure.colorbar(image, ax=axes, label=label)


def _draw_heatmap(
    panel: Any, points: list[Point], metrics: dict[Point, float], limits: tuple[float, float]
) -> Any:
    """Draw one panel, theta_beta x theta_alpha, with the numbers written in its cells."""
    alphas, betas = _axis_values(points)
    values = _cell_values(points, metrics)
    image = panel.imshow(values, origin="lower", cmap="viridis", aspect="auto")
    image.set_clim(*limits)
    panel.set_xticks(range(len(alphas)), [f"{a:g}" for a in alphas], fontsize=7)
    panel.set_yticks(range(len(betas)), [f"{b:g}" for b in betas], fontsize=7)
    for (j, i), value in np.ndenumerate(values):
        color = "white" if value < sum(limits) / 2 else "black"
        panel.text(i, j, _cell_text(value, limits), ha="center", va="center", fontsize=6, color=color)
    return image


def _cell_values(points: list[Point], metrics: dict[Point, float]) -> NDArray[np.float64]:
    """The best metric of every theta_beta (rows) and theta_alpha (columns); NaN where no point has one."""
    alphas, betas = _axis_values(points)
    cells: dict[tuple[float, float], float] = {}
    for point in points:
        cell = point.theta_alpha, point.theta_beta
        cells[cell] = np.fmax(cells.get(cell, math.nan), metrics.get(point, math.nan))
    return np.array([[cells.get((a, b), math.nan) for a in alphas] for b in betas])


def _cell_text(value: float, limits: tuple[float, float]) -> str:
    """In one decimal, in two where all values lie within a point; a dash where there is none."""
    return "-" if math.isnan(value) else f"{value:.{1 if limits[1] - limits[0] > 1 else 2}f}"


def _frame_best(panel: Any, points: list[Point], best: Point) -> None:
    from matplotlib.patches import Rectangle

    alphas, betas = _axis_values(points)
    corner = (alphas.index(best.theta_alpha) - 0.5, betas.index(best.theta_beta) - 0.5)
    panel.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="red", linewidth=2))


def _axis_values(points: list[Point]) -> tuple[list[float], list[float]]:
    return sorted({p.theta_alpha for p in points}), sorted({p.theta_beta for p in points})


def _draw_scatter(figure: "Figure", metrics: dict[Point, float], best: Point, label: str) -> None:
    """Draw all points in one plot; marker sizes grow with w1."""
    panel = figure.subplots()
    finite = [point for point, metric in metrics.items() if not math.isnan(metric)]
    eliminated = [point for point, metric in metrics.items() if math.isnan(metric)]
    largest = max(point.w1 for point in metrics)
    image = panel.scatter(
        [p.theta_alpha for p in finite],
        [p.theta_beta for p in finite],
        c=[metrics[p] for p in finite],
        s=[10 + 60 * p.w1 / largest for p in finite],
    )
    panel.scatter(
        [p.theta_alpha for p in eliminated], [p.theta_beta for p in eliminated], marker="_", c="gray"
    )
    panel.scatter(
        [best.theta_alpha], [best.theta_beta], marker="s", s=150, facecolors="none", edgecolors="red"
    )
    panel.set_xlabel("theta_alpha (px); size: w1")
    panel.set_ylabel("theta_beta")
    figure.colorbar(image, ax=panel, label=label)
