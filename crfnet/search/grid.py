"""The grid of DeepLab's CRF cross-validation: coarse ranges, then finer rounds around the best point.

Chen et al. 2018 (DeepLab v2), section 4.1.1: w2 = theta_gamma = 3 and 10 iterations are fixed; w1,
theta_alpha and theta_beta are searched on 100 validation images, coarse to fine. The papers call the thetas
sigma.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from crfnet.crf.normalization import NORMALIZATIONS
from crfnet.errors import InputError

__all__ = ["AXES", "Grid", "Point", "SearchConfig", "coarse_grid", "finer_grid", "first_best"]


class Point(NamedTuple):
    """One candidate: weight of the bilateral kernel, its width in pixels, its width in colour (0..255)."""

    w1: float
    theta_alpha: float
    theta_beta: float


AXES = Point._fields


@dataclass(frozen=True)
class SearchConfig:
    """What is searched, and on how much; the defaults are the ranges of DeepLab v2.

    Attributes:
        images: how many images are drawn from those offered.
        seed: of the draw.
        w1: first-round weights of the bilateral kernel, increasing.
        theta_alpha: first-round position widths in pixels, increasing.
        theta_beta: first-round colour widths (0..255), increasing.
        rounds: 1 is the coarse grid alone; every further round halves the steps.
        w2: weight of the spatial kernel, fixed; 0 leaves it out.
        theta_gamma: width of the spatial kernel in pixels, fixed.
        iterations: mean-field iterations.
        normalization: of both kernels; found parameters hold for this one only.

    Raises:
        InputError: a value out of its range; the message names the key.
    """

    images: int = 100
    seed: int = 10
    w1: tuple[float, ...] = (3.0, 4.0, 5.0, 6.0)
    theta_alpha: tuple[float, ...] = (30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0)
    theta_beta: tuple[float, ...] = (3.0, 4.0, 5.0, 6.0)
    rounds: int = 2
    w2: float = 3.0
    theta_gamma: float = 3.0
    iterations: int = 10
    normalization: Literal["after", "symmetric", "before", "none"] = "after"

    def __post_init__(self) -> None:
        for key in ("images", "rounds", "iterations"):
            _allow(key, getattr(self, key), "1 or more", getattr(self, key) >= 1)
        for key in AXES:
            axis = getattr(self, key)
            positive = all(math.isfinite(v) and v > 0 for v in axis)
            increasing = all(a < b for a, b in itertools.pairwise(axis))
            _allow(key, axis, "one or more numbers > 0, increasing", bool(axis) and positive and increasing)
        _allow("seed", self.seed, "0 or more", self.seed >= 0)
        _allow("w2", self.w2, "a number >= 0", math.isfinite(self.w2) and self.w2 >= 0)
        _allow("theta_gamma", self.theta_gamma, "a number > 0", 0 < self.theta_gamma < math.inf)
        allowed = "one of " + ", ".join(NORMALIZATIONS)
        _allow("normalization", self.normalization, allowed, self.normalization in NORMALIZATIONS)


class Grid(NamedTuple):
    """The values of each axis in one round, increasing."""

    w1: tuple[float, ...]
    theta_alpha: tuple[float, ...]
    theta_beta: tuple[float, ...]

    def points(self) -> tuple[Point, ...]:
        """All combinations, in the order that decides ties: w1 outermost, theta_beta innermost."""
        return tuple(itertools.starmap(Point, itertools.product(*self)))


def coarse_grid(config: SearchConfig) -> Grid:
    """The grid of round 1: the configured values."""
    return Grid(*(tuple(map(_tidy, getattr(config, axis))) for axis in AXES))


def finer_grid(config: SearchConfig, best: Point, round_number: int) -> Grid:
    """The grid of round 2, 3, ...: on every axis best - s, best, best + s, those > 0.

    s is the axis' first-round step halved once per finer round, the step being the smallest distance between
    neighbouring values. An axis with one value has no step and stays as it is.
    """
    axes: list[tuple[float, ...]] = []
    for values, centre in zip(coarse_grid(config), best, strict=True):
        if len(values) == 1:
            axes.append(values)
            continue
        step = min(b - a for a, b in itertools.pairwise(values)) / 2 ** (round_number - 1)
        axes.append(tuple(v for v in map(_tidy, (centre - step, centre, centre + step)) if v > 0))
    return Grid(*axes)


def first_best(miou: Mapping[Point, float]) -> Point:
    """The point of the highest mIoU; of equal ones the first in the mapping's order."""
    return max(miou, key=miou.__getitem__)


def _tidy(value: float) -> float:
    """Nine significant digits, so that 0.1 + 0.2 is the 0.3 of another round."""
    return float(f"{value:.9g}")


def _allow(key: str, value: object, allowed: str, good: bool) -> None:
    if not good:
        raise InputError(f"search.{key} is {value!r}; expected {allowed}")
