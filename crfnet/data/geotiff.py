"""GeoTIFF through rasterio (``crfnet[geo]``): any bands and bits, window by window, with its georeference."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crfnet.errors import InputError, needing
from crfnet.files import one_line

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

__all__ = ["available", "open_raster", "read_pixels"]


def available() -> bool:
    """Whether rasterio is installed."""
    return find_spec("rasterio") is not None


@contextmanager
def open_raster(path: Path) -> Iterator["DatasetReader"]:
    """Open a raster of any kind that GDAL reads from a file; errors within name the file.

    Raises:
        ModuleNotFoundError: rasterio is not installed.
        InputError: the file is missing or broken.
    """
    with needing(f"{path}"):
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError

    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # most images are not
            with rasterio.open(path, driver="GTiff") as raster:
                yield raster
    except RasterioError as error:
        raise InputError(f"{path}: cannot be read as a GeoTIFF ({one_line(error)})") from error


def read_pixels(path: Path, window: Any = None) -> np.ndarray:
    """The pixels (h, w, bands) of a TIFF, or of a window of it, in its own type.

    Raises:
        ModuleNotFoundError: rasterio is not installed.
        InputError: the file is missing or broken.
    """
    with open_raster(path) as raster:
        bands: np.ndarray = raster.read(window=window)
    return np.moveaxis(bands, 0, 2)
