"""Metrics that a search can maximize. A new criterion is a line in `CRITERIA`.

Each is computed from counts of single images that may be added up: over all images, over those of a fold,
over those that a race has seen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

from crfnet.evaluation.boundary import BoundaryConfig, boundary_f, contour_matches
from crfnet.evaluation.confusion import Prediction, confusion_matrix, metrics
from crfnet.evaluation.trimap import band_distance
from crfnet.labels import VOID
from crfnet.search.config import SearchConfig
from crfnet.shapes import LabelMap

__all__ = ["CRITERIA", "Counts", "Criterion"]

_BILLION = 10**9

Counts: TypeAlias = Int[Tensor, "*counts"]  #: of one image or of several together


@dataclass(frozen=True)
class Criterion:
    """A metric of label maps in 0..1.

    Attributes:
        label: its name in tables and plots.
        prepare: (labels, config) -> the target that `count` needs; computed once per image.
        count: (prediction, target, num_classes) -> counts.
        metric: (..., *counts) -> (...); NaN where it is not defined.
        uses_confusion: whether the counts are the confusion matrix itself.
    """

    label: str
    prepare: Callable[[LabelMap, SearchConfig], Any]
    count: Callable[[Prediction, Any, int], Counts]
    metric: Callable[[Tensor], Float[Tensor, "..."]]
    uses_confusion: bool = False


def _trimap_labels(labels: LabelMap, config: SearchConfig) -> LabelMap:
    """The labels, void outside the trimap."""
    distance = band_distance(labels, config.trimap.band)
    return labels.masked_fill(distance > config.trimap.width, VOID)


def _labels_and_width(labels: LabelMap, config: SearchConfig) -> tuple[LabelMap, float]:
    """The labels, and the distance in pixels at which contours match."""
    height, width = labels.shape
    return labels, BoundaryConfig(f_width=config.boundary.width).f_pixels(height, width)


def _boundary_counts(prediction: Prediction, target: tuple[LabelMap, float], num_classes: int) -> Counts:
    """(F, 1) of one image in billionths, so that they are integers; (0, 0) without a border."""
    matches = contour_matches(prediction, target[0], num_classes, target[1])
    return (_BILLION * boundary_f(matches)).round().long()


def _mean_boundary_f(counts: Tensor) -> Float[Tensor, "..."]:
    """The mean of F over images."""
    return counts[..., 0].double() / counts[..., 1]


def _miou(confusions: Tensor) -> Float[Tensor, "..."]:
    return metrics(confusions).miou


CRITERIA: dict[str, Criterion] = {
    "miou": Criterion("mIoU", lambda labels, config: labels, confusion_matrix, _miou, uses_confusion=True),
    "boundary": Criterion("boundary F", _labels_and_width, _boundary_counts, _mean_boundary_f),
    "trimap": Criterion("trimap mIoU", _trimap_labels, confusion_matrix, _miou),
}
