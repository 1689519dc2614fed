"""Converts a folder of another program's score files into a score folder."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from crfnet.data.image_files import IMAGE_ENDINGS
from crfnet.errors import InputError, require
from crfnet.files import shown_size
from crfnet.score_cache.formats import FORMATS, Format
from crfnet.score_cache.metadata import Kind
from crfnet.score_cache.reader import ScoreFolder
from crfnet.score_cache.recognition import label_axes, labels_sum_to, probability_scale
from crfnet.score_cache.writer import add_scores, missing_scores, prepare_score_folder

__all__ = ["ConvertOptions", "convert_scores"]

_LOG = logging.getLogger(__name__)
_LOOKED_AT = 20  # files whose axes are compared
_IMAGE_SUFFIXES = tuple(ending for ending in IMAGE_ENDINGS if ending != ".npy")  # which scores have


@dataclass(frozen=True)
class ConvertOptions:
    """How to read the files, where they do not say it themselves.

    Attributes:
        format: a name of `FORMATS`; empty is that of the files, where all have the same ending.
        kind: logits or probabilities; empty is the format's.
        axes: the order of labels, rows and columns in an array, e.g. ``hwl``; empty is the format's, which of
            .npy and .npz is what the first files show, see `label_axes`.
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

    Ids that `folder` holds already are skipped, so that an interrupted conversion continues; but not those
    whose files have been written since.

    Args:
        source: files of one of `FORMATS`.
        folder: created if missing.
        options: see `ConvertOptions`.
        overwrite: delete scores of another source that `folder` holds.

    Raises:
        InputError: no such files, one that cannot be read, arrays of a wrong shape or whose axes cannot be
            told, scores without an image or smaller than it, numbers that are not of their kind.
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
    options = _with_axes(images, format_, options)
    kind = options.kind or format_.kind
    first = _read(next(iter(images.values())), format_, options, kind)
    older = [] if overwrite else _older(folder, images)
    wanted = set(images) if overwrite else {*missing_scores(folder, images), *older}
    pending = [image_id for image_id in images if image_id in wanted]
    if kept := len(images) - len(pending):
        _LOG.info("%d of %d are kept as they were converted before (--overwrite: again)", kept, len(images))
    sizes = {
        image_id: None if options.images is None else _image_size(options.images, image_id)
        for image_id in pending
    }

    def pairs() -> Iterator[tuple[str, Tensor]]:
        for image_id in tqdm(pending, "convert", unit="image", mininterval=0.5):
            scores = _read(images[image_id], format_, options, kind)
            yield image_id, _crop(scores, sizes[image_id], images[image_id][0])

    made_of = f"converted from {source}"
    prepare_score_folder(folder, len(first), options.align_corners, made_of, kind=kind, overwrite=overwrite)
    for image_id in older:  # of this source, or it would have been refused
        (folder / f"{image_id}.npz").unlink()
    add_scores(folder, pairs(), len(first))
    written = ScoreFolder(folder)
    _read_back(written, pending)
    return written


def _older(folder: Path, images: Mapping[str, list[Path]]) -> list[str]:
    """The images whose scores in the folder are older than one of the files that they were made of."""
    made = {image_id: folder / f"{image_id}.npz" for image_id in images}
    return [
        image_id
        for image_id, files in images.items()
        if made[image_id].is_file()
        and made[image_id].stat().st_mtime_ns < max(file.stat().st_mtime_ns for file in files)
    ]


def _read_back(folder: ScoreFolder, ids: Sequence[str]) -> None:
    """Read what was written as every command will; what cannot be read does not stay."""
    for image_id in ids:
        try:
            folder.stored_logits(image_id)
        except InputError:
            (folder.path / f"{image_id}.npz").unlink(missing_ok=True)
            raise


def _with_axes(images: Mapping[str, list[Path]], format_: Format, options: ConvertOptions) -> ConvertOptions:
    """The options with the axes of the arrays, where neither they nor the format say them.

    Raises:
        InputError: they cannot be told from a few of the arrays.
    """
    if options.axes or not format_.axes_vary:
        return options
    some = list(images)[:_LOOKED_AT]
    arrays = [_stored(images[image_id], format_, options, "lhw") for image_id in some]
    known = [] if options.images is None else [_image_size(options.images, image_id) for image_id in some]
    axes = label_axes(arrays, known)
    if axes is None:
        raise InputError(
            f"{images[some[0]][0]}: an array {arrays[0].shape}: the last axis may be labels or columns; give "
            "--axes hwl or --axes lhw"
        )
    if axes != format_.axes:
        _LOG.info("the arrays are %s, not %s: recognized (--axes says otherwise)", axes, format_.axes)
    return replace(options, axes=axes)


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


def _read(
    paths: Sequence[Path], format_: Format, options: ConvertOptions, kind: Kind
) -> Float[Tensor, "l h w"]:
    """Read the scores of one image, float32; probabilities on the scale 0..1.

    Raises:
        InputError: they are not of that kind.
    """
    axes = options.axes or format_.axes
    array = _stored(paths, format_, options, axes)
    label = axes.index("l")
    scale = 1
    if kind == "probabilities":
        scale = _scale(array, axes, paths[0])
    elif sum_ := labels_sum_to(array, label):
        raise InputError(
            f"{paths[0]}: numbers that sum to {sum_} at every pixel are not logits; give --kind probabilities"
        )
    ordered = array.transpose([axes.index(axis) for axis in "lhw"])
    with np.errstate(over="ignore"):  # infinity is refused when it is written
        scores = torch.from_numpy(np.ascontiguousarray(ordered, dtype=np.float32))
    return scores if scale == 1 else scores / scale


def _scale(array: NDArray[Any], axes: str, path: Path) -> int:
    """What to divide probabilities by."""
    label = axes.index("l")
    scale = probability_scale(array, label)
    if scale is None:
        raise InputError(
            f"{path}: values from {array.min():.4g} to {array.max():.4g}, must be probabilities: 0..1, "
            "bytes, or numbers whose labels sum to 255, 65535 or 100; of logits give --kind logits"
        )
    other = [axes[axis] for axis in range(3) if axis != label and labels_sum_to(array, axis)]
    if other and not labels_sum_to(array, label):
        raise InputError(
            f"{path}: an array {array.shape} sums to a constant along {other[0]}, not along l ({axes})"
        )
    return scale


def _stored(paths: Sequence[Path], format_: Format, options: ConvertOptions, axes: str) -> NDArray[Any]:
    """The array of one image as it is stored, of three axes."""
    array = format_.read(paths, options.key)
    shape = array.shape
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]  # Caffe's batch axis, last in MATLAB
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3 or array.dtype.kind not in "fiu" or 0 in shape:
        raise InputError(
            f"{paths[0]}: an array {shape} of {array.dtype}, must be numbers with three axes ({axes})"
        )
    return array


def _image_size(folder: Path, image_id: str) -> tuple[int, int]:
    """Height and width of an image as viewers show it."""
    endings = [case(suffix) for suffix in _IMAGE_SUFFIXES for case in (str.lower, str.upper)]
    path = next((p for ending in endings if (p := folder / f"{image_id}{ending}").is_file()), None)
    if path is None:
        raise InputError(f"{folder}: no image {image_id!r} ({', '.join(_IMAGE_SUFFIXES)})")
    return shown_size(path)


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
