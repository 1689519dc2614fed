"""Class indices: void, names and colors of every data set's classes, and label maps as pictures."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch

from crfnet.errors import InputError
from crfnet.files import read_indices, write_atomically
from crfnet.shapes import ImageBytes, LabelMap, Picture

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = [
    "DATASET_CLASSES",
    "VOC_PALETTE",
    "VOID",
    "Classes",
    "Color",
    "Palette",
    "as_rgb",
    "luminance",
    "overlay",
    "paint",
    "read_label_png",
    "write_label_png",
    "write_picture",
]

VOID = 255  #: class index of a pixel that is neither trained on nor scored

Color: TypeAlias = tuple[int, int, int]  #: RGB, 0..255
Palette: TypeAlias = Sequence[Sequence[int]]  #: (r, g, b) in 0..255 of class 0, 1, ...


def _voc_color(label: int) -> Color:
    """Bits 0, 1, 2 of ``label >> 3j`` go to bit ``7-j`` of red, green, blue (VOC kit, VOClabelcolormap.m)."""
    red, green, blue = (
        sum((label >> (3 * j + channel) & 1) << (7 - j) for j in range(8)) for channel in range(3)
    )
    return red, green, blue


#: The colors of PASCAL VOC, which go on for any number of classes: black, (128, 0, 0), (0, 128, 0), ...; the
#: last, cream, is that of void.
VOC_PALETTE: tuple[Color, ...] = tuple(_voc_color(label) for label in range(256))


class Classes(NamedTuple):
    """Names and colors of class 0, 1, ..."""

    names: tuple[str, ...]
    colors: tuple[Color, ...]


def _in_voc_colors(*names: str) -> Classes:
    return Classes(names, VOC_PALETTE[: len(names)])


def _colored(table: Mapping[str, Color]) -> Classes:
    return Classes(tuple(table), tuple(table.values()))


_CAMVID: dict[str, Color] = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (60, 40, 222),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}

#: In the order of the train ids.
_CITYSCAPES: dict[str, Color] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}

_CONTEXT = _in_voc_colors(
    "background", "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book",
    "bottle", "building", "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow",
    "cup", "curtain", "dog", "door", "fence", "floor", "flower", "food", "grass", "ground", "horse",
    "keyboard", "light", "motorbike", "mountain", "mouse", "person", "plate", "platform", "pottedplant",
    "road", "rock", "sheep", "shelves", "sidewalk", "sign", "sky", "snow", "sofa", "table", "track", "train",
    "tree", "truck", "tvmonitor", "wall", "water", "window", "wood",
)  # fmt: skip

#: By the name of the data set; all but ``folders``, whose classes are the user's.
DATASET_CLASSES: dict[str, Classes] = {
    "toy": _in_voc_colors("ground", "disc", "bar", "triangle", "ring", "star"),
    "voc": _in_voc_colors(
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
        "tvmonitor",
    ),
    "camvid": _colored(_CAMVID),
    "cityscapes": _colored(_CITYSCAPES),
    "context": _CONTEXT,
    "context59": Classes(_CONTEXT.names[1:], _CONTEXT.colors[1:]),
    "person_part": _in_voc_colors(
        "background", "head", "torso", "upper arms", "lower arms", "upper legs", "lower legs"
    ),
}  # fmt: skip


def paint(labels: LabelMap, palette: Palette = VOC_PALETTE) -> Picture:
    """Paint each pixel in the color of its class; void, where the palette has no color for it, in cream."""
    table = torch.tensor(VOC_PALETTE, dtype=torch.uint8)
    table[: len(palette)] = torch.tensor([list(color) for color in palette], dtype=torch.uint8)
    return table[labels.cpu().long()].permute(2, 0, 1)


def as_rgb(image: ImageBytes) -> Picture:
    """An image of any channels as a picture: gray repeated, of many channels the first three."""
    if image.shape[0] == 3:
        return image
    return image[:3] if image.shape[0] > 3 else image[:1].expand(3, -1, -1)


def overlay(
    image: ImageBytes, labels: LabelMap, palette: Palette = VOC_PALETTE, opacity: float = 0.6
) -> Picture:
    """Blend the class colors over the image in gray, so that every hue is a class's; void is cream.

    Args:
        image: of any channels.
        labels: of the classes, and void.
        palette: of the classes.
        opacity: of the colors, 0..1; 0 is the image as it is.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}, must be in 0..1")
    picture = as_rgb(image).cpu()
    if opacity == 0:
        return picture
    gray = luminance(*picture.int()).float()
    return torch.lerp(gray.expand(3, -1, -1), paint(labels, palette).float(), opacity).round().byte()


def luminance(red: Any, green: Any, blue: Any) -> Any:
    """The brightness of colors, 0..255, by Rec. 601; whole numbers or arrays of them."""
    return (77 * red + 150 * green + 29 * blue) >> 8


def read_label_png(path: Path) -> LabelMap:
    """Read the class indices of a PNG as VOC and `write_label_png` store them, never through their colors.

    Raises:
        InputError: the file is missing, no picture, or holds colors instead of indices.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; a label PNG is needed")
    return torch.from_numpy(read_indices(path)).long()


def write_label_png(path: Path, labels: LabelMap, palette: Palette = VOC_PALETTE) -> None:
    """Write class indices as an 8-bit palette PNG (mode P, as VOC's own), atomically."""
    from PIL import Image

    low, high = (int(value) for value in labels.aminmax()) if labels.numel() else (0, 0)
    if low < 0 or high > 255:
        raise ValueError(f"labels span {low}..{high}, must be in 0..255")
    picture = Image.fromarray(labels.byte().cpu().numpy())
    colors = (*palette, *VOC_PALETTE[len(palette) :])
    picture.putpalette([part for color in colors for part in color])
    _write_png(path, picture)


def write_picture(path: Path, picture: Picture) -> None:
    """Write an RGB picture as PNG, atomically."""
    from PIL import Image

    _write_png(path, Image.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy()))


def _write_png(path: Path, picture: "PillowImage") -> None:
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    write_atomically(path, stream.getvalue())
