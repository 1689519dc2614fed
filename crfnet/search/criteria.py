"""What the winner has the highest of. A new criterion is a line in `CRITERIA`.

Each is computed from counts of single images that may be added up: over all images, over those of a fold,
over those that a race has seen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

from crfnet.evaluation.boundary import BoundaryConfig, boundary_f, contour_matches
from crfnet.evaluation.confusion import VOID, Prediction, confusion_matrix, metrics
from crfnet.evaluation.trimap import band_distance
from crfnet.search.config import SearchConfig
from crfnet.shapes import LabelMap

__all__ = ["CRITERIA", "Counts", "Criterion"]

_WHOLE = 10**9

Counts: TypeAlias = Int[Tensor, "*counts"]  #: of one image or of several together


@dataclass(frozen=True)
class Criterion:
    """A score of label maps in 0..1.

    Attributes:
        label: what it is called in tables and pictures.
        truth: what of an image's labels the counting needs; computed once an image.
        count: counts of one prediction beside that truth; of the number of classes.
        score: (..., *counts) -> (...); NaN where nothing defines it.
        uses_confusion: the counts are the confusion matrix itself.
    """

    label: str
    truth: Callable[[LabelMap, SearchConfig], Any]
    count: Callable[[Prediction, Any, int], Counts]
    score: Callable[[Tensor], Float[Tensor, "..."]]
    uses_confusion: bool = False


def _inside_band(labels: LabelMap, config: SearchConfig) -> LabelMap:
    """The labels, void outside the trimap."""
    distance = band_distance(labels, config.trimap.band)
    return labels.masked_fill(distance > config.trimap.width, VOID)


def _with_width(labels: LabelMap, config: SearchConfig) -> tuple[LabelMap, float]:
    """The labels, and how near is near a border."""
    height, width = labels.shape
    return labels, BoundaryConfig(f_width=config.boundary.width).f_pixels(height, width)


def _boundary_f(prediction: Prediction, truth: tuple[LabelMap, float], num_classes: int) -> Counts:
    """(F, 1) of one image in billionths, which are counts as good as any; (0, 0) without a border."""
    return (_WHOLE * boundary_f(contour_matches(prediction, truth[0], num_classes, truth[1]))).round().long()


def _boundary_score(counts: Tensor) -> Float[Tensor, "..."]:
    """The mean of F over images."""
    return counts[..., 0].double() / counts[..., 1]


def _miou(confusions: Tensor) -> Float[Tensor, "..."]:
    return metrics(confusions).miou


CRITERIA: dict[str, Criterion] = {
    "miou": Criterion("mIoU", lambda labels, config: labels, confusion_matrix, _miou, uses_confusion=True),
    "boundary": Criterion("boundary F", _with_width, _boundary_f, _boundary_score),
    "trimap": Criterion("trimap mIoU", _inside_band, confusion_matrix, _miou),
}
