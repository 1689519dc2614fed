"""Dilation at every radius at once: at which radius of a structuring element a pixel is reached.

The elements of radius r, all centered, all containing the 4 neighbors at r = 1:

``square``  the square of side 2r+1: Chebyshev distance at most r; 8 neighbors at r = 1
``disc``    Euclidean distance at most r
``cross``   the 3 x 3 cross applied r times: city-block distance at most r
"""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from crfnet.errors import require
from crfnet.shapes import LabelMap

__all__ = ["ELEMENTS", "Element", "PixelMask", "changes", "dilation_radius"]

Element: TypeAlias = Literal["square", "disc", "cross"]
ELEMENTS: tuple[Element, ...] = ("square", "disc", "cross")
PixelMask: TypeAlias = Bool[Tensor, "h w"]


def dilation_radius(seeds: PixelMask, element: Element, largest: int) -> Int[Tensor, "h w"]:
    """Smallest radius 0..largest at which the dilated seeds hold each pixel; ``largest + 1`` where none does.

    A distance transform in two passes, columns then rows (Felzenszwalb & Huttenlocher 2012), but cut off
    at ``largest``: exact, on any device, O(pixels x largest). int32.
    """
    require("element", element, element in ELEMENTS, " or ".join(ELEMENTS))
    require("largest", largest, largest >= 0, "at least 0 pixels")
    # What is minimized over the rows: of the disc the squared distance.
    reach = (largest + 1) ** 2 + largest**2 if element == "disc" else 2 * largest + 1
    dtype = torch.int16 if reach <= torch.iinfo(torch.int16).max else torch.int32
    vertical = _down_columns(seeds, largest, dtype)
    if element == "disc":
        vertical.square_()
    nearest, shifted = vertical.clone(), torch.empty_like(vertical)
    for across in range(1, min(largest, seeds.shape[1] - 1) + 1):
        if element == "square":
            torch.clamp_min(vertical, across, out=shifted)
        else:
            torch.add(vertical, across**2 if element == "disc" else across, out=shifted)
        for here, there in ((slice(across, None), slice(-across)), (slice(-across), slice(across, None))):
            torch.minimum(nearest[:, here], shifted[:, there], out=nearest[:, here])
    if element == "disc":
        nearest = nearest.double().sqrt().ceil()
    return nearest.int().clamp_max_(largest + 1)


def changes(
    labels: LabelMap, *, diagonal: bool, ignored: int | None = None, border: bool = False
) -> PixelMask:
    """The pixels that touch a pixel of another label.

    Args:
        labels: any integers.
        diagonal: among the 8 neighbors instead of the 4.
        ignored: a label that touches nothing and is touched by nothing; None: void is a label like others.
        border: pixels at the image border touch another label, too.
    """
    touching = torch.zeros_like(labels, dtype=torch.bool)
    rest, less = slice(1, None), slice(-1)
    whole = slice(None)
    pairs = [((rest, whole), (less, whole)), ((whole, rest), (whole, less))]
    if diagonal:
        pairs += [((rest, rest), (less, less)), ((rest, less), (less, rest))]
    for one, other in pairs:
        differ = labels[one] != labels[other]
        if ignored is not None:
            differ &= (labels[one] != ignored) & (labels[other] != ignored)
        touching[one] |= differ
        touching[other] |= differ
    if border:
        touching[0], touching[-1], touching[:, 0], touching[:, -1] = True, True, True, True
    return touching


def _down_columns(seeds: PixelMask, largest: int, dtype: torch.dtype) -> Int[Tensor, "h w"]:
    """Distance to the nearest seed of the same column, ``largest + 1`` where it is farther.

    Steps of 1, 2, 4, ... rows add up to every number of rows up to ``largest``.
    """
    far = largest + 1
    distance = torch.full(seeds.shape, far, dtype=dtype, device=seeds.device).masked_fill_(seeds, 0)
    step = 1
    while step < min(far, seeds.shape[0]):
        distance[step:] = torch.minimum(distance[step:], distance[:-step] + step)
        distance[:-step] = torch.minimum(distance[:-step], distance[step:] + step)
        step *= 2
    return distance
