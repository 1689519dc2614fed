"""GeoTIFF through rasterio (``crfnet[geo]``): any bands and bits, window by window, with its georeference."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crfnet.errors import InputError, needing
from crfnet.files import one_line

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

__all__ = [
    "RasterWindow",
    "available",
    "georeference",
    "open_raster",
    "raster_windows",
    "read_bands",
    "read_pixels",
]


#: Of an image that is read at once: Pillow's limit of pixels, for all that a header may claim.
_MAX_PIXELS, _MAX_BYTES = 178_956_970, 2**32


def available() -> bool:
    """Whether rasterio is installed."""
    return find_spec("rasterio") is not None


@contextmanager
def open_raster(path: Path) -> Iterator["DatasetReader"]:
    """Open a TIFF, with a georeference or without.

    Raises:
        ModuleNotFoundError: rasterio is not installed.
        InputError: the file is missing or no TIFF.
    """
    with needing(f"{path}"):
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # most images are not
            raster = rasterio.open(path, driver="GTiff")
    except RasterioError as error:
        raise InputError(f"{path}: cannot be read as a GeoTIFF ({one_line(error)})") from error
    with raster:
        yield raster


class RasterWindow(NamedTuple):
    """A part of a raster that is predicted at once.

    Attributes:
        read: rows and columns that are read: those of ``kept`` and a margin, as far as the raster goes.
        kept: rows and columns whose labels are written.
    """

    read: tuple[slice, slice]
    kept: tuple[slice, slice]

    @property
    def inside(self) -> tuple[slice, slice]:
        """The kept part as rows and columns of what was read."""
        rows, columns = (
            slice(kept.start - read.start, kept.stop - read.start)
            for read, kept in zip(self.read, self.kept, strict=True)
        )
        return rows, columns


def raster_windows(height: int, width: int, side: int, margin: int) -> Iterator[RasterWindow]:
    """Cut a raster into windows of ``side`` pixels, row by row, each read with a margin around it."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            kept = (slice(top, min(top + side, height)), slice(left, min(left + side, width)))
            rows, columns = (
                slice(max(0, part.start - margin), min(part.stop + margin, size))
                for part, size in zip(kept, (height, width), strict=True)
            )
            yield RasterWindow((rows, columns), kept)


def georeference(raster: "DatasetReader") -> dict[str, Any]:
    """What places a raster on the earth, as `rasterio.open` takes it for a new one; empty without a place."""
    if raster.gcps[0]:
        return {"gcps": raster.gcps[0], "crs": raster.gcps[1]}
    placed = raster.crs is not None or not raster.transform.is_identity
    return {"crs": raster.crs, "transform": raster.transform} if placed else {}


def read_pixels(path: Path) -> np.ndarray:
    """The pixels (h, w, bands) of a TIFF in its own type.

    Raises:
        ModuleNotFoundError: rasterio is not installed.
        InputError: the file is missing or broken, or of more pixels than anyone photographs.
    """
    with open_raster(path) as raster:
        height, width = raster.height, raster.width
        size = height * width * raster.count * max(np.dtype(kind).itemsize for kind in raster.dtypes)
        if height * width > _MAX_PIXELS or size > _MAX_BYTES:
            raise InputError(
                f"{path}: {width}x{height} pixels of {raster.count} bands, must be at most {_MAX_PIXELS} "
                f"pixels and {_MAX_BYTES} bytes to be read at once; crfnet predict reads windows"
            )
        return read_bands(raster, (slice(0, height), slice(0, width)))


def read_bands(raster: "DatasetReader", part: tuple[slice, slice]) -> np.ndarray:
    """The pixels (h, w, bands) of some rows and columns, those of a palette in its colors.

    Raises:
        InputError: they are broken.
    """
    from rasterio.enums import ColorInterp
    from rasterio.errors import RasterioError

    place = tuple((each.start, each.stop) for each in part)
    try:
        bands: np.ndarray = raster.read(window=place)
    except RasterioError as error:
        raise InputError(f"{raster.name}: cannot be read as a GeoTIFF ({one_line(error)})") from error
    if raster.colorinterp[0] == ColorInterp.palette and bands.dtype == np.uint8:
        colors = raster.colormap(1)
        table = np.array([colors.get(index, (0, 0, 0))[:3] for index in range(256)], np.uint8)
        bands = np.moveaxis(table[bands[0]], 2, 0)
    return np.moveaxis(bands, 0, 2)
