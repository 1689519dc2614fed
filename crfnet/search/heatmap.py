"""The picture of a search: scores over theta_alpha and theta_beta."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crfnet.files import write_atomically
from crfnet.search.grid import Point
from crfnet.search.leaderboard import Leaderboard

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_heatmap"]


def write_heatmap(path: Path, ledger: Leaderboard) -> None:
    """Draws the criterion in per cent over theta_alpha and theta_beta.

    A grid as small multiples, a row per round and a panel per w1, of the points that agree with the best in
    w2, theta_gamma and iterations; other samplers as one cloud of points. One color scale for all. A red
    frame marks the best point, a dash those that a race dropped.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scores = {
        row.point: 100 * ledger.score(row.point, range(row.images))
        if row.images == ledger.images
        else math.nan
        for row in ledger.rows.values()
    }
    best = ledger.best(ledger.views[0])
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    label = f"{ledger.criterion.label} (%)"
    if ledger.config.sampler == "grid":
        rounds = [[p for p in points if p[3:] == best[3:]] for points in ledger.views[0].rounds]
        _small_multiples(figure, [points for points in rounds if points], scores, best, label)
    else:
        _cloud(figure, scores, best, label)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_atomically(path, content.getvalue())


def _small_multiples(
    figure: "Figure", rounds: list[list[Point]], scores: dict[Point, float], best: Point, label: str
) -> None:
    columns = [sorted({p.w1 for p in points}) for points in rounds]
    widest = max(len({p.theta_alpha for p in points}) for points in rounds)
    tallest = max(len({p.theta_beta for p in points}) for points in rounds)
    most = max(map(len, columns))
    figure.set_size_inches(
        1.5 + most * max(2.0, 0.5 * widest), 0.8 + len(rounds) * max(1.8, 0.4 * tallest + 0.8)
    )
    whole = [score for score in scores.values() if not math.isnan(score)]
    spread = 0.5 if min(whole) == max(whole) else 0.0  # else every panel would find limits of its own
    limits = (min(whole) - spread, max(whole) + spread)
    axes = figure.subplots(len(rounds), most, squeeze=False)
    framed = False
    picture: Any = None
    for points, weights, row in zip(rounds, columns, axes, strict=True):
        for panel in row[len(weights) :]:
            panel.set_axis_off()
        for w1, panel in zip(weights, row, strict=False):
            here = [p for p in points if p.w1 == w1]
            picture = _panel(panel, here, scores, limits)
            panel.set_title(f"w1 = {w1:g}", fontsize=9)
            if best in here and not framed:
                framed = True  # in the round that scored it first
                _frame(panel, here, best)
        row[0].set_ylabel("theta_beta")
    figure.supxlabel("theta_alpha (px)", fontsize=10)
    figure.colorbar(picture, ax=axes, label=label)


def _panel(panel: Any, points: list[Point], scores: dict[Point, float], limits: tuple[float, float]) -> Any:
    """One picture theta_beta x theta_alpha with the numbers written in its cells."""
    alphas, betas = _axes(points)
    there = {(p.theta_alpha, p.theta_beta): scores.get(p, math.nan) for p in points}
    values = np.array([[there.get((a, b), math.nan) for a in alphas] for b in betas])
    picture = panel.imshow(values, origin="lower", cmap="viridis", aspect="auto")
    picture.set_clim(*limits)
    panel.set_xticks(range(len(alphas)), [f"{a:g}" for a in alphas], fontsize=7)
    panel.set_yticks(range(len(betas)), [f"{b:g}" for b in betas], fontsize=7)
    for (j, i), value in np.ndenumerate(values):
        color = "white" if value < sum(limits) / 2 else "black"
        text = "-" if math.isnan(value) else f"{value:.1f}"
        panel.text(i, j, text, ha="center", va="center", fontsize=6, color=color)
    return picture


def _frame(panel: Any, points: list[Point], best: Point) -> None:
    from matplotlib.patches import Rectangle

    alphas, betas = _axes(points)
    corner = (alphas.index(best.theta_alpha) - 0.5, betas.index(best.theta_beta) - 0.5)
    panel.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="red", linewidth=2))


def _axes(points: list[Point]) -> tuple[list[float], list[float]]:
    return sorted({p.theta_alpha for p in points}), sorted({p.theta_beta for p in points})


def _cloud(figure: "Figure", scores: dict[Point, float], best: Point, label: str) -> None:
    """All points; sizes grow with w1."""
    panel = figure.subplots()
    whole = [point for point, score in scores.items() if not math.isnan(score)]
    dropped = [point for point, score in scores.items() if math.isnan(score)]
    largest = max(point.w1 for point in scores)
    picture = panel.scatter(
        [p.theta_alpha for p in whole],
        [p.theta_beta for p in whole],
        c=[scores[p] for p in whole],
        s=[10 + 60 * p.w1 / largest for p in whole],
    )
    panel.scatter([p.theta_alpha for p in dropped], [p.theta_beta for p in dropped], marker="_", c="gray")
    panel.scatter(
        [best.theta_alpha], [best.theta_beta], marker="s", s=150, facecolors="none", edgecolors="red"
    )
    panel.set_xlabel("theta_alpha (px); size: w1")
    panel.set_ylabel("theta_beta")
    figure.colorbar(picture, ax=panel, label=label)
