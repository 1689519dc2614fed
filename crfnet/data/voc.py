"""PASCAL VOC 2012, and any other data set in the layout of its folders."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from crfnet.data.dataset import VOID, Colour, DataConfig, Sample, SegmentationDataset, Split, palette
from crfnet.errors import InputError
from crfnet.shapes import ImageBytes, LabelMap

__all__ = ["VOC_CLASSES", "VocFolder", "voc"]

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

IMAGES, MASKS, LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
IMAGE_ENDINGS = (".jpg", ".png")


def voc(config: DataConfig, split: Split) -> SegmentationDataset:
    """PASCAL VOC 2012 segmentation: background and 20 classes, 255 = void (Everingham et al., IJCV 2010)."""
    return VocFolder("voc", config, split, VOC_CLASSES, palette(len(VOC_CLASSES)))


class VocFolder(SegmentationDataset):
    """Images and label maps in the folders of PASCAL VOC.

    ``JPEGImages/<id>.jpg`` (or ``.png``; the jpg is read if both are there), ``SegmentationClass/<id>.png``
    (palette image, whose index plane is the label map, or 8-bit grey image of labels) and
    ``ImageSets/Segmentation/<list>.txt`` (one id a line; empty lines are skipped).
    """

    def __init__(
        self,
        name: str,
        config: DataConfig,
        split: Split,
        classes: tuple[str, ...],
        colours: tuple[Colour, ...],
        *,
        also_void: tuple[int, ...] = (),
    ) -> None:
        """Reads the list of ids; no image is opened.

        Args:
            name: Short name for logs and messages.
            config: ``root`` is the folder; ``train`` and ``val`` name the lists.
            split: Which of the two lists.
            classes: Class names; the position is the label.
            colours: One colour for each class.
            also_void: Labels in the files, beside 255, that mean void.

        Raises:
            InputError: No root, a folder or list that does not exist, an empty list, an id that is not
                the bare name of a file or stands in the list twice.
        """
        self.name, self.classes, self.palette = name, classes, colours
        self._root = _existing_root(name, config.root)
        self.ids = _read_ids(self._root / LISTS, config.train if split == "train" else config.val)
        self._meaning = np.full(
            256, -1, np.int64
        )  # label in the file -> label, or -1 where it is not allowed
        self._meaning[: len(classes)] = np.arange(len(classes))
        self._meaning[[VOID, *also_void]] = VOID

    def __getitem__(self, index: int) -> Sample:
        """Sample number ``index``, read from disk; ``InputError`` when its files cannot be used."""
        id_ = self.ids[index]
        image_path, mask_path = self._image_path(id_), self._root / MASKS / f"{id_}.png"
        image, labels = _read_image(image_path), self._read_mask(mask_path)
        if image.shape[1:] != labels.shape:
            raise InputError(
                f"{mask_path}: the mask is {_size(labels)} but the image {image_path} is {_size(image)}; "
                "allowed are equal sizes"
            )
        return Sample(id_, image, labels)

    def _image_path(self, id_: str) -> Path:
        candidates = [self._root / IMAGES / f"{id_}{ending}" for ending in IMAGE_ENDINGS]
        existing = [path for path in candidates if path.is_file()]
        if not existing:
            raise InputError(
                f"{candidates[0]}: no such image; allowed endings are {', '.join(IMAGE_ENDINGS)}"
            )
        return existing[0]

    def _read_mask(self, path: Path) -> LabelMap:
        values = _read_indices(path)
        labels: np.ndarray = self._meaning[values]
        if labels.min() < 0:
            y, x = np.argwhere(labels < 0)[0]
            raise InputError(
                f"{path}: label {values[y, x]} at x={x}, y={y}; "
                f"allowed are 0..{self.num_classes - 1} (the classes of {self.name}) and {VOID} (void)"
            )
        return torch.from_numpy(labels)


def _existing_root(name: str, root: Path | None) -> Path:
    wanted = f"the folder of {name} that holds {IMAGES}, {MASKS} and {LISTS}"
    if root is None:
        raise InputError(f"data.root: not given; allowed is {wanted}")
    for folder in (root, root / IMAGES, root / MASKS, root / LISTS):
        if not folder.is_dir():
            raise InputError(f"data.root: {root}: no folder {folder}; allowed is {wanted}")
    return root


def _read_ids(folder: Path, name: str) -> tuple[str, ...]:
    path = folder / f"{name}.txt"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.txt"))) or "none"
        raise InputError(f"{path}: no such list; lists in this folder: {there}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); allowed is a text file with one id a line"
        ) from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise InputError(f"{path}: the list is empty; allowed is one id a line, at least one")
    seen: set[str] = set()
    for id_ in ids:
        if len(id_.split()) != 1 or "/" in id_ or "\\" in id_:
            raise InputError(
                f"{path}: {id_!r} is not an id; allowed is a file name without folder and ending"
            )
        if id_ in seen:
            raise InputError(f"{path}: id {id_} stands in the list twice; allowed is once")
        seen.add(id_)
    return tuple(ids)


def _read_image(path: Path) -> ImageBytes:
    try:
        with Image.open(path) as file:
            mode, pixels = file.mode, np.array(file.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from error
    if mode.startswith(("I", "F")):
        raise InputError(f"{path}: image of mode {mode}; allowed are 8 bits a channel")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _read_indices(path: Path) -> np.ndarray:
    """The stored numbers (h, w) of a mask, never through its colours."""
    if not path.is_file():
        raise InputError(f"{path}: no such mask")
    try:
        with Image.open(path) as file:
            # Grey of 1, 2 or 4 bits would be stretched to 0..255 by the reader; its raw mode says so.
            mode, raw = file.mode, file.tile[0][3]
            values = np.array(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from error
    if mode != "P" and (mode, raw) != ("L", "L"):
        raise InputError(f"{path}: mask of mode {raw}; allowed are palette images (P) and 8-bit grey (L)")
    return values


def _size(tensor: torch.Tensor) -> str:
    return f"{tensor.shape[-1]}x{tensor.shape[-2]} (width x height)"
