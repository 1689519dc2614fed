"""From a network's map to the image: where each of its positions lies, and the resize that respects it."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from crfnet.shapes import Image, Logits, StridedLogits

__all__ = ["AlignCorners", "rescale_image", "resize_logits", "scaled_size", "stride_between"]

#: Where the positions of a map lie on an image; see `resize_logits`.
AlignCorners: TypeAlias = bool | Literal["stretch"]


def stride_between(size: int, count: int) -> int | None:
    """Find the stride, a power of two, at which ``count`` positions from pixel 0 on cover ``size`` pixels.

    A strided network has ``ceil(size / stride)`` positions, one more where a pool in ceil mode looks
    beyond the image: 321 -> 41 and 96 -> 13 at stride 8. Position i sees its surroundings of pixel
    ``stride * i``. None where no power of two fits.
    """
    for beyond in (0, 1):
        stride = 1
        while stride < 2 * size:
            if -(-size // stride) + beyond == count:
                return stride
            stride *= 2
    return None


def resize_logits(logits: StridedLogits, size: tuple[int, int], *, align_corners: AlignCorners) -> Logits:
    """Logits resized bilinearly to ``size`` (rows, columns), in float32 (float64 stays float64).

    Args:
        logits: at any stride.
        size: of the image.
        align_corners: True puts position i on pixel ``stride * i``, as DeepLab's release does: resized to
            ``(positions - 1) * stride + 1`` pixels, then cropped to the image (its last pixels repeated
            where it is larger); where no stride fits, the first and last positions lie on the first and
            last pixels. ``"stretch"`` puts them there whatever the stride, as
            jfzhang95/pytorch-deeplab-xception does: the same at sizes of a multiple of the stride plus 1, up
            to a stride off at others. False puts the positions in the middle of equal parts of the image, as
            most of torchvision does.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.shape[2:] == size:
        return logits
    if not align_corners:
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)
    if align_corners == "stretch":
        return F.interpolate(logits, size, mode="bilinear", align_corners=True)
    covered = [_covered(pixels, count) for pixels, count in zip(size, logits.shape[2:], strict=True)]
    resized: Tensor = F.interpolate(logits, covered, mode="bilinear", align_corners=True)
    resized = resized[..., : size[0], : size[1]]
    below, right = size[0] - resized.shape[2], size[1] - resized.shape[3]
    return F.pad(resized, (0, right, 0, below), mode="replicate") if below or right else resized


def _covered(pixels: int, count: int) -> int:
    """Pixels from the first position to the last."""
    stride = stride_between(pixels, count)
    return pixels if stride is None else (count - 1) * stride + 1


def scaled_size(size: tuple[int, int], scale: float, *, align_corners: AlignCorners) -> tuple[int, int]:
    """Rows and columns of `rescale_image`, at least 1.

    ``(n - 1) scale + 1`` with corners aligned, rounded (321 -> 241 -> 161 as in DeepLab's release); else ``n
    scale``, rounded down as in torch.
    """
    if align_corners:
        rows, columns = (round((n - 1) * scale) + 1 for n in size)
    else:
        rows, columns = (max(1, int(n * scale)) for n in size)
    return rows, columns


def rescale_image(image: Image, scale: float, *, align_corners: AlignCorners) -> Image:
    """Resize a float image bilinearly, without antialiasing, as the published protocols do."""
    if scale == 1:
        return image
    size = scaled_size((image.shape[2], image.shape[3]), scale, align_corners=align_corners)
    return F.interpolate(image, size, mode="bilinear", align_corners=bool(align_corners))
