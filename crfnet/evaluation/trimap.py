"""Scores near object borders: the trimap experiment of DeepLab (v2 section 4.1.2, Fig. 10; v3+ section 4.4).

Two bands, both of Chebyshev radius w (a square structuring element), both free of void pixels:

``void``
    The void region dilated by a square of side 2w+1, minus void: the released evaluation of DeepLab's authors
    (EvalCRF_Boundary.m). w = 1 is the pixels that touch void, corners included. The void ribbon of VOC is
    about 5 px wide and not scored, so w = 1 already lies 2 to 3 px from the true border; void blobs that are
    no border grow a band as well.
``change``
    For labels without a void ribbon: pixels within w of a change between two non-void labels, on either side.
    The pixel that touches the change (one of its 8 neighbours holds another class) has distance 1. Without
    void this is the Chebyshev distance to the nearest pixel of another class. Classes parted by void do not
    touch.

In neither is the image border a boundary.
"""

from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Int
from scipy import ndimage
from torch import Tensor

from crfnet.evaluation.confusion import VOID, Prediction, scored_pairs
from crfnet.shapes import LabelMap

__all__ = ["BANDS", "MAX_WIDTH", "NEVER", "WIDTHS", "Band", "band_distance", "trimap_confusions"]

Band: TypeAlias = Literal["void", "change"]
BANDS: tuple[Band, ...] = ("void", "change")
MAX_WIDTH = 40  #: pixels; the authors plot 1..40
WIDTHS = range(1, MAX_WIDTH + 1)
NEVER = int(np.iinfo(np.int32).max)  #: distance of a pixel that is in the band at no width


def band_distance(labels: LabelMap, band: Band) -> Int[Tensor, "h w"]:
    """Smallest width w >= 1 in pixels at which each pixel is in the band; `NEVER` for void pixels.

    Without void (or without a change) to grow from, every pixel is `NEVER`. One distance transform,
    O(pixels), instead of one dilation per width.
    """
    if band not in BANDS:
        raise ValueError(f"band is {band!r}: allowed are {', '.join(map(repr, BANDS))}")
    array = labels.cpu().numpy().astype(np.int32)
    scored = array != VOID
    seed, seed_distance = (~scored, 0) if band == "void" else (_touches_change(array, scored), 1)
    if not seed.any():  # the distance transform needs something to measure from
        return torch.full(labels.shape, NEVER, dtype=torch.int64)
    distance = ndimage.distance_transform_cdt(~seed, metric="chessboard").astype(np.int64) + seed_distance
    return torch.from_numpy(np.where(scored, distance, NEVER))


def trimap_confusions(
    prediction: Prediction, labels: LabelMap, num_classes: int, band: Band, max_width: int = MAX_WIDTH
) -> Int[Tensor, "width l l"]:
    """Confusion matrix of the band's pixels for each width 1..max_width; int64, on the CPU; width w at w-1.

    All widths cost one pass: a histogram over (distance, truth, prediction), then sums over the distance.

    Raises:
        InputError: as `scored_pairs`.
    """
    if max_width < 1:
        raise ValueError(f"max_width is {max_width}: it must be at least 1 pixel")
    pairs = scored_pairs(prediction, labels, num_classes).cpu()
    distance = band_distance(labels, band)[(labels != VOID).cpu()]
    inside = distance <= max_width
    shell = (distance[inside] - 1) * num_classes**2 + pairs[inside]
    counts = torch.bincount(shell, minlength=max_width * num_classes**2)
    return counts.reshape(max_width, num_classes, num_classes).cumsum(0)


def _touches_change(array: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Non-void pixels with another non-void label among their 8 neighbours."""
    highest = ndimage.maximum_filter(np.where(scored, array, -1), size=3, mode="nearest")
    lowest = ndimage.minimum_filter(np.where(scored, array, VOID), size=3, mode="nearest")
    touches: np.ndarray = scored & (highest > lowest)
    return touches
