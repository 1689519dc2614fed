"""Points of the CRF's parameter space, the published ranges, and finer grids around a best point.

Chen et al. 2018 (DeepLab v2), section 4.1.1: w2 = theta_gamma = 3 and 10 iterations are fixed; w1,
theta_alpha and theta_beta are searched on 100 validation images, coarse to fine. The papers call the thetas
sigma.
"""

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

__all__ = [
    "AXES",
    "LARGEST",
    "PRESETS",
    "SMALLEST",
    "Grid",
    "Point",
    "finer_grid",
    "first_best",
    "round_digits",
]


class Point(NamedTuple):
    """One set of CRF parameters.

    Attributes:
        w1: weight of the bilateral kernel.
        theta_alpha: its width in pixels.
        theta_beta: its width in color (0..255).
        w2: weight of the spatial kernel.
        theta_gamma: its width in pixels.
        iterations: mean-field iterations.
    """

    w1: float
    theta_alpha: float
    theta_beta: float
    w2: float = 3.0
    theta_gamma: float = 3.0
    iterations: int = 10


AXES = Point._fields
SMALLEST, LARGEST = 1e-6, 1e6  #: values of an axis, but for a weight of 0

#: The published coarse ranges, by name.
PRESETS: dict[str, dict[str, tuple[float, ...]]] = {
    # v2, section 4.1.1: w1 in [3:6], sigma_alpha in [30:10:100], sigma_beta in [3:6].
    "v2": {
        "w1": (3.0, 4.0, 5.0, 6.0),
        "theta_alpha": (30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0),
        "theta_beta": (3.0, 4.0, 5.0, 6.0),
    },
    # v1, section 5: w1 in {5, 10}, sigma_alpha in [50:10:100], sigma_beta in [3:1:10].
    "v1": {
        "w1": (5.0, 10.0),
        "theta_alpha": (50.0, 60.0, 70.0, 80.0, 90.0, 100.0),
        "theta_beta": (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0),
    },
    # python/my_script/crf_runner.py of the public Python scripts for v1's code (TheLegendAli).
    "v1-runner": {
        "w1": (5.0, 10.0),
        "theta_alpha": (40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0),
        "theta_beta": (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0),
    },
}


class Grid(NamedTuple):
    """The values of each axis in one round, increasing."""

    w1: tuple[float, ...]
    theta_alpha: tuple[float, ...]
    theta_beta: tuple[float, ...]
    w2: tuple[float, ...] = (3.0,)
    theta_gamma: tuple[float, ...] = (3.0,)
    iterations: tuple[int, ...] = (10,)

    def points(self) -> tuple[Point, ...]:
        """All combinations, in the order that decides ties: w1 outermost, iterations innermost."""
        axes = [tuple(map(round_digits, axis)) for axis in self[:-1]]
        return tuple(itertools.starmap(Point, itertools.product(*axes, self.iterations)))


def finer_grid(coarse: Grid, best: Point, round_number: int) -> Grid:
    """The grid of round 2, 3, ...: on every axis best - s, best, best + s, those > 0, and 0 if it was tried.

    s is the axis' first-round step halved once per finer round, the step being the smallest distance between
    neighboring values. An axis with one value has no step and stays as it is. Iterations are rounded to
    integers, without duplicates.
    """
    axes: dict[str, tuple[float, ...]] = {}
    for name, values, center in zip(AXES, coarse, best, strict=True):
        if len(values) == 1:
            axes[name] = values
            continue
        step = min(b - a for a, b in itertools.pairwise(values)) / 2 ** (round_number - 1)
        around = [round_digits(float(v)) for v in (center - step, center, center + step)]
        if name == "iterations":
            around = sorted({round(v) for v in around})
        axes[name] = tuple(v for v in around if v > 0 or (v == 0 and 0 in values))
    return Grid(**axes)  # type: ignore[arg-type]


def first_best(metrics: Mapping[Point, float]) -> Point:
    """The point of the highest metric; of equal ones the first in the mapping's order. NaN never wins."""
    return max(metrics, key=lambda point: -1.0 if math.isnan(metrics[point]) else metrics[point])


def round_digits(value: float) -> float:
    """Round to nine significant digits, so that 0.1 + 0.2 is the 0.3 of another round."""
    return float(f"{value:.9g}")
