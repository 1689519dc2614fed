"""The counts of an evaluation's images, and the .npz file that keeps them."""

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from crfnet.errors import InputError
from crfnet.evaluation.dilation import ELEMENTS
from crfnet.evaluation.trimap import BANDS, Band, Shells
from crfnet.files import one_line, read_arrays, write_atomically
from crfnet.labels import VOID

__all__ = ["ImageCounts", "read_image_counts", "write_image_counts"]

_SETTINGS = ("num_classes", "max_width", "element", "iou_width", "f_width")
_NAMES = (
    "settings",
    "ids",
    "confusion",
    "boundary",
    "contours",
    *(f"{band}_{part}" for band in BANDS for part in ("sizes", "bins", "counts")),
)


@dataclass(frozen=True)
class ImageCounts:
    """What is kept of one image, all int32 on the CPU.

    Attributes:
        confusion: of the whole image.
        shells: of each trimap, pixels by (distance, truth, prediction).
        boundary: see `crfnet.evaluation.boundary.boundary_tallies`.
        contours: see `crfnet.evaluation.boundary.contour_matches`.
    """

    confusion: Int[Tensor, "l l"]
    shells: Mapping[Band, Shells]
    boundary: Int[Tensor, "l 3"]
    contours: Int[Tensor, "l 4"]


def write_image_counts(path: Path, settings: Mapping[str, Any], images: Mapping[str, ImageCounts]) -> None:
    """One compressed .npz file, written atomically.

    Arrays: ``settings`` (JSON text), ``ids`` (i), ``confusion`` (i, l, l), ``boundary`` (i, l, 3),
    ``contours`` (i, l, 4), and of each band ``BAND_sizes`` (i), the number of its bins in each image, with
    ``BAND_bins`` and ``BAND_counts``, those of all images one after another.
    """
    classes, rows = settings["num_classes"], images.values()
    arrays: dict[str, np.ndarray] = {
        "settings": np.array(json.dumps(dict(settings))),
        "ids": np.array(list(images), dtype=np.str_),
    }
    for name, last in (("confusion", classes), ("boundary", 3), ("contours", 4)):
        stacked = [getattr(image, name).numpy() for image in rows]
        arrays[name] = np.array(stacked, dtype=np.int32).reshape(len(images), classes, last)
    for band in BANDS:
        shells = [image.shells[band] for image in rows]
        arrays[f"{band}_sizes"] = np.array([len(shell.bins) for shell in shells], dtype=np.int32)
        for part in ("bins", "counts"):
            joined = [getattr(shell, part).numpy() for shell in shells]
            arrays[f"{band}_{part}"] = np.concatenate([np.zeros(0, dtype=np.int32), *joined])
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    write_atomically(path, stream.getvalue())


def read_image_counts(path: Path) -> tuple[dict[str, Any], dict[str, ImageCounts]]:
    """The settings and images that `write_image_counts` wrote.

    Raises:
        InputError: the file is missing, damaged, of an older version, or something else.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file, must be an evaluation .npz")
    arrays = _read_arrays(path)
    settings = _settings(path, str(arrays["settings"]))
    ids, classes = _ids(path, arrays["ids"]), settings["num_classes"]
    for name, last in (("confusion", classes), ("boundary", 3), ("contours", 4)):
        _check_shape(path, name, arrays[name], (len(ids), classes, last))
    for name in _NAMES[2:]:
        most = settings["max_width"] * classes**2 if name.endswith("_bins") else 2**31
        _check_counts(path, name, arrays[name], most)
    shells = {band: _shells(path, arrays, band, len(ids)) for band in BANDS}
    parts = [torch.from_numpy(arrays[name]) for name in ("confusion", "boundary", "contours")]
    images = {
        id: ImageCounts(confusion, {band: shells[band][i] for band in BANDS}, boundary, contours)
        for i, (id, confusion, boundary, contours) in enumerate(zip(ids, *parts, strict=True))
    }
    return settings, images


def _shells(path: Path, arrays: Mapping[str, np.ndarray], band: Band, images: int) -> list[Shells]:
    sizes = arrays[f"{band}_sizes"]
    _check_shape(path, f"{band}_sizes", sizes, (images,))
    for part in ("bins", "counts"):
        _check_shape(path, f"{band}_{part}", arrays[f"{band}_{part}"], (int(sizes.sum()),))
    bins, counts = (
        torch.from_numpy(arrays[f"{band}_{part}"]).split(sizes.tolist()) for part in ("bins", "counts")
    )
    return [Shells(*pair) for pair in zip(bins, counts, strict=True)]


def _settings(path: Path, text: str) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = json.loads(text)
        found = {name: settings[name] for name in _SETTINGS}
        classes, width, *_, iou, f = found.values()
        if type(classes) is not int or type(width) is not int or not 2 <= classes <= VOID or width < 1:
            raise ValueError(f"num_classes {classes!r}, max_width {width!r}")
        if found["element"] not in ELEMENTS or not 0 < iou < math.inf or not 0 < f < math.inf:
            raise ValueError(f"element {found['element']!r}, iou_width {iou!r}, f_width {f!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: its settings cannot be read ({one_line(error)})") from error
    return found


def _ids(path: Path, array: np.ndarray) -> list[str]:
    ids = array.tolist() if array.ndim == 1 and array.dtype.kind == "U" else []
    if len(set(ids)) != array.size:
        raise InputError(f"{path}: ids are {array.dtype} {array.shape}, which must be (i,) different texts")
    return ids


def _check_counts(path: Path, name: str, array: np.ndarray, most: int) -> None:
    if array.dtype != np.int32 or (array.size and not 0 <= array.min() <= array.max() < most):
        raise InputError(f"{path}: {name} holds other than int32 numbers of 0..{most - 1}")


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        arrays = read_arrays(path)
    except ValueError as error:
        raise InputError(f"{path}: it cannot be read as an evaluation .npz ({error})") from error
    if "" in arrays:
        raise InputError(f"{path}: it cannot be read as an evaluation .npz (it is a .npy file)")
    _check_names(path, list(arrays))
    return arrays


def _check_names(path: Path, names: list[str]) -> None:
    if {"ids", "confusion", "trimap_void"} <= set(names):
        raise InputError(
            f"{path}: written by an older version, without boundary counts; evaluate the label maps "
            "beside it again (crfnet evaluate --predictions)"
        )
    missing = [name for name in _NAMES if name not in names]
    if missing:
        raise InputError(f"{path}: it lacks {', '.join(missing)}; an evaluation holds {', '.join(_NAMES)}")


def _check_shape(path: Path, name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise InputError(f"{path}: {name} has shape {array.shape}, which must be {shape}")
