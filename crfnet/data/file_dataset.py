"""Data sets of one image file and one mask file for each id: finding, reading and checking them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from crfnet.data.dataset import Sample, SegmentationDataset
from crfnet.errors import InputError
from crfnet.files import open_image, read_indices
from crfnet.labels import VOID, Color
from crfnet.shapes import ImageBytes, LabelMap

__all__ = [
    "FileDataset",
    "MaskFiles",
    "MissingMaskError",
    "label_table",
    "read_image",
    "read_indices",
    "read_mat",
]


class MissingMaskError(InputError):
    """An image of the list has no mask."""


def read_image(path: Path) -> ImageBytes:
    """The image at `path` as RGB, uint8; gray ones are repeated.

    Raises:
        InputError: The file is missing, broken or has more than 8 bits a channel.
    """
    with open_image(path) as file:
        mode, pixels = file.mode, np.array(file.convert("RGB"))
    if mode.startswith(("I", "F")):
        raise InputError(f"{path}: image of mode {mode}, must have 8 bits a channel")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_mat(path: Path, variable: str) -> np.ndarray:
    """One variable of a MATLAB file of version 4 to 7.2; structures become records of object arrays.

    Raises:
        InputError: The file is broken, of version 7.3, or has no such variable.
    """
    from scipy.io import loadmat

    try:
        found = loadmat(path, variable_names=[variable])
    except Exception as error:  # scipy's reader raises whatever the broken bytes lead it to
        raise InputError(f"{path}: cannot be read as a MATLAB file ({error})") from error
    if variable not in found:
        raise InputError(f"{path}: no variable {variable}, must be a MATLAB file that holds it")
    return np.asarray(found[variable])


class MaskFiles(NamedTuple):
    """One of the forms in which a data set's masks lie on disk.

    Attributes:
        pattern: Path below the root, with ``{id}``, and ``{city}`` for the id up to its first underscore.
        labels: int64 (n,): the label that each stored number means, -1 where it is not allowed; the last
            entry holds for every greater number, too.
        read: The stored numbers (h, w), >= 0, of one file; `InputError` when it cannot be used.
    """

    pattern: str
    labels: np.ndarray
    read: Callable[[Path], np.ndarray] = read_indices


def label_table(num_classes: int, void: Sequence[int] = ()) -> np.ndarray:
    """Numbers of 8 bits that are the labels themselves; 255, and those in `void`, mean void."""
    table = np.full(256, -1, np.int64)
    table[:num_classes] = np.arange(num_classes)
    table[[VOID, *void]] = VOID
    return table


class FileDataset(SegmentationDataset):
    """Images and masks found by id, each at the first of several places where there is one."""

    def __init__(
        self,
        name: str,
        root: Path,
        ids: tuple[str, ...],
        classes: tuple[str, ...],
        colors: tuple[Color, ...],
        *,
        images: tuple[str, ...],
        masks: tuple[MaskFiles, ...],
    ) -> None:
        """Opens no file.

        Args:
            name: Short name for logs and messages.
            root: What the patterns are relative to.
            ids: One id for each sample.
            classes: Class names; the position is the label.
            colors: One color for each class.
            images: Patterns as in `MaskFiles`.
            masks: Where the masks may lie, and what their numbers mean.
        """
        self.name, self.classes, self.palette, self.ids = name, classes, colors, ids
        self._root, self._images, self._masks = root, images, masks

    def __getitem__(self, index: int) -> Sample:
        """Sample number ``index``, read from disk; ``InputError`` when its files cannot be used."""
        image_id = self.ids[index]
        image_path, (mask_path, kind) = self._image_path(image_id), self._mask_path(image_id)
        image, labels = read_image(image_path), self._read_mask(mask_path, kind)
        if image.shape[1:] != labels.shape:
            raise InputError(
                f"{mask_path}: the mask is {_size(labels)} but the image {image_path} is {_size(image)}, "
                "must be of equal sizes"
            )
        return Sample(image_id, image, labels)

    def _image_path(self, image_id: str) -> Path:
        candidates = [_place(self._root, pattern, image_id) for pattern in self._images]
        for path in candidates:
            if path.is_file():
                return path
        raise InputError(f"{candidates[0]}: no such image, must be one of {', '.join(self._images)}")

    def _mask_path(self, image_id: str) -> tuple[Path, MaskFiles]:
        candidates = [(_place(self._root, kind.pattern, image_id), kind) for kind in self._masks]
        for path, kind in candidates:
            if path.is_file():
                return path, kind
        patterns = ", ".join(kind.pattern for kind in self._masks)
        raise MissingMaskError(f"{candidates[0][0]}: no such mask, must be one of {patterns}")

    def _read_mask(self, path: Path, kind: MaskFiles) -> LabelMap:
        values = kind.read(path)
        labels: np.ndarray = kind.labels.take(values, mode="clip")
        if labels.min() < 0:
            y, x = np.argwhere(labels < 0)[0]
            classes = _ranges(np.flatnonzero((kind.labels >= 0) & (kind.labels != VOID)))
            void = _ranges(np.flatnonzero(kind.labels == VOID))
            raise InputError(
                f"{path}: label {values[y, x]} at x={x}, y={y}, must be {classes} (the classes of "
                f"{self.name})" + (f" or {void} (void)" if void else "")
            )
        return torch.from_numpy(labels)


def _place(root: Path, pattern: str, image_id: str) -> Path:
    return root / pattern.replace("{id}", image_id).replace("{city}", image_id.partition("_")[0])


def _ranges(numbers: np.ndarray) -> str:
    """``0..20, 255`` for 0, 1, ..., 20, 255."""
    if not len(numbers):
        return ""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _size(tensor: torch.Tensor) -> str:
    return f"{tensor.shape[-1]}x{tensor.shape[-2]} (width x height)"
