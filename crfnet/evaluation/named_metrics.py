"""Every metric by its name: what is summed over images, and the metric of the sum; all can be resampled.

Names: ``miou``, ``pixel_accuracy``, ``mean_accuracy``, ``weighted_iou``, ``boundary_iou``, ``boundary_f``,
and inside a trimap ``trimap_BAND/METRIC@WIDTH`` with one of the first four, such as ``trimap_void/miou@5``.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
from torch import Tensor

from crfnet.errors import InputError
from crfnet.evaluation.bootstrap import Interval, PerImage, Statistic, bootstrap, seeds_bootstrap
from crfnet.evaluation.boundary import boundary_f
from crfnet.evaluation.confusion import Absent, tallies, tally_metrics
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.evaluation.trimap import BANDS, Band

__all__ = ["MEANS", "Arm", "NamedMetric", "difference", "interval", "named_metric"]

MEANS = ("miou", "pixel_accuracy", "mean_accuracy", "weighted_iou")  #: of the whole image and of each trimap

Arm: TypeAlias = Evaluation | Sequence[Evaluation]  #: of one training seed or of several


@dataclass(frozen=True)
class NamedMetric:
    """A metric of sums over images.

    Attributes:
        name: as above.
        per_image: what is added up, (i, *counts).
        statistic: the metric of sums, (..., *counts) -> (...), a fraction in 0..1.
    """

    name: str
    per_image: Callable[[Evaluation], PerImage]
    statistic: Statistic

    def score(self, evaluation: Evaluation) -> float:
        """The metric of all images together; NaN where nothing defines it."""
        return float(self.statistic(self.per_image(evaluation).sum(0).double()))


def named_metric(name: str, absent: Absent = "skip") -> NamedMetric:
    """Find the metric of that name; for ``absent`` see `crfnet.evaluation.confusion.metrics`.

    The F-score knows no absent classes: its mean is over the classes of each image.

    Raises:
        InputError: no metric has that name.
    """
    if name == "boundary_f":
        return NamedMetric(
            name, lambda e: boundary_f(e.contour_matches), lambda sums: sums[..., 0] / sums[..., 1]
        )
    if name == "boundary_iou":
        return NamedMetric(name, lambda e: e.boundary_tallies, _mean("miou", absent))
    if name in MEANS:
        return NamedMetric(name, lambda e: tallies(e.confusion), _mean(name, absent))
    found = re.fullmatch(rf"trimap_({'|'.join(BANDS)})/({'|'.join(MEANS)})@([1-9]\d*)", name)
    if found is None:
        allowed = f"{', '.join(MEANS)}, boundary_iou, boundary_f, trimap_{BANDS[0]}/{MEANS[0]}@5 and the like"
        raise InputError(f"metric is {name!r}, must be one of {allowed}")
    band, width = cast(Band, found[1]), int(found[3])
    return NamedMetric(name, lambda e: e.trimap_tallies(band, width), _mean(found[2], absent))


def interval(arm: Evaluation, name: str, config: EvaluationConfig) -> Interval:
    """A score of one arm with its bootstrap interval over images."""
    metric = named_metric(name, config.absent)
    return bootstrap(metric.per_image(arm), metric.statistic, config.draws, config.seed)


def difference(a: Arm, b: Arm, name: str, config: EvaluationConfig, *, paired: bool = False) -> Interval:
    """The score of ``b`` minus that of ``a`` with its bootstrap interval over images, and seeds if several.

    Args:
        a: one evaluation, or those of several training seeds.
        b: the same of the other arm; its number of seeds may differ.
        name: of the metric.
        config: draws, seed and what absent classes count.
        paired: seed k of both arms belongs together; see `seeds_bootstrap`.

    Raises:
        InputError: the evaluations differ in images, classes, widths or element; or no such metric.
    """
    metric = named_metric(name, config.absent)
    arms = [[arm] if isinstance(arm, Evaluation) else list(arm) for arm in (a, b)]
    _check([each for arm in arms for each in arm])
    first, second = (torch.stack([metric.per_image(each) for each in arm]) for arm in arms)
    return seeds_bootstrap(first, second, metric.statistic, config.draws, config.seed, paired=paired)


def _mean(name: str, absent: Absent) -> Callable[[Tensor], Tensor]:
    def statistic(sums: Tensor) -> Tensor:
        found: Tensor = getattr(tally_metrics(sums, absent), name)
        return found

    return statistic


def _check(evaluations: Sequence[Evaluation]) -> None:
    if not evaluations:
        raise InputError("an arm has no evaluation, must be at least one")
    for quantity in ("ids", "num_classes", "max_width", "element", "boundary"):
        if any(getattr(each, quantity) != getattr(evaluations[0], quantity) for each in evaluations):
            raise InputError(
                f"the evaluations differ in {quantity}, must be of the same images, scored alike"
            )
