"""Where a picture is worth a closer look: the border at which two label maps differ most."""

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Num
from torch import Tensor

from crfnet.labels import VOID
from crfnet.shapes import LabelMap

__all__ = ["Window", "border_window", "cut"]

_SHARE = 0.3  #: of the shorter side of the image
_MIN_SIDE = 24  #: pixels
_REACH = 5  #: pixels from a border that are near it


class Window(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def border_window(labels: LabelMap, before: LabelMap, after: LabelMap) -> Window:
    """The window with the most pixels near a true border that the two label maps tell differently.

    Where they agree near every border, the one with the most border; the first of several.
    """
    height, width = labels.shape
    side = max(_MIN_SIDE, round(_SHARE * min(height, width)))
    rows, columns = min(side, height), min(side, width)
    border = _borders(labels)
    near = F.max_pool2d(border, 2 * _REACH + 1, stride=1, padding=_REACH)
    changed = near * ((before != after) & (labels != VOID)).to(near)
    weight = changed + border / (2 * border.sum() + 1)  # all of the border is less than one changed pixel
    counts = _window_sums(weight[0], rows, columns)
    best = int(counts.argmax())
    return Window(best // counts.shape[1], best % counts.shape[1], rows, columns)


def _window_sums(weight: Tensor, rows: int, columns: int) -> Tensor:
    """Sums over every window of that size, from cumulative ones: one of a large photo has 10^6 pixels."""
    sums = F.pad(weight.cumsum(0).cumsum(1), (1, 0, 1, 0))
    bands = sums[rows:] - sums[:-rows]
    counts = bands[:, columns:] - bands[:, :-columns]
    return counts.mul(2**20).round()  # equal windows are equal again: the first of them counts


def cut(picture: Num[Tensor, "*c h w"], window: Window) -> Num[Tensor, "*c y x"]:
    """The part of a picture or label map that lies in the window."""
    top, left, height, width = window
    return picture[..., top : top + height, left : left + width]


def _borders(labels: LabelMap) -> Tensor:
    """1 where the pixel to the right or below has another label, (1, h, w) float64."""
    border = labels.new_zeros(labels.shape).double()
    border[:, :-1] += (labels[:, 1:] != labels[:, :-1]).double()
    border[:-1] += (labels[1:] != labels[:-1]).double()
    return border.clamp(max=1)[None]
