"""Cityscapes: street scenes with the 19 classes of its benchmark."""

import numpy as np

from crfnet.data.config import DataConfig
from crfnet.data.dataset import SegmentationDataset, Split
from crfnet.data.file_dataset import FileDataset, MaskFiles, label_table
from crfnet.data.id_lists import existing_root
from crfnet.errors import InputError
from crfnet.labels import VOID

__all__ = ["LABEL_IDS", "cityscapes", "train_ids"]

#: The label id of each class, in the order of the train ids (helpers/labels.py of mcordts/cityscapesScripts).
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

_IMAGE = "_leftImg8bit.png"


def train_ids() -> np.ndarray:
    """The train id 0..18 of each label id 0..33, 255 = void for the ids that are not scored; (256,), int64.

    The license plate's id -1 is never drawn by the official scripts; 255, which is what 8 bits make of it, is
    void as well.
    """
    table = np.full(256, -1, np.int64)
    table[: max(LABEL_IDS) + 1] = VOID
    table[list(LABEL_IDS)] = range(len(LABEL_IDS))
    table[VOID] = VOID
    return table


def cityscapes(config: DataConfig, split: Split) -> SegmentationDataset:
    """Cityscapes (Cordts et al., CVPR 2016) as it is downloaded; labels are train ids, 255 = void.

    ``leftImg8bit/<folder>/<city>/<id>_leftImg8bit.png`` with, in this order of preference,
    ``gtFine/<folder>/<city>/<id>_gtFine_labelIds.png`` (ids, turned into train ids),
    ``..._gtFine_labelTrainIds.png`` (as the official scripts make them), and the same two of ``gtCoarse``.
    ``data.train`` and ``data.val`` are the folders: ``train``, ``val``, ``train_extra``. The samples are all
    images of the folder, sorted by id.

    Raises:
        InputError: No root, a folder that does not exist, or no image in it.
    """
    folder = config.train if split == "train" else config.val
    root = existing_root("cityscapes", config.root, "leftImg8bit")
    images = root / "leftImg8bit" / folder
    if not images.is_dir():
        there = ", ".join(sorted(path.name for path in images.parent.iterdir() if path.is_dir())) or "none"
        raise InputError(f"data.{split}: {folder!r}: no folder {images}; folders there: {there}")
    found = [path for path in images.glob(f"*/*{_IMAGE}") if not path.name.startswith(".")]
    ids = sorted(path.name.removesuffix(_IMAGE) for path in found)
    if not ids:
        raise InputError(f"{images}: no image, must be at least one <city>/<id>{_IMAGE}")
    own, trained = train_ids(), label_table(len(LABEL_IDS))
    masks = [
        MaskFiles(f"{truth}/{folder}/{{city}}/{{id}}_{truth}_{name}.png", table)
        for truth in ("gtFine", "gtCoarse")
        for name, table in (("labelIds", own), ("labelTrainIds", trained))
    ]
    return FileDataset(
        "cityscapes",
        root,
        tuple(ids),
        config,
        images=(f"leftImg8bit/{folder}/{{city}}/{{id}}{_IMAGE}",),
        masks=tuple(masks),
    )
