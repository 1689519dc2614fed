"""Image files of any kind as bytes: upright, with the wanted channels, more than 8 bits by a given range."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from PIL.TiffImagePlugin import SAMPLESPERPIXEL, TiffImageFile

from crfnet.data import geotiff
from crfnet.errors import InputError
from crfnet.files import open_image, read_arrays, upright
from crfnet.shapes import ImageBytes

__all__ = ["IMAGE_ENDINGS", "read_image", "shown_turned", "to_bytes"]

#: Of image files, in any case.
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".npy")

ImageRange: TypeAlias = tuple[float, float]  #: the values that become 0 and 255
_MODES = {1: "L", 3: "RGB"}  #: what Pillow converts everything of 8 bits to
_TIFF = (".tif", ".tiff")


def read_image(path: Path, channels: int = 3, image_range: ImageRange | None = None) -> ImageBytes:
    """The image at ``path``, uint8, as viewers show it: turned as its EXIF data say.

    Gray is repeated for RGB, RGB weighted for gray; other numbers of channels must be those of the file.

    Args:
        path: of what Pillow reads; a ``.npy`` of (h, w) or (h, w, channels); a TIFF of any bands through
            rasterio (``crfnet[geo]``).
        channels: of the result.
        image_range: the values that become 0 and 255, of files that hold more than 8 bits a channel; what is
            outside is cut off, NaN becomes 0.

    Raises:
        InputError: The file is missing or broken, has other channels, or more than 8 bits without a range.
    """
    if path.suffix.lower() == ".npy":
        pixels, kind = _read_npy(path), ""
    elif path.suffix.lower() in _TIFF and not _pillow_reads(path):
        pixels, kind = geotiff.read_pixels(path), ""
    else:
        pixels, kind = _read_pillow(path, channels)
    stored = to_bytes(pixels, path, channels, image_range, kind)
    return torch.from_numpy(stored).permute(2, 0, 1).contiguous()


def to_bytes(
    pixels: np.ndarray, path: Path, channels: int, image_range: ImageRange | None, kind: str = ""
) -> np.ndarray:
    """Pixels (h, w, bands) as uint8 (h, w, channels), see `read_image`; ``kind``: their name in messages."""
    bands = pixels.shape[2]
    if bands == 1 and channels == 3:
        pixels = pixels.repeat(3, 2)
    elif bands == 3 and channels == 1 and pixels.dtype == np.uint8:
        pixels = np.array(Image.fromarray(pixels).convert("L"))[..., None]
    elif bands == 4 and channels == 3 and pixels.dtype == np.uint8:
        pixels = pixels[..., :3]  # alpha, or infrared behind red, green and blue
    elif bands != channels:
        raise InputError(f"{path}: image with {bands} channels, must be {channels} (data.channels)")
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if image_range is None:
        low, high = (float(bound(pixels)) for bound in (np.nanmin, np.nanmax))
        raise InputError(
            f"{path}: image of {kind or pixels.dtype}, must have 8 bits a channel, or give data.image_range: "
            f"[low, high] of what becomes 0 and 255 (here are values from {low:g} to {high:g})"
        )
    low, high = image_range
    scaled = (pixels.astype(np.float32) - low) * (255 / (high - low))
    stored: np.ndarray = (
        np.nan_to_num(scaled, nan=0, posinf=255, neginf=0).clip(0, 255).round().astype(np.uint8)
    )
    return stored


def shown_turned(path: Path) -> bool:
    """Whether a viewer shows the image with another width and height than are stored."""
    try:
        with open_image(path) as file:
            return upright(file).size != file.size
    except InputError:
        return False


def _read_npy(path: Path) -> np.ndarray:
    try:
        pixels = read_arrays(path)[""]
    except (ValueError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from error
    if pixels.ndim not in (2, 3) or pixels.dtype.kind not in "uif" or 0 in pixels.shape:
        raise InputError(
            f"{path}: {pixels.dtype} of shape {pixels.shape}, must be numbers (h, w) or (h, w, channels)"
        )
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _pillow_reads(path: Path) -> bool:
    """Whether Pillow reads all bits and bands of a TIFF; where rasterio is missing, it has to try."""
    if not geotiff.available():
        return True
    try:
        with open_image(path) as file:
            bands = file.tag_v2.get(SAMPLESPERPIXEL, 1) if isinstance(file, TiffImageFile) else 1
            return not _deep(file) and int(bands) <= len(file.getbands())
    except InputError:
        return False


def _deep(file: Image.Image) -> bool:
    """Pillow would give 8 bits of each channel's 16."""
    tiles = getattr(file, "tile", None)
    raw = str(tiles[0][3]) if tiles else ""
    return not file.mode.startswith(("I", "F")) and ";16" in raw


def _read_pillow(path: Path, channels: int) -> tuple[np.ndarray, str]:
    """The pixels (h, w, bands) and what Pillow calls them."""
    with open_image(path) as file:
        if _deep(file):
            raise InputError(
                f"{path}: image of 16 bits in {len(file.getbands())} channels, of which Pillow reads 8 bits; "
                "must be a TIFF, with crfnet[geo] installed, or a .npy"
            )
        shown = upright(file)
        if shown.mode.startswith(("I", "F")):
            pixels = np.array(shown)
        elif channels in _MODES:
            pixels = np.array(shown.convert(_MODES[channels]))
        else:
            pixels = np.array(shown.convert("RGB") if shown.mode == "P" else shown)
    return (pixels if pixels.ndim == 3 else pixels[..., None]), f"mode {shown.mode}"
