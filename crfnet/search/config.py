"""What is searched, on how much, by which rule and where it is kept: the section ``search:`` of a config."""

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

from crfnet.config.variants import check_choices, free, free_keys, section, to_plain
from crfnet.crf.config import MAX_ITERATIONS
from crfnet.errors import require
from crfnet.evaluation.trimap import Band
from crfnet.search.grid import AXES, LARGEST, PRESETS, SMALLEST, Grid

__all__ = ["BoundaryCriterion", "DrawnPoints", "SearchConfig", "TrimapCriterion"]


@dataclass(frozen=True)
class TrimapCriterion:
    """The criterion trimap: mIoU inside a band around object borders.

    Attributes:
        width: half width of the band in pixels, >= 1.
        band: around void pixels (VOC's ribbon), or around every change of label.
    """

    width: int = 5
    band: Band = "void"

    def __post_init__(self) -> None:
        check_choices(self, "")
        require("width", self.width, self.width >= 1, ">= 1")


@dataclass(frozen=True)
class BoundaryCriterion:
    """The criterion boundary: F-score of the borders, mean over images.

    Attributes:
        width: how near to a border is right, a fraction of the image diagonal (from 1 on: pixels).
    """

    width: float = 0.0075

    def __post_init__(self) -> None:
        require("width", self.width, 0 < self.width < math.inf, "a number > 0")


@dataclass(frozen=True)
class DrawnPoints:
    """A sampler that draws points instead of going through a grid.

    Attributes:
        trials: number of points, >= 1.
    """

    trials: int = 100

    def __post_init__(self) -> None:
        require("trials", self.trials, 1 <= self.trials <= 10**6, ">= 1, at most 1000000")


@dataclass(frozen=True)
class SearchConfig:
    """What is searched, and on how much; the defaults are the ranges of DeepLab v2.

    An axis is a list of increasing values; w2, theta_gamma and iterations may be one number, which is fixed.

    Attributes:
        images: how many images are drawn from those offered.
        seed: of the draw, and of everything else that is random in a search.
        preset: the published ranges that w1, theta_alpha and theta_beta have unless they are given: v2 (128
            points), v1 (the text of the v1 paper, 96) or v1-runner (a public script for v1's code, 112).
        w1: first-round weights of the bilateral kernel; null is the preset's.
        theta_alpha: first-round position widths in pixels; null is the preset's.
        theta_beta: first-round color widths (0..255); null is the preset's.
        rounds: of the sampler grid: 1 is the coarse grid alone; every further round halves the steps.
        w2: weight of the spatial kernel; 0 leaves it out.
        theta_gamma: width of the spatial kernel in pixels.
        iterations: mean-field iterations.
        normalization: of both kernels; found parameters hold for this one only.
        criterion: what the winner has the highest of: miou, trimap (mIoU inside a band around object
            borders) or boundary (F-score of the borders, mean over images).
        trimap: of the criterion trimap.
        boundary: of the criterion boundary.
        sampler: grid; random (points drawn from the same ranges) or tpe (drawn where earlier ones were good).
        random: of the sampler random.
        tpe: of the sampler tpe.
        racing: 0 scores every point on every image. Above: the chance that a search may drop its best point,
            e.g. 0.05; points that cannot win any more are then dropped early.
        folds: 0 chooses and reports on the same images. k >= 2 reports each of k parts with the parameters
            chosen on the others as well (honest score); best.yaml is chosen on all either way.
        prune: labels below this probability at every pixel of an image are not filtered; 0 filters all. For
            a GPU: on a CPU messages are reduced instead, see `MeanField`.
        tolerance: on a CPU eight neighboring pixels are settled when no marginal of theirs changes by more
            than this; then they take no further part. 0 has every pixel take all iterations.
        workers: processes on this machine, one thread each; 0 is one per core, 1 is this process alone.
        storage: database that several machines share (postgresql+psycopg://...); empty is study.db, SQLite,
            in the output folder.
        study: name of the search in that database.

    Raises:
        InputError: a value out of its range; the message names the key.
    """

    images: int = 100
    seed: int = 10
    preset: Literal["v2", "v1", "v1-runner"] = "v2"
    w1: tuple[float, ...] | None = None
    theta_alpha: tuple[float, ...] | None = None
    theta_beta: tuple[float, ...] | None = None
    rounds: int = 2
    w2: tuple[float, ...] | float = 3.0
    theta_gamma: tuple[float, ...] | float = 3.0
    iterations: tuple[int, ...] | int = 10
    normalization: Literal["after", "symmetric", "before", "none"] = "after"
    criterion: Literal["miou", "trimap", "boundary"] = "miou"
    trimap: TrimapCriterion = section(TrimapCriterion, "criterion", ("trimap",))
    boundary: BoundaryCriterion = section(BoundaryCriterion, "criterion", ("boundary",))
    sampler: Literal["grid", "random", "tpe"] = "grid"
    random: DrawnPoints = section(DrawnPoints, "sampler", ("random",))
    tpe: DrawnPoints = section(DrawnPoints, "sampler", ("tpe",))
    racing: float = 0.0
    folds: int = 0
    prune: float = 0.0
    tolerance: float = 3e-3
    workers: int = free(1)
    storage: str = free("")
    study: str = free("crfnet-search")

    def __post_init__(self) -> None:
        check_choices(self, "search.")
        for key, least in _LEAST.items():
            self._require(key, getattr(self, key) >= least, f"{least} or more")
        self._require("rounds", self.rounds <= _MOST_ROUNDS, f"at most {_MOST_ROUNDS}")
        for key, axis in self.grid()._asdict().items():
            floor = "numbers >= 0" if key == "w2" else "numbers > 0"
            good = all(math.isfinite(v) and (v > 0 or (key == "w2" and v == 0)) for v in axis)
            good &= bool(axis) and all(a < b for a, b in itertools.pairwise(axis))
            self._require(key, good, f"one or more {floor}, increasing")
            most = MAX_ITERATIONS if key == "iterations" else LARGEST
            within = all(v == 0 or SMALLEST <= v <= most for v in axis)
            self._require(key, within, f"{floor}, from {SMALLEST:g} to {most:g}")
        self._require("racing", 0 <= self.racing <= 0.5, "in [0, 0.5]")
        self._require("folds", self._folds_fit(), f"0, or 2 to {self.images} (images)")
        self._require("prune", 0 <= self.prune < 1, "in [0, 1)")
        self._require("tolerance", 0 <= self.tolerance < 0.5, "in [0, 0.5)")
        self._require("study", bool(self.study.strip()), "a name")

    def _folds_fit(self) -> bool:
        return self.folds == 0 or 2 <= self.folds <= self.images

    def grid(self) -> Grid:
        """The values of every axis: those given, else the preset's, else one number."""
        axes: dict[str, Any] = {}
        for name in AXES:
            given = getattr(self, name)
            values = PRESETS[self.preset][name] if given is None else given
            axes[name] = values if isinstance(values, tuple) else (values,)
        return Grid(**axes)

    def facts(self) -> dict[str, Any]:
        """Everything that the result depends on, the preset resolved, as JSON values."""
        left_out = free_keys(SearchConfig) | {"preset"}
        kept = {name: value for name, value in to_plain(self).items() if name not in left_out}
        return kept | {name: list(values) for name, values in self.grid()._asdict().items()}

    def _require(self, key: str, holds: bool, allowed: str) -> None:
        require(f"search.{key}", getattr(self, key), holds, allowed)


_MOST_ROUNDS = 20  #: whose last step is a millionth of the first
_LEAST = {"images": 1, "seed": 0, "rounds": 1, "folds": 0, "workers": 0}
