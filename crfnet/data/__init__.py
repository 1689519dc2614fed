"""Data sets: a list of images with label maps, a file for each, and the augmented training sequence."""

from collections.abc import Callable

from crfnet.data.augment import MEAN_COLOR, AugmentConfig, TrainingStream, augment
from crfnet.data.camvid import camvid
from crfnet.data.cityscapes import cityscapes
from crfnet.data.config import DataConfig, ToyConfig
from crfnet.data.context import context, context59
from crfnet.data.dataset import Sample, SegmentationDataset, Split, Subset
from crfnet.data.folders import folders
from crfnet.data.image_files import read_image
from crfnet.data.label_map import resolve_labels
from crfnet.data.person_part import person_part
from crfnet.data.shared_images import shared_images, shared_images_line
from crfnet.data.toy import toy
from crfnet.data.voc import voc
from crfnet.errors import require
from crfnet.labels import Classes

__all__ = [
    "DATASETS",
    "MEAN_COLOR",
    "AugmentConfig",
    "DataConfig",
    "Sample",
    "SegmentationDataset",
    "Split",
    "Subset",
    "ToyConfig",
    "TrainingStream",
    "augment",
    "classes_of",
    "load_dataset",
    "read_image",
    "shared_images",
    "shared_images_line",
]

DATASETS: dict[str, Callable[[DataConfig, Split], SegmentationDataset]] = {
    "toy": toy,
    "camvid": camvid,
    "voc": voc,
    "context": context,
    "context59": context59,
    "person_part": person_part,
    "cityscapes": cityscapes,
    "folders": folders,
}


def load_dataset(config: DataConfig, split: Split) -> SegmentationDataset:
    """The data set that ``config`` names; no image is read yet.

    Raises:
        InputError: The data set, its folder or its list cannot be used; one line saying why.
        ValueError: ``split`` is neither ``train`` nor ``val``.
    """
    if split not in ("train", "val"):
        raise ValueError(f"split is {split!r}, must be train or val")
    require("data.name", config.name, config.name in DATASETS, f"one of {', '.join(DATASETS)}")
    return DATASETS[config.name](config, split)


def classes_of(config: DataConfig) -> Classes:
    """Names and colors of the classes of the data set that ``config`` names; no file is needed."""
    return resolve_labels(config).classes
