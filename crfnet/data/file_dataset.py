"""Data sets of one image file and one mask file for each id: finding, reading and checking them."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from crfnet.data.config import DataConfig
from crfnet.data.dataset import Sample, SegmentationDataset, Split
from crfnet.data.id_lists import check_ids
from crfnet.data.image_files import read_image, shown_turned
from crfnet.data.label_checks import label_problem
from crfnet.data.label_map import read_colors, resolve_labels
from crfnet.errors import InputError
from crfnet.files import read_indices, regular
from crfnet.labels import VOID
from crfnet.shapes import LabelMap

__all__ = [
    "FileDataset",
    "MaskFiles",
    "MissingMaskError",
    "label_table",
    "read_mat",
]


class MissingMaskError(InputError):
    """An image of the list has no mask."""


def read_mat(path: Path, variable: str) -> np.ndarray:
    """One variable of a MATLAB file of version 4 to 7.2; structures become records of object arrays.

    Raises:
        InputError: The file is broken, of version 7.3, or has no such variable.
    """
    from scipy.io import loadmat

    try:
        found = loadmat(regular(path), variable_names=[variable])
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
    """Images and masks found by id, each at the first of several places where there is one.

    An ending may be written in any case: ``a.JPG`` is found where ``a.jpg`` is looked for.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        ids: tuple[str, ...],
        config: DataConfig,
        *,
        images: tuple[str, ...],
        masks: tuple[MaskFiles, ...],
        without_image: tuple[str, ...] = (),
    ) -> None:
        """Opens no file.

        Args:
            name: Short name for logs and messages.
            root: What the patterns are relative to.
            ids: One id for each sample.
            config: Classes, and how images and masks are read.
            images: Patterns as in `MaskFiles`.
            masks: Where the masks may lie, and what their numbers mean.
            without_image: Names of the masks that belong to no image, where that can be told.

        Raises:
            InputError: see `check_ids` and `resolve_labels`.
        """
        check_ids(ids, root)
        self.name, self.ids = name, ids
        self._root, self._images, self._config = root, images, config
        self._labeling = resolve_labels(config)
        self.classes, self.palette = self._labeling.classes
        self._masks = tuple(self._translated(kind) for kind in masks if not self._useless(kind))
        self.without_image = without_image
        self._folders: dict[Path, dict[str, Path]] = {}

    def __getitem__(self, index: int) -> Sample:
        """Sample number ``index``, read from disk; ``InputError`` when its files cannot be used."""
        image_id = self.ids[index]
        image_path, (mask_path, kind) = self._image_path(image_id), self._mask_path(image_id)
        image = read_image(image_path, self._config.channels, self._config.image_range)
        labels = self._read_mask(mask_path, kind)
        if image.shape[1:] != labels.shape:
            turned = "; the image is turned by its EXIF data" if shown_turned(image_path) else ""
            raise InputError(
                f"{mask_path}: the mask is {_size(labels)} but the image {image_path} is {_size(image)}, "
                f"must be of equal sizes{turned}"
            )
        return Sample(image_id, image, labels)

    def label_problem(self, pixels: Sequence[int], split: Split | None) -> str | None:
        """See `crfnet.data.label_checks`."""
        return label_problem(pixels, self.classes, self._labeling, split)

    def _translated(self, kind: MaskFiles) -> MaskFiles:
        """The masks as ``label_map`` and ``colors`` have them."""
        colors, labels = self._labeling.colors, self._labeling.labels
        if colors:
            return kind._replace(labels=labels, read=partial(read_colors, colors=colors))
        return kind._replace(labels=np.where(kind.labels < 0, -1, labels[kind.labels]))

    def _useless(self, kind: MaskFiles) -> bool:
        """Masks that hold no colors where colors are wanted."""
        return bool(self._labeling.colors) and kind.pattern.endswith(".mat")

    def _image_path(self, image_id: str) -> Path:
        candidates = [_place(self._root, pattern, image_id) for pattern in self._images]
        for path in candidates:
            if (found := self._existing(path)) is not None:
                return found
        raise InputError(f"{candidates[0]}: no such image, must be one of {', '.join(self._images)}")

    def _mask_path(self, image_id: str) -> tuple[Path, MaskFiles]:
        candidates = [(_place(self._root, kind.pattern, image_id), kind) for kind in self._masks]
        for path, kind in candidates:
            if (found := self._existing(path)) is not None:
                return found, kind
        patterns = ", ".join(kind.pattern for kind in self._masks)
        raise MissingMaskError(
            f"{candidates[0][0]}: no such mask, must be one of {patterns} for the image "
            f"{self._image_path(image_id)}{self._other_masks(image_id)}"
        )

    def _other_masks(self, image_id: str) -> str:
        """What may have been meant: masks that belong to no image."""
        if not self.without_image:
            return ""
        near = [name for name in self.without_image if name.startswith(image_id)]
        suffix = Path(near[0]).stem.removeprefix(image_id) if near else ""
        advice = f"; give data.mask_suffix: {suffix}" if suffix else ""
        shown = (near or self.without_image)[0]
        return f"; {len(self.without_image)} masks have no image, such as {shown}{advice}"

    def _existing(self, path: Path) -> Path | None:
        """The file at ``path``, or the one beside it whose ending is written in another case."""
        if path.is_file():
            return path
        if path.parent not in self._folders:
            files = path.parent.iterdir() if path.parent.is_dir() else ()
            self._folders[path.parent] = {_folded(file): file for file in files}
        return self._folders[path.parent].get(_folded(path))

    def _read_mask(self, path: Path, kind: MaskFiles) -> LabelMap:
        values = kind.read(path)
        labels: np.ndarray = kind.labels.take(values, mode="clip")
        if labels.min() < 0:
            y, x = np.argwhere(labels < 0)[0]
            classes = _ranges(np.flatnonzero((kind.labels >= 0) & (kind.labels != VOID)))
            void = _ranges(np.flatnonzero(kind.labels == VOID))
            raise InputError(
                f"{path}: label {values[y, x]} at x={x}, y={y}, must be {classes} (the classes of "
                f"{self.name})" + (f" or {void} (void)" if void else "") + self._advice()
            )
        return torch.from_numpy(labels)

    def _advice(self) -> str:
        return "; for other numbers give data.label_map" if self._labeling.by_user else ""


def _place(root: Path, pattern: str, image_id: str) -> Path:
    return root / pattern.replace("{id}", image_id).replace("{city}", image_id.partition("_")[0])


def _folded(path: Path) -> str:
    return path.stem + path.suffix.lower()


def _ranges(numbers: np.ndarray) -> str:
    """``0..20, 255`` for 0, 1, ..., 20, 255."""
    if not len(numbers):
        return ""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _size(tensor: torch.Tensor) -> str:
    return f"{tensor.shape[-1]}x{tensor.shape[-2]} (width x height)"
