"""Read image files without trust: few formats, and what is broken is one line that names the file.

Everything that reads an image does it here. Pillow goes by the content of a file, whatever its name, and
knows formats that it hands to other programs (PostScript to Ghostscript).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from crfnet.errors import InputError
from crfnet.files.error_text import one_line
from crfnet.files.regular import regular

__all__ = [
    "IMAGE_FORMATS",
    "MASK_FORMATS",
    "is_turned",
    "open_image",
    "read_indices",
    "shown_size",
    "upright",
]

_ORIENTATION = 0x0112  #: the EXIF tag
#: What undoes each of its values.
_UNDONE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")  #: that are read, by Pillow's names
MASK_FORMATS = (*IMAGE_FORMATS, "GIF")  #: of masks, too: their palettes hold all classes


@contextmanager
def open_image(path: Path, formats: tuple[str, ...] = IMAGE_FORMATS) -> Iterator[Image.Image]:
    """Open the image at `path`; errors within name the file.

    Raises:
        InputError: missing, damaged, of a format not in ``formats``, or of more pixels than anyone
            photographs (Pillow's limit, 179 million).
    """
    try:
        with Image.open(regular(path), formats=formats) as file:
            yield file
    except InputError:
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(formats)
        raise InputError(f"{path}: cannot be read as an image (none of {known})") from error
    except Exception as error:  # Pillow's readers raise whatever the broken bytes lead them to
        raise InputError(f"{path}: cannot be read as an image ({one_line(error)})") from error


def upright(file: Image.Image) -> Image.Image:
    """The image as viewers show it: turned and mirrored as its EXIF data say, where they can be read."""
    file.load()  # of a TIFF, Pillow does it there, and the tag is gone
    undone = _UNDONE.get(_orientation(file))
    return file if undone is None else file.transpose(undone)


def shown_size(path: Path) -> tuple[int, int]:
    """Rows and columns of the image at `path` as viewers show it, from its header alone.

    Raises:
        InputError: see `open_image`.
    """
    with open_image(path) as file:
        across = _orientation(file) in (5, 6, 7, 8)
        return (file.width, file.height) if across else (file.height, file.width)


def is_turned(path: Path) -> bool:
    """Whether viewers show the image otherwise than it is stored; False where that cannot be read."""
    try:
        with open_image(path) as file:
            return _orientation(file) in _UNDONE
    except InputError:
        return False


def _orientation(file: Image.Image) -> int:
    """The EXIF tag, of a TIFF before its pixels are loaded; 1 where there is none that can be read."""
    try:
        return int(file.getexif().get(_ORIENTATION, 1))
    except Exception:  # as with broken pixels, anything; viewers show such an image as it is stored
        return 1


def read_indices(path: Path) -> NDArray[np.uint8]:
    """Read the stored numbers of a palette or 8-bit gray image, never through its colors, `upright`.

    Returns:
        (h, w).

    Raises:
        InputError: The file is broken or of another kind.
    """
    with open_image(path, MASK_FORMATS) as file:
        # Gray of 1, 2 or 4 bits would be stretched to 0..255 by the reader; its raw mode says so.
        tiles = getattr(file, "tile", None)
        mode, raw = file.mode, tiles[0][3] if tiles else file.mode
        raw = raw[0] if isinstance(raw, tuple) and raw else raw  # of a TIFF or BMP
        values: NDArray[np.uint8] = np.array(upright(file))
    of_gif = file.format == "GIF" and mode == "L"  # a palette of grays, by their numbers
    if mode != "P" and (mode, raw) != ("L", "L") and not of_gif:
        kind = raw if isinstance(raw, str) else mode
        raise InputError(
            f"{path} is a mask of mode {kind}, must be a palette image (P) or 8-bit gray (L){_advice(kind)}"
        )
    return values


def _advice(kind: str) -> str:
    return "; for a mask of colors give data.colors" if kind.startswith("RGB") else ""
