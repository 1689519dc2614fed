"""Data sets: a list of images with label maps, a file for each, and the augmented training sequence."""

from collections.abc import Callable

from crfnet.data.augment import MEAN_COLOR, AugmentConfig, TrainingStream, augment
from crfnet.data.camvid import camvid
from crfnet.data.cityscapes import cityscapes
from crfnet.data.classes import classes_of
from crfnet.data.context import context, context59
from crfnet.data.dataset import VOID, DataConfig, Sample, SegmentationDataset, Split, ToyConfig, palette
from crfnet.data.folders import folders
from crfnet.data.person_part import person_part
from crfnet.data.shapes_toy import toy
from crfnet.data.voc import voc
from crfnet.errors import InputError

__all__ = [
    "DATASETS",
    "MEAN_COLOR",
    "VOID",
    "AugmentConfig",
    "DataConfig",
    "Sample",
    "SegmentationDataset",
    "Split",
    "ToyConfig",
    "TrainingStream",
    "augment",
    "classes_of",
    "load_dataset",
    "palette",
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
        raise ValueError(f"split: {split!r}; allowed are train, val")
    if config.name not in DATASETS:
        raise InputError(f"data.name: {config.name!r}; allowed are {', '.join(DATASETS)}")
    return DATASETS[config.name](config, split)
