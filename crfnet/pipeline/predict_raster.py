"""Label maps of GeoTIFFs, window by window, with the georeference of the image."""

import errno
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from crfnet.data import DataConfig
from crfnet.data.geotiff import (
    RasterWindow,
    available,
    georeference,
    open_raster,
    raster_windows,
    read_bands,
)
from crfnet.data.image_files import to_bytes
from crfnet.errors import require
from crfnet.evaluation.inference import predict_labels
from crfnet.files import is_turned, one_line, record_file
from crfnet.labels import VOC_PALETTE, VOID, Palette, overlay
from crfnet.shapes import Logits

if TYPE_CHECKING:
    from rasterio.io import DatasetReader, DatasetWriter

__all__ = ["check_windows", "is_raster", "predict_raster"]

_GRID = 32  #: of the networks: windows begin at its multiples, so that they see what the whole would be


def check_windows(window: int, margin: int) -> None:
    """Refuse sides that do not lie on the networks' grid.

    Raises:
        InputError: names the option.
    """
    require("--window", window, window >= _GRID and window % _GRID == 0, f"a multiple of {_GRID} above 0")
    require("--margin", margin, margin >= 0 and margin % _GRID == 0, f"a multiple of {_GRID}, or 0")


def is_raster(path: Path, window: int) -> bool:
    """Whether a file is a TIFF with a georeference, or one larger than a window; never without rasterio."""
    if path.suffix.lower() not in (".tif", ".tiff") or not available():
        return False
    with open_raster(path) as raster:
        if georeference(raster):
            return True
        large = raster.height * raster.width > window**2
    return large and not is_turned(path)  # which no window is


def predict_raster(
    model: Callable[[Tensor], Logits],
    path: Path,
    folder: Path,
    *,
    config: DataConfig,
    palette: Palette,
    device: torch.device,
    window: int,
    margin: int,
) -> None:
    """Write ``<name>.tif``, class indices, and ``<name>_overlay.tif`` into a folder.

    Memory holds a window and its margin, however large the image is; the CRF sees as much. Pixels without
    data in the image are void.

    Args:
        model: as of `predict_labels`.
        path: of the image.
        folder: made when missing.
        config: channels and range of the image.
        palette: of the classes.
        device: of the model.
        window: side of a window in pixels, see `check_windows`.
        margin: pixels around it that the model sees, too.

    Raises:
        InputError: the image cannot be used.
    """
    with open_raster(path) as raster, ExitStack() as stack:
        read = lambda part: to_bytes(  # noqa: E731
            read_bands(raster, part), path, config.channels, config.image_range
        )
        read((slice(0, 1), slice(0, 1)))  # refused before anything is written
        folder.mkdir(parents=True, exist_ok=True)
        labels_file, overlay_file = (
            stack.enter_context(_written(folder / f"{path.stem}{end}.tif", raster, bands))
            for end, bands in (("", 1), ("_overlay", 3))
        )
        colors = [*palette, *VOC_PALETTE[len(palette) :]]
        labels_file.write_colormap(1, {label: tuple(color) for label, color in enumerate(colors)})
        parts = list(raster_windows(raster.height, raster.width, window, margin))
        for part in tqdm(parts, path.name, unit="window", mininterval=0.5, disable=len(parts) == 1):
            image = torch.from_numpy(read(part.read)).permute(2, 0, 1).contiguous()
            labels = predict_labels(model, image.to(device)).cpu()[part.inside]
            labels[torch.from_numpy(_without_data(raster, part, config.channels))] = VOID
            picture = overlay(image[(slice(None), *part.inside)], labels, palette)
            place = tuple((each.start, each.stop) for each in part.kept)
            labels_file.write(labels.byte().numpy(), 1, window=place)
            overlay_file.write(picture.numpy(), window=place)


def _without_data(raster: "DatasetReader", part: RasterWindow, channels: int) -> np.ndarray:
    """Where the file says that it has no data. A band that the network reads is no mask.

    GDAL calls the fourth of four 8-bit bands alpha unless it is told that it is infrared.
    """
    from rasterio.enums import ColorInterp, MaskFlags
    from rasterio.errors import NodataShadowWarning

    place = tuple((each.start, each.stop) for each in part.kept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NodataShadowWarning)  # that a value counts, not the alpha band
        without: np.ndarray
        if raster.count != channels or ColorInterp.alpha not in raster.colorinterp:
            without = raster.dataset_mask(window=place) == 0
        elif any(MaskFlags.nodata in flags for flags in raster.mask_flag_enums):
            without = (raster.read_masks(window=place) == 0).all(0)
        else:
            without = np.zeros([each.stop - each.start for each in part.kept], bool)
    return without


@contextmanager
def _written(path: Path, raster: "DatasetReader", bands: int) -> Iterator["DatasetWriter"]:
    """A GeoTIFF of bytes where ``raster`` is, at its name when it is whole."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    options: dict[str, Any] = {"compress": "deflate", "tiled": True, "blockxsize": 256, "blockysize": 256}
    shape = {"count": bands, "height": raster.height, "width": raster.width, "dtype": "uint8"}
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    place = georeference(raster)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            file = rasterio.open(
                unfinished, "w", driver="GTiff", bigtiff="IF_SAFER", **shape, **options, **place
            )
        with file:
            yield file
        record_file(path)
        unfinished.replace(path)
    except RasterioError as error:
        raise OSError(errno.EIO, f"cannot be written ({one_line(error)})", str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)
