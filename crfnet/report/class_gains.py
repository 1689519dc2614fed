"""What every arm gains and loses on its control, class by class: a line of text and a panel for each pair."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from crfnet.evaluation.bootstrap import Interval
from crfnet.report.arms import compared_pairs
from crfnet.report.document import Block, Bullets, Plot, arm_label, plain
from crfnet.report.figure_text import figure_text
from crfnet.report.metric_figures import MAX_HEIGHT
from crfnet.report.metric_intervals import MetricIntervals, class_metric, difference_name
from crfnet.report.numbers import signed

__all__ = ["class_gain_blocks", "class_gain_figure", "control_pairs"]

#: Each arm with the one that has the same network or the same training, but not the arm's own part.
_CONTROLS = (
    ("posthoc", "unary"),
    ("posthoc+", "unary+"),
    ("joint", "unary+"),
    ("joint", "posthoc+"),
    ("dt", "unary"),
    ("dt+", "unary+"),
    ("dt_joint", "dt+"),
)
_MOST_PANELS = 6
_NAMED = 5  #: classes that a line of text names, of those that gain and of those that lose
_GAIN, _LOSS, _UNSURE = "#0072B2", "#D55E00", "#B5B5B5"  # Okabe & Ito


def control_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """The arms that are there with their controls; arms without a known one with the first arm."""
    pairs = [pair for pair in _CONTROLS if set(pair) <= set(names)]
    alone = {name for name in names[1:] if name not in {arm for arm, _ in pairs} | {"unary", "unary+"}}
    pairs += [pair for pair in compared_pairs(names) if pair[0] in alone and pair[1] == names[0]]
    return (pairs or list(compared_pairs(names)))[:_MOST_PANELS]


def class_gain_blocks(
    names: Sequence[str], intervals: MetricIntervals, class_names: Sequence[str]
) -> list[Block]:
    """For which classes each arm surely gains and surely loses on its control, in words and as bars."""
    pairs = control_pairs(names)
    if not pairs:
        return []
    figure = class_gain_figure(intervals, pairs, class_names)
    shown = ", ".join(f"{arm} minus {minus}" for arm, minus in pairs)
    sure = [
        _in_words(pair, intervals, class_names) for pair in pairs if _bounded(pair, intervals, class_names)
    ]
    return [
        *([Bullets(sure)] if sure else []),
        Plot(
            "class_gains",
            f"Bars of the IoU gained for each class: {shown}; the numbers are in the table",
            figure,
        ),
    ]


def _bounded(pair: tuple[str, str], intervals: MetricIntervals, class_names: Sequence[str]) -> bool:
    """Whether there were images enough for intervals."""
    return any(not math.isnan(gain.low) for gain in _gains(pair, intervals, class_names).values())


def _in_words(pair: tuple[str, str], intervals: MetricIntervals, class_names: Sequence[str]) -> str:
    found = _gains(pair, intervals, class_names)
    sides = []
    for word, sign in (("gains", 1), ("loses", -1)):
        sure = {name: gain.estimate for name, gain in found.items() if gain.excludes_zero}
        those = sorted((name for name in sure if sure[name] * sign > 0), key=lambda name: -sign * sure[name])
        named = ", ".join(f"{plain(name)} {signed(sure[name])}" for name in those[:_NAMED])
        more = f" and {len(those) - _NAMED} more" if len(those) > _NAMED else ""
        sides.append(
            f"surely {word} for {len(those)} of {len(found)} classes" + (f" ({named}{more})" if those else "")
        )
    return f"{arm_label(pair[0])} − {arm_label(pair[1])}: {'; '.join(sides)}."


def class_gain_figure(
    intervals: MetricIntervals, pairs: Sequence[tuple[str, str]], class_names: Sequence[str]
) -> Figure:
    """A panel for each pair, a bar with its 95 % interval for each class; gray where that includes 0."""
    rows = len(class_names)
    size = (1.3 + 2.4 * len(pairs), 1.5 + min(0.22 * rows, MAX_HEIGHT))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
    for panel, pair in zip(panels, pairs, strict=True):
        _draw(panel, list(_gains(pair, intervals, class_names).values()))
        panel.set_title(f"{figure_text(pair[0])} − {figure_text(pair[1])}", fontsize="medium")
    panels[0].set_yticks(range(rows), [figure_text(each) for each in class_names], fontsize="small")
    panels[0].set_ylim(rows - 0.5, -0.5)
    bounded = any(_bounded(pair, intervals, class_names) for pair in pairs)
    gray = "; gray: the 95 % interval includes 0" if bounded else ""
    figure.supxlabel(f"IoU gained, points{gray}", fontsize="small")
    return figure


def _gains(
    pair: tuple[str, str], intervals: MetricIntervals, class_names: Sequence[str]
) -> dict[str, Interval]:
    name = difference_name(*pair)
    return {each: intervals[name, class_metric(each)] for each in class_names}


def _draw(panel: Any, gains: Sequence[Interval]) -> None:
    at = range(len(gains))
    colors = [_UNSURE if not each.excludes_zero else _GAIN if each.estimate > 0 else _LOSS for each in gains]
    panel.barh(at, [100 * each.estimate for each in gains], 0.7, color=colors)
    panel.hlines(
        at, [100 * each.low for each in gains], [100 * each.high for each in gains], "#000000", linewidth=0.8
    )
    panel.axvline(0.0, color="#404040", linewidth=0.8)
    panel.grid(axis="x", color="0.92")
    panel.set_axisbelow(True)
    panel.tick_params(labelsize="small")
    panel.spines[["top", "right"]].set_visible(False)
