"""Figures of intervals: against the trimap's width, and of each class."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from crfnet.evaluation.bootstrap import Interval
from crfnet.evaluation.trimap import Band
from crfnet.report.figure_text import figure_text
from crfnet.report.metric_intervals import MetricIntervals, class_metric, difference_name, trimap_metric
from crfnet.report.trimap_names import band_meaning, within

__all__ = ["arm_styles", "class_figure", "finish_panel", "trimap_figure"]

#: Colors of Okabe & Ito's palette, which color-blind readers tell apart. A control arm has the lighter hue
#: of its family and is dashed.
STYLES: dict[str, dict[str, Any]] = {
    "unary": {"color": "#404040"},
    "posthoc": {"color": "#0072B2"},
    "joint": {"color": "#D55E00"},
    "unary+": {"color": "#9A9A9A", "linestyle": "--"},
    "posthoc+": {"color": "#56B4E9", "linestyle": "--"},
}
OTHER_COLORS = ("#009E73", "#CC79A7", "#E69F00", "#F0E442")

MEASURES = {"miou": "mean IoU, %", "pixel_accuracy": "pixel accuracy, %"}
MAX_HEIGHT = 24.0  #: inches of the bars of all classes


def arm_styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Line style of each arm."""
    others = cycle(OTHER_COLORS)
    return {name: STYLES[name] if name in STYLES else {"color": next(others)} for name in names}


def trimap_figure(intervals: MetricIntervals, names: Sequence[str], band: Band, max_width: int) -> Figure:
    """mIoU, pixel accuracy, and the mIoU gained on the first arm, each against the width of the band.

    Shaded: 95 % bootstrap intervals; those of the third panel are paired, so that it shows which gains are
    sure even where the intervals of the first two overlap. One arm alone has no third panel.
    """
    styles, widths = arm_styles(names), range(1, max_width + 1)
    first, others = names[0], names[1:]
    figure = Figure(figsize=(4.3 * (3 if others else 2), 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3 if others else 2)
    for panel, (metric, label) in zip(panels, MEASURES.items(), strict=False):
        keys = [trimap_metric(band, metric, width) for width in widths]
        for name in names:
            _curve(panel, [intervals[name, key] for key in keys], name, styles[name])
        _trimap_panel(panel, label)
    panels[0].legend(frameon=False)
    if others:
        panels[2].axhline(0.0, **styles[first], linewidth=1)
        for name in others:
            key = difference_name(name, first)
            found = [intervals[key, trimap_metric(band, "miou", width)] for width in widths]
            _curve(panels[2], found, name, styles[name])
        _trimap_panel(panels[2], f"mean IoU minus {figure_text(first)}, points")
    figure.suptitle(f"Trimap: pixels {within(band, 'w')} ({band_meaning(band)})", fontsize="medium")
    return figure


def class_figure(intervals: MetricIntervals, names: Sequence[str], class_names: Sequence[str]) -> Figure:
    """IoU of each class as one bar per arm, with its 95 % interval; the first class and arm on top."""
    styles = arm_styles(names)
    rows = len(class_names)
    height = min(rows * (0.15 + 0.12 * len(names)), MAX_HEIGHT)
    figure = Figure(figsize=(4.9, 1.2 + height), dpi=150, layout="constrained")  # a phone's width
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    thickness = 0.8 / len(names)
    for index, name in enumerate(names):
        found = [intervals[name, class_metric(class_name)] for class_name in class_names]
        at = [row - 0.4 + (index + 0.5) * thickness for row in range(rows)]
        low, high, estimate = (
            [100 * getattr(each, part) for each in found] for part in ("low", "high", "estimate")
        )
        panel.barh(at, estimate, thickness * 0.9, label=figure_text(name), color=styles[name]["color"])
        panel.hlines(at, low, high, colors="#000000", linewidth=0.8)
    panel.set_yticks(range(rows), [figure_text(each) for each in class_names], fontsize="small")
    panel.set_ylim(rows - 0.5, -0.5)
    panel.set_xlabel("IoU, %")
    panel.set_xlim(0, 100)
    panel.grid(axis="x", color="0.92")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(
        frameon=False,
        fontsize="small",
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=min(len(names), 3),
    )
    return figure


def _curve(panel: Axes, found: Sequence[Interval], name: str, style: dict[str, Any]) -> None:
    """One arm's metric at width 1, 2, ... with their intervals."""
    widths = range(1, len(found) + 1)
    low, high, estimate = (
        [100 * getattr(each, part) for each in found] for part in ("low", "high", "estimate")
    )
    panel.fill_between(widths, low, high, color=style["color"], alpha=0.10, linewidth=0)
    panel.plot(widths, estimate, label=figure_text(name), linewidth=1.6, **style)


def _trimap_panel(panel: Axes, title: str) -> None:
    finish_panel(panel, title, "trimap width w, px")
    panel.margins(x=0.01)


def finish_panel(panel: Axes, title: str, label: str) -> None:
    """Give a panel its title, the label of its axis of whole numbers, a grid and no frame."""
    panel.set_title(title, fontsize="medium")
    panel.set_xlabel(label)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.grid(color="0.92")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
