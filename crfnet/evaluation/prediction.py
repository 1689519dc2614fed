"""From logits to label maps, and label maps to files that people can look at."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Num
from PIL import Image as PillowImage
from torch import Tensor

from crfnet.errors import InputError
from crfnet.evaluation.confusion import VOID
from crfnet.files import read_indices, write_atomically
from crfnet.shapes import ImageBytes, LabelMap, Logits

__all__ = [
    "VOC_PALETTE",
    "Palette",
    "overlay",
    "paint",
    "predict_labels",
    "read_label_png",
    "write_label_png",
    "write_picture",
]

Palette: TypeAlias = Sequence[Sequence[int]]  #: (r, g, b) in 0..255 of class 0, 1, ...


def _voc_color(label: int) -> tuple[int, int, int]:
    """Bits 0, 1, 2 of ``label >> 3j`` go to bit ``7-j`` of red, green, blue (VOC kit, VOClabelcolormap.m)."""
    red, green, blue = (
        sum((label >> (3 * j + channel) & 1) << (7 - j) for j in range(8)) for channel in range(3)
    )
    return red, green, blue


VOC_PALETTE: Palette = tuple(_voc_color(label) for label in range(256))


def predict_labels(model: Callable[[Tensor], Logits], image: Num[Tensor, "c h w"]) -> LabelMap:
    """The class with the highest logit at each pixel, without gradients.

    Args:
        model: maps images (1, c, h, w) to logits (1, l, h, w) at image size; in evaluation mode already.
        image: on the model's device.

    Raises:
        ValueError: the logits are not one map of the image's size.
    """
    with torch.inference_mode():
        logits = model(image.unsqueeze(0))
        labels = logits.argmax(1)
    if labels.shape != (1, *image.shape[1:]):
        raise ValueError(
            f"model gave logits {tuple(logits.shape)} for an image {tuple(image.shape)}: "
            f"they must be (1, classes, {image.shape[1]}, {image.shape[2]})"
        )
    return labels[0].clone()


def paint(labels: LabelMap, palette: Palette = VOC_PALETTE) -> ImageBytes:
    """Each pixel in the color of its class; void, when the palette does not reach it, in VOC's cream."""
    table = torch.tensor([*VOC_PALETTE], dtype=torch.uint8)
    table[: len(palette)] = torch.tensor([list(color) for color in palette], dtype=torch.uint8)
    return table[labels.cpu().long()].permute(2, 0, 1)


def overlay(
    image: ImageBytes, labels: LabelMap, palette: Palette = VOC_PALETTE, opacity: float = 0.5
) -> ImageBytes:
    """The class colors over the image, ``opacity`` in 0..1; void pixels show the image alone."""
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}: it must be in 0..1")
    picture = image.cpu().float()
    mixed = torch.lerp(picture, paint(labels, palette).float(), opacity)
    return torch.where(labels.cpu() == VOID, picture, mixed).round().byte()


def write_label_png(path: Path, labels: LabelMap, palette: Palette = VOC_PALETTE) -> None:
    """Write class indices as an 8-bit palette PNG (mode P, as VOC's own), atomically."""
    indices = labels.cpu().numpy()
    if indices.size and (indices.min() < 0 or indices.max() > 255):
        raise ValueError(f"labels span {indices.min()}..{indices.max()}: a palette PNG holds 0..255")
    colors = np.array(VOC_PALETTE, dtype=np.uint8)
    colors[: len(palette)] = np.array(palette, dtype=np.uint8)
    picture = PillowImage.fromarray(indices.astype(np.uint8))
    picture.putpalette(colors.tobytes())
    _write_png(path, picture)


def read_label_png(path: Path) -> LabelMap:
    """Class indices of a PNG as `write_label_png` or VOC stores them: the palette index, never its color.

    Raises:
        InputError: the file is missing, no picture, or holds colors instead of indices.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; a label PNG is needed")
    return torch.from_numpy(read_indices(path)).long()


def write_picture(path: Path, picture: ImageBytes) -> None:
    """Write an RGB picture as PNG, atomically."""
    _write_png(path, PillowImage.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy()))


def _write_png(path: Path, picture: PillowImage.Image) -> None:
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    write_atomically(path, stream.getvalue())
