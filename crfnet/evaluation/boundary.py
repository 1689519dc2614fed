"""Scores of the borders themselves: Boundary IoU and the boundary F-score, for semantic label maps.

Both count per image and class, so that data sets are sums over images and can be resampled. In both, void
pixels are taken out of truth and prediction before any border is looked for; what is left next to void is a
border of its class. All distances are between pixel centers.

**Boundary IoU** (Cheng et al., CVPR 2021; their mask_to_boundary): of a class' mask only the pixels within d
of its contour are kept, in truth and in prediction, and the IoU of the two is taken. d = 2 % of the image
diagonal, rounded, at least 1; pixels lost by d erosions with a 3 x 3 square; the image border is a contour.
The paper scores instances. For label maps the counts of a class are summed over all images, as for the mIoU,
and the mean is taken over classes.

**Boundary F-score** (Csurka et al., BMVC 2013): the boundary of a class is its pixels with one of another
class (or void) among their 4 neighbors; the image border is none. Precision is the share of predicted
boundary pixels within theta (Euclidean) of a boundary pixel of the same class in the truth, recall the
converse, F their harmonic mean. theta = 0.75 % of the image diagonal. F is averaged over the classes that
have a boundary in the image's truth or prediction (0 where only one of them has), then over images. Any
number of pixels may match the same one.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from crfnet.errors import require
from crfnet.evaluation.confusion import Prediction
from crfnet.evaluation.dilation import changes, dilation_radius
from crfnet.labels import VOID
from crfnet.shapes import LabelMap

__all__ = [
    "BoundaryConfig",
    "boundary_f",
    "boundary_tallies",
    "contour_matches",
    "f_scores",
]

_OFFSETS = 16  #: looked up at once; pixels that found a match are not looked at again
_PIXELS = 1 << 18  #: likewise, which bounds the memory


@dataclass(frozen=True)
class BoundaryConfig:
    """How near is near a border.

    Below 1 a width is a fraction of the image diagonal, from 1 on it is in pixels.

    Attributes:
        iou_width: d of the Boundary IoU; rounded to pixels, at least 1. Cheng et al. 2021: 0.02.
        f_width: theta of the boundary F-score; not rounded. Csurka et al. 2013: 0.0075.
    """

    iou_width: float = 0.02
    f_width: float = 0.0075

    def __post_init__(self) -> None:
        for name in ("iou_width", "f_width"):
            width = getattr(self, name)
            allowed = "above 0: below 1 a fraction of the image diagonal, else pixels"
            require(f"boundary.{name}", width, 0 < width < math.inf, allowed)

    def iou_pixels(self, height: int, width: int) -> int:
        """The d of an image of this size."""
        return max(1, round(_pixels(self.iou_width, height, width)))

    def f_pixels(self, height: int, width: int) -> float:
        """The theta of an image of this size, not rounded."""
        return _pixels(self.f_width, height, width)


def boundary_tallies(
    prediction: Prediction, labels: LabelMap, num_classes: int, width: int
) -> Int[Tensor, "l 3"]:
    """(both, truth, predicted) of each class: pixels within ``width`` of its contour. int64, on the CPU.

    `tally_metrics` of their sum over images gives the Boundary IoU of each class and its mean, under either
    convention for absent classes.

    Args:
        prediction: class per pixel, 0..num_classes-1 wherever the labels are not void.
        labels: truth.
        num_classes: number of classes.
        width: d, pixels.
    """
    truth, predicted = labels, prediction.masked_fill(labels == VOID, VOID)
    near_truth, near_predicted = (_near_contour(each, width) for each in (truth, predicted))
    both = near_truth & near_predicted & (truth == predicted)
    parts = ((truth, both), (truth, near_truth), (predicted, near_predicted))
    return torch.stack([_per_class(*part, num_classes) for part in parts], -1).cpu()


def contour_matches(
    prediction: Prediction, labels: LabelMap, num_classes: int, theta: float
) -> Int[Tensor, "l 4"]:
    """Count the matched and all boundary pixels of each class: of the prediction, then of the truth.

    int64, on the CPU. Arguments: see `boundary_tallies`; ``theta`` in pixels.
    """
    predicted = _contours(prediction.masked_fill(labels == VOID, VOID))
    truth = _contours(labels)
    parts = []
    for one, other in ((predicted, truth), (truth, predicted)):
        pixels = (one != VOID).flatten().nonzero().flatten()
        classes, everywhere = one.flatten()[pixels], torch.ones_like(pixels, dtype=torch.bool)
        found = _matched(pixels, one, other, theta)
        parts += [_per_class(classes, mask, num_classes) for mask in (found, everywhere)]
    return torch.stack(parts, -1).cpu()


def f_scores(matches: Num[Tensor, "*leading l 4"]) -> Float[Tensor, "*leading l"]:
    """F of each class from `contour_matches`, fractions in 0..1, float64.

    NaN where neither prediction nor truth has a boundary, 0 where only one has.
    """
    matched_predicted, predicted, matched_truth, truth = matches.double().unbind(-1)
    precision, recall = matched_predicted / predicted, matched_truth / truth
    f = 2 * precision * recall / (precision + recall)
    return f.nan_to_num(0.0).masked_fill((predicted == 0) & (truth == 0), torch.nan)


def boundary_f(matches: Num[Tensor, "*leading l 4"]) -> Float[Tensor, "*leading 2"]:
    """(F, 1) of each image: the mean over the classes that have a boundary; (0, 0) without any.

    The score of a set of images is the sum of the first over that of the second.
    """
    f = f_scores(matches).nanmean(-1)
    return torch.stack([f.nan_to_num(0.0), (~f.isnan()).double()], -1)


def _near_contour(labels: LabelMap, width: int) -> Bool[Tensor, "h w"]:
    """The pixels, void excluded, that ``width`` erosions of their class' mask take away."""
    edge = changes(labels, diagonal=True, border=True)
    return (dilation_radius(edge, "square", width - 1) < width) & (labels != VOID)


def _contours(labels: LabelMap) -> LabelMap:
    """The class on the boundary pixels, `VOID` everywhere else."""
    return labels.masked_fill(~changes(labels, diagonal=False), VOID)


def _matched(pixels: Int[Tensor, " n"], one: LabelMap, other: LabelMap, theta: float) -> Bool[Tensor, " n"]:
    """Which of the ``pixels`` of ``one`` have a pixel of the same class in ``other`` within theta.

    Looked up in order of distance, at the boundary pixels alone, and no further once one is found.
    """
    reach = math.floor(theta)
    steps = torch.arange(-reach, reach + 1, device=one.device)
    distance = (steps.square()[:, None] + steps.square()).flatten()
    order = distance.argsort(stable=True)
    order = order[distance[order] <= theta**2]
    width = one.shape[1] + 2 * reach  # of the map with a margin of void, so that no look-up leaves it
    shifts = (steps[:, None] * width + steps).flatten()[order]
    padded = torch.nn.functional.pad(other, (reach,) * 4, value=VOID).flatten()
    rows, columns = pixels // one.shape[1], pixels % one.shape[1]
    places, classes = (rows + reach) * width + columns + reach, one.flatten()[pixels]
    found = torch.zeros_like(pixels, dtype=torch.bool)
    for part in torch.arange(len(pixels), device=pixels.device).split(_PIXELS):
        for near in shifts.split(_OFFSETS):
            if len(part) == 0:
                break
            hit = (padded[places[part, None] + near] == classes[part, None]).any(1)
            found[part[hit]] = True
            part = part[~hit]
    return found


def _per_class(
    classes: Int[Tensor, "*pixels"], mask: Bool[Tensor, "*pixels"], num_classes: int
) -> Int[Tensor, " l"]:
    """Pixels of each class inside the mask, none of which is void."""
    return torch.bincount(classes.masked_fill(~mask, num_classes).flatten(), minlength=num_classes + 1)[:-1]


def _pixels(width: float, height: int, columns: int) -> float:
    return width * math.hypot(height, columns) if width < 1 else width
