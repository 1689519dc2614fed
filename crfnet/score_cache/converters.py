"""Converts a folder of another program's score files into a score folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from crfnet.errors import InputError, require
from crfnet.files import open_image
from crfnet.score_cache.formats import FORMATS, Format
from crfnet.score_cache.probabilities import hold_probabilities
from crfnet.score_cache.reader import ScoreFolder
from crfnet.score_cache.writer import missing_scores, write_scores

__all__ = ["ConvertOptions", "convert_scores"]

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class ConvertOptions:
    """How to read the files, where they do not say it themselves.

    Attributes:
        format: a name of `FORMATS`; empty is that of the files, where all have the same ending.
        kind: logits or probabilities; empty is the format's.
        axes: the order of labels, rows and columns in an array, e.g. ``hwl``; empty is the format's.
        key: name of the array in a .mat or .npz file; empty is the only one.
        strip: suffix of a file's name to remove for the image's id; None is the format's.
        images: folder of the images, to whose sizes padded scores are cropped (upper left corner).
        align_corners: whether corner scores lie on corner pixels, where scores are at a stride.
    """

    format: Literal["", "mat", "npz", "npy", "png"] = ""
    kind: Literal["", "logits", "probabilities"] = ""
    axes: str = ""
    key: str = ""
    strip: str | None = None
    images: Path | None = None
    align_corners: bool = False

    def __post_init__(self) -> None:
        valid = self.axes == "" or sorted(self.axes) == ["h", "l", "w"]
        require("axes", self.axes, valid, "l, h and w once each, e.g. lhw")


def convert_scores(
    source: Path, folder: Path, options: ConvertOptions | None = None, *, overwrite: bool = False
) -> ScoreFolder:
    """Convert the scores of every image in the folder `source` to the score folder `folder`.

    Ids that `folder` holds already are skipped, so that an interrupted conversion continues.

    Args:
        source: files of one of `FORMATS`.
        folder: created if missing.
        options: see `ConvertOptions`.
        overwrite: delete scores of another source that `folder` holds.

    Raises:
        InputError: no such files, one that cannot be read, arrays of a wrong shape, scores without an image
            or smaller than it, logits whose first file holds probabilities.
    """
    apart = source.resolve() != folder.resolve()
    require("--to", str(folder), apart, "another folder than that of the files, which would be lost")
    options = options or ConvertOptions()
    format_ = _format(source, options)
    if format_.padded and options.images is None:
        raise InputError(
            f"{source}: scores of padded input; give the folder of the images (--images) to crop them"
        )
    paths = sorted(path for path in source.iterdir() if path.suffix == format_.suffix)
    strip = format_.strip if options.strip is None else options.strip
    images = format_.group(paths, strip)
    first = _read(next(iter(images.values())), format_, options)
    kind = options.kind or format_.kind
    if kind == "logits" and hold_probabilities(first):
        raise InputError(
            f"{next(iter(images.values()))[0]}: numbers of 0..1 that sum to 1 at every pixel are not logits; "
            "give --kind probabilities"
        )
    pending = list(images) if overwrite else missing_scores(folder, images)
    sizes = {
        image_id: None if options.images is None else _image_size(options.images, image_id)
        for image_id in pending
    }

    def pairs() -> Iterator[tuple[str, Tensor]]:
        for image_id in tqdm(pending, "convert", unit="image", mininterval=0.5):
            scores = _read(images[image_id], format_, options)
            yield image_id, _crop(scores, sizes[image_id], images[image_id][0])

    return write_scores(
        folder,
        pairs(),
        len(first),
        options.align_corners,
        f"converted from {source}",
        kind=kind,
        overwrite=overwrite,
    )


def _format(source: Path, options: ConvertOptions) -> Format:
    """The format asked for, or that of the files."""
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    endings = {path.suffix for path in source.iterdir()}
    found = [name for name, one in FORMATS.items() if one.suffix in endings]
    if options.format and options.format not in found:
        raise InputError(f"{source}: holds no {FORMATS[options.format].suffix} file")
    if not options.format and len(found) != 1:
        names = " and ".join(found) or "no"
        raise InputError(f"{source}: holds {names} files, must be one of {', '.join(FORMATS)} (--format)")
    return FORMATS[options.format or found[0]]


def _read(paths: Sequence[Path], format_: Format, options: ConvertOptions) -> Float[Tensor, "l h w"]:
    """Read the scores of one image, float32."""
    array = format_.read(paths, options.key)
    axes = options.axes or format_.axes
    shape = array.shape
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]  # Caffe's batch axis, last in MATLAB
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3 or array.dtype.kind not in "fiu" or 0 in shape:
        raise InputError(
            f"{paths[0]}: an array {shape} of {array.dtype}, must be numbers with three axes ({axes})"
        )
    ordered = array.transpose([axes.index(axis) for axis in "lhw"])
    with np.errstate(over="ignore"):  # infinity is refused when it is written
        return torch.from_numpy(np.ascontiguousarray(ordered, dtype=np.float32))


def _image_size(folder: Path, image_id: str) -> tuple[int, int]:
    """Height and width of an image."""
    path = next((p for suffix in _IMAGE_SUFFIXES if (p := folder / f"{image_id}{suffix}").is_file()), None)
    if path is None:
        raise InputError(f"{folder}: no image {image_id!r} ({', '.join(_IMAGE_SUFFIXES)})")
    with open_image(path) as file:
        return file.height, file.width


def _crop(
    scores: Float[Tensor, "l hs ws"], size: tuple[int, int] | None, path: Path
) -> Float[Tensor, "l h w"]:
    """The upper left corner of `size`."""
    if size is None:
        return scores
    height, width = size
    if scores.shape[1] < height or scores.shape[2] < width:
        raise InputError(
            f"{path}: scores are {scores.shape[1]} x {scores.shape[2]} (rows x columns), must not be smaller "
            f"than the image, {height} x {width}, to be cropped"
        )
    return scores[:, :height, :width]
