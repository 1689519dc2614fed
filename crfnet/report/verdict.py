"""Which arm wins: rules over the intervals of differences, and nothing else. No file, no tensor, no text.

A difference is sure where its 95 % interval excludes 0. Two of them decide: mIoU over the image, and mIoU
near the borders (a trimap). A sure gain in one with a sure loss in the other is a conflict, which no rule
settles. Of less than `FEWEST_IMAGES` images nothing is sure: they have no intervals, and decide nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from crfnet.evaluation.bootstrap import Interval
from crfnet.evaluation.trimap import Band
from crfnet.report.metric_intervals import FEWEST_IMAGES, MetricIntervals, class_metric, difference_name

__all__ = ["Costs", "Outcome", "Pair", "Results", "Sign", "Verdict", "changed_classes", "crf_pair", "decide",
           "joint_pair", "outcome", "sign"]  # fmt: skip

Sign: TypeAlias = Literal["gain", "loss", "none", "unknown"]
Outcome: TypeAlias = Literal["gain", "loss", "conflict", "none", "unknown", "few"]
Pair: TypeAlias = tuple[str, str]  #: (arm, minus)

#: What joint training is held against, the fairest first: trained as long, and with a CRF.
_RIVALS = ("posthoc+", "posthoc", "unary+", "unary")
_CRF_PAIRS: tuple[Pair, ...] = (("posthoc", "unary"), ("posthoc+", "unary+"))


@dataclass(frozen=True)
class Costs:
    """What an arm costs; NaN where it was not measured. Seconds per image; seconds; MB; load per core."""

    seconds: float = math.nan
    cpu_seconds: float = math.nan
    train_seconds: float = math.nan
    search_seconds: float = math.nan
    peak_mb: float = math.nan
    load: float = math.nan


@dataclass(frozen=True)
class Results:
    """What a comparison measured, as far as its verdict needs it.

    Attributes:
        names: of the arms, the baseline first.
        intervals: of arms and of their differences.
        class_names: of every class.
        border: the metric near the borders; None where no pixel is near one.
        border_width: of that band, in pixels.
        border_band: around void pixels, or around borders between classes.
        images: how many were scored.
        seeds: with how many every arm was trained.
        costs: by arm.
        seen: of arms whose parameters were chosen on images that are scored here, on how many of them; None
            where nothing tells on which images they were chosen.
    """

    names: Sequence[str]
    intervals: MetricIntervals
    class_names: Sequence[str] = ()
    border: str | None = None
    border_width: int = 3
    border_band: Band = "void"
    images: int = FEWEST_IMAGES
    seeds: int = 1
    costs: Mapping[str, Costs] = field(default_factory=dict)
    seen: Mapping[str, int | None] = field(default_factory=dict)

    def of(self, name: str, metric: str | None) -> Interval:
        """The interval of an arm's metric, or of "a - b"; NaN where there is none."""
        nothing = Interval(math.nan, math.nan, math.nan)
        return nothing if metric is None else self.intervals.get((name, metric), nothing)

    def whole(self, pair: Pair) -> Interval:
        """The difference in mIoU over the image."""
        return self.of(difference_name(*pair), "miou")

    def near(self, pair: Pair) -> Interval:
        """The difference in mIoU near the borders."""
        return self.of(difference_name(*pair), self.border)


@dataclass(frozen=True)
class Verdict:
    """What the comparison comes to.

    Attributes:
        outcome: gain: ``winner`` is better than ``pair[1]`` and than the baseline. conflict: better in one
            place and worse in the other. loss: every other arm is worse than the baseline. none: no
            difference is sure. unknown: there is one arm, or nothing that can be compared. few: there are too
            few images to decide anything.
        winner: the arm to use; where nothing is sure the baseline, which costs least.
        pair: the difference that decided; None for a single arm.
    """

    outcome: Outcome
    winner: str
    pair: Pair | None = None


def sign(found: Interval) -> Sign:
    """What an interval is sure of."""
    if math.isnan(found.estimate) or math.isnan(found.low) or math.isnan(found.high):
        return "unknown"
    if not found.excludes_zero:
        return "none"
    return "gain" if found.low > 0 else "loss"


def outcome(results: Results, pair: Pair) -> Outcome:
    """Image and borders together: what is sure in either, unless the other contradicts it."""
    signs = {sign(results.whole(pair)), sign(results.near(pair))}
    if {"gain", "loss"} <= signs:
        return "conflict"
    found: tuple[Outcome, ...] = ("gain", "loss", "none")
    return next((each for each in found if each in signs), "unknown")


def crf_pair(results: Results) -> Pair | None:
    """The difference that a post-hoc CRF makes to one and the same network."""
    return next((pair for pair in _CRF_PAIRS if set(pair) <= set(results.names)), None)


def joint_pair(results: Results) -> Pair | None:
    """Joint training against the fairest arm that is there."""
    if "joint" not in results.names:
        return None
    return next((("joint", rival) for rival in _RIVALS if rival in results.names), None)


def decide(results: Results) -> Verdict:
    """Go through the candidates, the strongest claim first, and take the first that is better for sure."""
    first = results.names[0]
    candidates = _candidates(results)
    if not candidates or results.images < FEWEST_IMAGES:
        pair = next((pair for pair in candidates if pair[1] == first), None)
        return Verdict("unknown" if pair is None else "few", first, pair)
    for pair in candidates:
        if outcome(results, pair) == outcome(results, (pair[0], first)) == "gain":
            return Verdict("gain", pair[0], pair)
    against_first = {pair: outcome(results, pair) for pair in candidates if pair[1] == first}
    for pair, found in against_first.items():
        if found == "conflict":
            return Verdict("conflict", first, pair)
    seen = set(against_first.values())
    together: Outcome = "loss" if seen == {"loss"} else "unknown" if seen == {"unknown"} else "none"
    return Verdict(together, first, next(iter(against_first)))


def changed_classes(results: Results, pair: Pair) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """The classes whose IoU surely falls, and those whose IoU surely rises, each with it, largest first."""
    found = {name: results.of(difference_name(*pair), class_metric(name)) for name in results.class_names}
    lost = [(name, each.estimate) for name, each in found.items() if sign(each) == "loss"]
    won = [(name, each.estimate) for name, each in found.items() if sign(each) == "gain"]
    return sorted(lost, key=lambda each: each[1]), sorted(won, key=lambda each: -each[1])


def _candidates(results: Results) -> list[Pair]:
    """Joint training, the CRF, longer training; then each arm against the baseline, the best first."""
    first, names = results.names[0], set(results.names)
    known = [pair] if (pair := joint_pair(results)) is not None else []
    longer_pays = sign(results.whole(("unary+", "unary"))) == "gain"
    known += reversed(_CRF_PAIRS) if longer_pays else _CRF_PAIRS
    known.append(("unary+", "unary"))
    by_gain = sorted(
        ((name, first) for name in results.names[1:]),
        key=lambda pair: -_or_lowest(results.whole(pair).estimate),
    )
    return [pair for pair in dict.fromkeys((*known, *by_gain)) if set(pair) <= names and pair[0] != first]


def _or_lowest(value: float) -> float:
    return -math.inf if math.isnan(value) else value
