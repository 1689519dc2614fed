"""One network on several scales of its input: DeepLab v2's MSC, fused by the largest score (section 3.2)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from crfnet.resize import AlignCorners, rescale_image, scaled_size
from crfnet.shapes import Image, LogitMap

__all__ = ["SCALES", "ScaledBy", "fused_by_max"]

ScaledBy = Literal["size", "factor"]

SCALES = (1.0, 0.75, 0.5)  #: DeepLab v2, section 4.1.2


def fused_by_max(
    network: Callable[[Tensor], LogitMap],
    image: Image,
    *,
    align_corners: AlignCorners,
    scaled_by: ScaledBy = "size",
) -> list[LogitMap]:
    """Scores of a network on three scales of an image, and their element-wise maximum, first.

    Args:
        network: from an image of any size to scores at its stride.
        image: at scale 1.
        align_corners: True resizes as the authors' release does: pixel ``i`` of the smaller image is pixel
            ``i / scale``. False as kazuto1011/deeplab-pytorch: equal parts.
        scaled_by: without aligned corners, where the pixels of the smaller image lie: as its whole number of
            pixels says, or as the scale does. See `DeepLabV2Config`.

    Returns:
        The maximum and the maps that training compares with the labels, each by a loss of its own: of scale
        1, of 0.75 resized to that of scale 1 (its own positions lie on no power of two), and of 0.5 as it is.
    """
    maps = [network(_rescaled(image, scale, align_corners, scaled_by)) for scale in SCALES]
    whole = (image.shape[2], image.shape[3])
    resized = [maps[0]]
    for scores, scale in zip(maps[1:], SCALES[1:], strict=True):
        if align_corners:
            resized.append(_on_positions(scores, maps[0].shape[2:], whole, scale))
        else:
            resized.append(F.interpolate(scores, maps[0].shape[2:], mode="bilinear", align_corners=False))
    return [torch.stack(resized).amax(0), maps[0], resized[1], maps[2]]


def _rescaled(image: Tensor, scale: float, align_corners: AlignCorners, scaled_by: ScaledBy) -> Tensor:
    if align_corners or scaled_by == "size" or scale == 1:
        return rescale_image(image, scale, align_corners=align_corners)
    return F.interpolate(image, scale_factor=scale, mode="bilinear", recompute_scale_factor=False)


def _on_positions(scores: Tensor, wanted: torch.Size, whole: tuple[int, int], scale: float) -> Tensor:
    """``scores`` of the smaller image, linearly interpolated where the map of the whole image has positions.

    Position j of both maps lies on pixel ``stride * j`` of its own image, whatever the image's size.
    """
    small = scaled_size(whole, scale, align_corners=True)
    weights = []
    for count, positions, pixels, fewer in zip(scores.shape[2:], wanted, whole, small, strict=True):
        step = (fewer - 1) / max(pixels - 1, 1)
        at = (torch.arange(positions, device=scores.device) * step).clamp(max=count - 1)
        distance = (at[:, None] - torch.arange(count, device=scores.device)).abs()
        weights.append((1 - distance).clamp_min(0).to(scores.dtype))
    return torch.einsum("yh,blhw,xw->blyx", weights[0], scores, weights[1])
