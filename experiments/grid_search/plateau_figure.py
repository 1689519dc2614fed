"""The figure of `plateau.py`: a row of panels for each search."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.tri import Triangulation

from crfnet.report.numbers import percent, points
from crfnet.search.grid import Point

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from plateau import Plateau

WITHIN = 0.1  #: points of mIoU
MARKERS = dict(zip(("DeepLab v1", "DeepLab v2", "CRF-as-RNN", "pydensecrf"), "os^D", strict=True))
COLORS = dict(zip(MARKERS, ("#D55E00", "#CC79A7", "#E69F00", "#F0E442"), strict=True))


def draw(path: Path, plateaus: "Sequence[Plateau]") -> None:
    """Write the figure: what is left of the optimum over the widths, and mIoU over w1."""
    figure = Figure(figsize=(15.5, 3.6 * len(plateaus)), dpi=90, layout="constrained")
    rows = figure.subplots(len(plateaus), 4, squeeze=False, width_ratios=(4, 4, 3.5, 2.5))
    for plateau, (fixed, free, weights, words) in zip(plateaus, rows, strict=True):
        w1 = common_w1(plateau)
        at_w1 = {point: point for point in plateau.scores if point.w1 == w1}
        widths(figure, fixed, plateau, list(at_w1), f"w1 = {w1:g}")
        widths(figure, free, plateau, best_over_w1(plateau), "the best w1 at every point")
        over_w1(weights, plateau)
        fixed.set_title(f"{plateau.normalization}: {fixed.get_title()}", fontsize="medium")
        words.set_axis_off()
        words.legend(*handles_of(weights, plateau), fontsize=8, loc="center left", frameon=False)
    figure.savefig(path)


def common_w1(plateau: "Plateau") -> float:
    """The w1 nearest the best one that was tried with most widths: finer rounds try few."""
    tried = {w1: sum(point.w1 == w1 for point in plateau.scores) for w1 in {p.w1 for p in plateau.scores}}
    many = [w1 for w1, number in tried.items() if 2 * number >= max(tried.values())]
    return min(many, key=lambda w1: (abs(w1 - plateau.best.w1), w1))


def best_over_w1(plateau: "Plateau") -> list[Point]:
    found: dict[tuple[float, float], Point] = {}
    for point in sorted(plateau.scores, key=plateau.scores.__getitem__):
        found[point.theta_alpha, point.theta_beta] = point
    return list(found.values())


def widths(figure: Figure, panel: Any, plateau: "Plateau", those: list[Point], title: str) -> None:
    """What the points lose on the optimum, over their widths."""
    x, y = (np.log([getattr(p, axis) for p in those]) for axis in ("theta_alpha", "theta_beta"))
    loss = np.array([100 * plateau.behind[point].estimate for point in those])
    high = np.array([100 * plateau.behind[point].high for point in those])
    lowest = min(100 * gap.estimate for gap in plateau.behind.values()) - 1e-3
    limits = {"vmin": lowest, "vmax": 0.0, "cmap": "viridis"}
    triangles = triangulation(x, y)
    if triangles is not None:
        panel.tricontourf(triangles, loss, np.linspace(lowest, 0.0, 13), **limits)
        for values, level, style in ((loss, -WITHIN, "solid"), (high, 0.0, "dashed")):
            if values.min() < level < values.max():
                panel.tricontour(triangles, values, [level], colors="white", linestyles=style)
    image = panel.scatter(x, y, c=loss, s=18, edgecolors="0.3", linewidths=0.4, **limits)
    told = high >= 0
    panel.scatter(x[told], y[told], s=50, facecolors="none", edgecolors="black", linewidths=0.8)
    if plateau.best in those:
        at = those.index(plateau.best)
        panel.plot(x[at], y[at], "*", color="red", markersize=13, markeredgecolor="white", zorder=5)
    named = [point for point, _, _ in plateau.published.values() if point is not None]
    for name, (point, _, _) in plateau.published.items():
        if point is not None:
            panel.plot(*np.log(point[1:3]), MARKERS[name], color=COLORS[name], markersize=8, mec="black")
    for axis, label, ticks in (
        ("x", "theta_alpha (px)", sorted({p.theta_alpha for p in (*those, *named)})),
        ("y", "theta_beta (0..255)", sorted({p.theta_beta for p in (*those, *named)})),
    ):
        few = spread(ticks)
        getattr(panel, f"set_{axis}ticks")(np.log(few), [f"{tick:g}" for tick in few], fontsize=7)
        getattr(panel, f"set_{axis}label")(label)
    panel.set_title(title, fontsize="medium")
    figure.colorbar(image, ax=panel, label="mIoU minus the best, points", pad=0.02)


def triangulation(x: np.ndarray, y: np.ndarray) -> Triangulation | None:
    """None where the points lie on a line."""
    flat = len({*x}) < 2 or len({*y}) < 2
    return None if flat or len(x) < 3 else Triangulation(x, y)


def spread(values: "Sequence[float]") -> list[float]:
    """Those that are an eighth apart at least, so that numbers do not touch."""
    kept: list[float] = []
    for value in values:
        if not kept or value >= 1.12 * kept[-1]:
            kept.append(value)
    return kept


def over_w1(panel: Any, plateau: "Plateau") -> None:
    """The best widths at every w1, and the best point's widths at those that were tried with them."""
    best = plateau.best
    kinds: Mapping[str, Callable[[Point], bool]] = {
        "best widths at every w1": lambda _: True,
        f"theta_alpha {best.theta_alpha:g}, theta_beta {best.theta_beta:g}": lambda p: p[1:3] == best[1:3],
    }
    shown: list[float] = []
    for (name, holds), style in zip(kinds.items(), ("-", "--"), strict=True):
        tops: dict[float, Point] = {}
        for point in sorted(filter(holds, plateau.scores), key=plateau.scores.__getitem__):
            tops[point.w1] = point
        w1 = sorted(tops)
        loss, low, high = (
            [100 * getattr(plateau.behind[tops[each]], part) for each in w1]
            for part in ("estimate", "low", "high")
        )
        shown += low
        panel.plot(w1, loss, f"o{style}", color="#0072B2", markersize=4, label=name)
        if style == "-":
            panel.fill_between(w1, low, high, color="#0072B2", alpha=0.12, linewidth=0)
    panel.axhline(-WITHIN, color="0.5", linewidth=0.8)
    for name, (point, _, gap) in plateau.published.items():
        if point is not None:
            panel.plot(
                point.w1, 100 * gap.estimate, MARKERS[name], color=COLORS[name], markersize=8, mec="black"
            )
        else:
            panel.axhline(100 * gap.estimate, color="black", linestyle=":", label=f"{name}: {points(gap)}")
    panel.set_yscale("symlog", linthresh=0.5)
    ticks = [-0.1, -0.25, -0.5, -1.0, -2.0, -5.0, -10.0]
    lowest = min([*shown, *(100 * gap.estimate for _, _, gap in plateau.published.values())])
    panel.set_yticks([0.0, *ticks], ["0", *(f"{tick:g}" for tick in ticks)])
    panel.set_ylim(1.3 * lowest - 0.1, 0.15)
    panel.set_xlabel("w1")
    panel.set_ylabel("mIoU minus the best, points")
    panel.set_title(f"over w1; the best has {percent(plateau.scores[best])} %", fontsize="medium")
    panel.grid(color="0.92")
    panel.set_axisbelow(True)


def handles_of(panel: Any, plateau: "Plateau") -> tuple[list[Any], list[str]]:
    handles, labels = panel.get_legend_handles_labels()
    for name, (point, _, gap) in plateau.published.items():
        if point is not None:
            handles.append(
                Line2D([], [], marker=MARKERS[name], color=COLORS[name], mec="black", linestyle="")
            )
            labels.append(f"{name} {point.w1:g}, {point.theta_alpha:g}, {point.theta_beta:g}: {points(gap)}")
    ring = {"marker": "o", "mfc": "none", "mec": "black", "linestyle": ""}
    handles += [Line2D([], [], marker="*", color="red", linestyle=""), Line2D([], [], **ring)]
    labels += ["best", "not told from it (95 %, paired)"]
    handles += [Line2D([], [], color="0.6"), Line2D([], [], color="0.6", linestyle="--")]
    labels += [f"within {WITHIN:g} points (white on the maps)", "edge of what is not told from it"]
    return handles, labels
