"""Scores near object borders: the trimap experiment of DeepLab (v2 section 4.1.2, Fig. 10; v3+ section 4.4).

Two bands of width w, both free of void pixels, both grown by dilation with a structuring element of radius w
or w-1 (`crfnet.evaluation.dilation`); the papers' is the square, Chebyshev radius:

``void``
    The void region dilated with radius w, minus void. With the square (side 2w+1) it is the released
    evaluation of DeepLab's authors (EvalCRF_Boundary.m): w = 1 is the pixels that touch void, corners
    included. The void ribbon itself is not scored, so w = 1 already lies half its width from the true
    border; void blobs that are no border grow a band as well.
``change``
    For labels without a void ribbon: pixels within w of a change between two non-void labels, on either side.
    The pixels that touch the change (another class among the neighbors that the element has at radius 1)
    have distance 1; they are dilated with radius w-1. Without void, and with the square, this is the
    Chebyshev distance to the nearest pixel of another class. Classes parted by void do not touch.

In neither is the image border a boundary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from crfnet.errors import require
from crfnet.evaluation.dilation import Element, changes, dilation_radius
from crfnet.labels import VOID
from crfnet.shapes import LabelMap

__all__ = [
    "BANDS",
    "MAX_WIDTH",
    "NEVER",
    "WIDTHS",
    "Band",
    "Shells",
    "band_distance",
    "count_shells",
    "dense_shells",
]

Band: TypeAlias = Literal["void", "change"]
BANDS: tuple[Band, ...] = ("void", "change")
MAX_WIDTH = 40  #: pixels; the authors plot 1..40
WIDTHS = range(1, MAX_WIDTH + 1)
NEVER = int(torch.iinfo(torch.int32).max)  #: distance of a pixel that is in the band at no width


def band_distance(
    labels: LabelMap, band: Band, element: Element = "square", max_width: int | None = None
) -> Int[Tensor, "h w"]:
    """Smallest width w >= 1 in pixels at which each pixel is in the band; `NEVER` for void pixels.

    One distance transform instead of one dilation per width, on the device of the labels; int32.

    Args:
        labels: truth.
        band: which border it is grown from.
        element: what it is grown with.
        max_width: pixels that are farther away are `NEVER` in the band, which costs O(pixels x max_width);
            None: no pixel is too far, which costs O(pixels x image size).
    """
    require("band", band, band in BANDS, " or ".join(BANDS))
    if max_width is None:
        max_width = labels.shape[0] + labels.shape[1]
    require("max_width", max_width, max_width >= 1, "at least 1 pixel")
    void = labels == VOID
    if band == "void":
        width = dilation_radius(void, element, max_width)
    else:
        seeds = changes(labels, diagonal=element == "square", ignored=VOID)
        width = 1 + dilation_radius(seeds, element, max_width - 1)
    return width.masked_fill(void | (width > max_width), NEVER)


@dataclass(frozen=True)
class Shells:
    """Pixels counted by (distance, truth, prediction), without the many combinations that have none.

    Attributes:
        bins: ``((distance - 1) * classes + truth) * classes + prediction``, ascending.
        counts: pixels of each, at least 1.
    """

    bins: Int[Tensor, " bins"]
    counts: Int[Tensor, " bins"]


def count_shells(
    pairs: Int[Tensor, "h w"], distance: Int[Tensor, "h w"], num_classes: int, max_width: int
) -> Shells:
    """Count pixels by their distance to the border; all widths cost one pass. int32, on the CPU.

    Args:
        pairs: what `pair_map` gives.
        distance: what `band_distance` gives.
        num_classes: number of classes.
        max_width: what is farther away is not counted.
    """
    size = max_width * num_classes**2
    bins = torch.where(distance <= max_width, (distance - 1) * num_classes**2 + pairs, size)
    counts = torch.bincount(bins.flatten(), minlength=size + 1)[:-1]
    found = counts.nonzero().flatten()
    return Shells(found.int().cpu(), counts[found].int().cpu())


def dense_shells(shells: Sequence[Shells], num_classes: int, max_width: int) -> Int[Tensor, "i width l l"]:
    """Confusion matrix of each image's pixels *inside* the band of each width; int32, width w at w-1."""
    size = max_width * num_classes**2
    counts = torch.zeros(len(shells), size, dtype=torch.int32)
    for row, shell in zip(counts, shells, strict=True):
        row[shell.bins.long()] = shell.counts
    return counts.reshape(-1, max_width, num_classes, num_classes).cumsum(1, dtype=torch.int32)
