"""Names and colors of classes: those of a known data set, of a file, or ones that can be told apart."""

from pathlib import Path

import torch

from crfnet.errors import InputError, require
from crfnet.files import open_image, regular
from crfnet.labels import DATASET_CLASSES, VOC_PALETTE, Classes, Color

__all__ = ["distinct_colors", "known_classes", "palette_of_png", "read_palette"]

_VOC = 21  # VOC's colors of so many classes are far apart; later ones come ever closer to earlier ones
_LEVELS = (0, 36, 73, 109, 146, 182, 219, 255)  # of red, green and blue, for all further classes


def known_classes(name: str, num_classes: int) -> Classes:
    """Names and colors of a data set.

    Raises:
        InputError: none of `DATASET_CLASSES` has that name, or it has another number of classes.
    """
    allowed = f"a file or one of {', '.join(DATASET_CLASSES)}"
    require("--palette", name, name in DATASET_CLASSES, allowed)
    classes = DATASET_CLASSES[name]
    found = len(classes.names)
    require(
        "--palette", name, found == num_classes, f"for {num_classes} classes, as the scores are, not {found}"
    )
    return classes


def read_palette(path: Path, num_classes: int) -> tuple[Color, ...]:
    """Colors from a text file: ``red green blue`` in 0..255, one class a line.

    Raises:
        InputError: the file cannot be read, or a line is something else, or there are too few.
    """
    try:
        lines = regular(path).read_text(encoding="utf-8").splitlines()
        rows = [line.replace(",", " ").split() for line in lines]
        colors = [tuple(int(part) for part in row) for row in rows if row]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as lines of 'red green blue' ({error})") from error
    for place, color in enumerate(colors, 1):
        if len(color) != 3 or not all(0 <= part <= 255 for part in color):
            raise InputError(f"{path}: color {place} is {color}, must be three numbers in 0..255")
    if len(colors) < num_classes:
        raise InputError(f"{path}: {len(colors)} colors, must be {num_classes} as the scores have")
    return tuple((red, green, blue) for red, green, blue in colors[:num_classes])


def palette_of_png(path: Path, num_classes: int) -> tuple[Color, ...] | None:
    """The colors in which a label PNG is stored; None where it holds none, or too few different ones."""
    with open_image(path) as picture:
        parts = picture.getpalette() if picture.mode == "P" else None
    if parts is None or len(parts) < 3 * num_classes:
        return None
    colors = tuple(tuple(parts[3 * label : 3 * label + 3]) for label in range(num_classes))
    gray = all(red == green == blue for red, green, blue in colors)
    return None if gray or len(set(colors)) < num_classes else colors  # type: ignore[return-value]


def distinct_colors(num_classes: int) -> tuple[Color, ...]:
    """Colors that can be told apart: VOC's 21, then each time the one that is farthest from all before it.

    Args:
        num_classes: 1..255.
    """
    chosen = torch.tensor(VOC_PALETTE[:_VOC], dtype=torch.float32)
    levels = torch.tensor(_LEVELS, dtype=torch.float32)
    candidates = torch.cartesian_prod(levels, levels, levels)
    nearest = torch.cdist(candidates, chosen).amin(1)
    colors = [tuple(map(int, color)) for color in chosen.tolist()]
    while len(colors) < num_classes:
        farthest = candidates[nearest.argmax()]
        colors.append(tuple(map(int, farthest.tolist())))
        nearest = torch.minimum(nearest, (candidates - farthest).norm(dim=1))
    return tuple(colors[:num_classes])  # type: ignore[arg-type]
