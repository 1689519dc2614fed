"""Confusion matrices and the metrics read off them. Void pixels are excluded here and nowhere else."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from crfnet.errors import InputError, require
from crfnet.labels import VOID
from crfnet.shapes import LabelMap

__all__ = [
    "Absent",
    "ConfusionMatrix",
    "Confusions",
    "Metrics",
    "Prediction",
    "Tallies",
    "confusion_matrix",
    "count_pairs",
    "metrics",
    "pair_map",
    "tallies",
    "tally_metrics",
]


Prediction: TypeAlias = Int[
    Tensor, "hp wp"
]  #: class per pixel; its own axes, so that a wrong size is an `InputError`
ConfusionMatrix: TypeAlias = Int[Tensor, "l l"]  #: pixels counted, rows truth, columns prediction
Confusions: TypeAlias = Num[Tensor, "*leading l l"]  #: several of them; floating when they were resampled
#: Pixels right, pixels of the truth, pixels predicted of each class. All metrics need no more than these.
Tallies: TypeAlias = Num[Tensor, "*leading l 3"]
Absent: TypeAlias = Literal["skip", "zero"]


def pair_map(prediction: Prediction, labels: LabelMap, num_classes: int) -> Int[Tensor, "h w"]:
    """``truth * num_classes + prediction`` at every pixel, ``num_classes**2`` at void ones; int32.

    What was predicted on void pixels does not matter.

    Raises:
        InputError: the sizes differ, or a label or a scored prediction is outside ``0..num_classes-1``.
    """
    if prediction.shape != labels.shape:
        raise InputError(
            f"prediction is {_size(prediction)} and labels are {_size(labels)} (rows x columns), "
            "must be of one size"
        )
    void = labels == VOID
    truth, predicted = (each.masked_fill(void, 0) for each in (labels, prediction))
    _check_range("labels", truth, num_classes, f" or {VOID} (void)")
    _check_range("prediction", predicted, num_classes, "")
    return (truth.int() * num_classes + predicted.int()).masked_fill_(void, num_classes**2)


def confusion_matrix(prediction: Prediction, labels: LabelMap, num_classes: int) -> ConfusionMatrix:
    """Count the pixels of each (truth, prediction); int64, rows truth, columns prediction, void excluded.

    A void pixel is no false positive either, whatever was predicted there (VOC's rule).

    Raises:
        InputError: see `pair_map`.
    """
    return count_pairs(pair_map(prediction, labels, num_classes), num_classes)


def count_pairs(pairs: Int[Tensor, "h w"], num_classes: int) -> ConfusionMatrix:
    """The `confusion_matrix` of a `pair_map`."""
    counts = torch.bincount(pairs.flatten(), minlength=num_classes**2 + 1)
    return counts[:-1].reshape(num_classes, num_classes)


def tallies(confusions: Confusions) -> Num[Tensor, "*leading l 3"]:
    """(right, truth, predicted) of each class: diagonal, row sums and column sums, in the dtype that came."""
    parts = (confusions.diagonal(dim1=-2, dim2=-1), confusions.sum(-1), confusions.sum(-2))
    return torch.stack([part.to(confusions.dtype) for part in parts], -1)


@dataclass(frozen=True)
class Metrics:
    """Scores of confusion matrices, fractions in 0..1; NaN where nothing defines them."""

    miou: Float[Tensor, "*leading"]  #: mean over classes of TP / (TP + FP + FN)
    pixel_accuracy: Float[Tensor, "*leading"]  #: trace / sum
    mean_accuracy: Float[Tensor, "*leading"]  #: mean over classes of TP / (TP + FN)
    weighted_iou: Float[Tensor, "*leading"]  #: mean of the IoUs weighted by the classes' shares of the truth
    per_class_iou: Float[Tensor, "*leading l"]
    per_class_accuracy: Float[Tensor, "*leading l"]


def metrics(confusions: Confusions, absent: Absent = "skip") -> Metrics:
    """Metrics of each confusion matrix, vectorized over the leading axes, in float64.

    Args:
        confusions: rows truth, columns prediction.
        absent: what a class does that has no pixel in a score's denominator. ``"skip"``: it is NaN and left
            out of the mean (for the IoU: absent from truth *and* prediction; for the accuracy: absent from
            the truth). ``"zero"``: it counts as 0, as in MyVOCevalseg.m of DeepLab's authors.

    Without a single scored pixel every metric is NaN, under both conventions.
    """
    return tally_metrics(tallies(confusions), absent)


def tally_metrics(tallied: Tallies, absent: Absent = "skip") -> Metrics:
    """`metrics` of what `tallies` gave, or of sums and resamplings of it: l x 3 numbers instead of l x l."""
    require("absent", absent, absent in ("skip", "zero"), "'skip' or 'zero'")
    hits, truth, predicted = tallied.double().unbind(-1)  # (..., l)
    total = truth.sum(-1)
    iou = _share(hits, truth + predicted - hits, absent)
    accuracy = _share(hits, truth, absent)
    nothing = total == 0
    return Metrics(
        miou=iou.nanmean(-1).masked_fill(nothing, torch.nan),
        pixel_accuracy=hits.sum(-1) / total,
        mean_accuracy=accuracy.nanmean(-1).masked_fill(nothing, torch.nan),
        weighted_iou=(truth * iou.nan_to_num()).sum(-1) / total,
        per_class_iou=iou.masked_fill(nothing.unsqueeze(-1), torch.nan),
        per_class_accuracy=accuracy.masked_fill(nothing.unsqueeze(-1), torch.nan),
    )


def _share(part: Tensor, whole: Tensor, absent: Absent) -> Tensor:
    """``part / whole``; where whole is 0: NaN to be skipped, or 0."""
    return (part / whole).masked_fill(whole == 0, torch.nan if absent == "skip" else 0.0)


def _size(labels: Tensor) -> str:
    return " x ".join(map(str, labels.shape))


def _check_range(name: str, values: Tensor, num_classes: int, also: str) -> None:
    if values.numel() == 0:
        return
    low, high = (int(v) for v in values.aminmax())
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise InputError(f"{name} holds {wrong}, must be 0..{num_classes - 1}{also}")
