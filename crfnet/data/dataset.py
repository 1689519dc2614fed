"""What every data set is: a named list of images with label maps, read by index."""

import hashlib
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from torch.utils.data import Dataset
from tqdm import tqdm

from crfnet.config.variants import check_choices, free, section
from crfnet.errors import InputError, require
from crfnet.labels import VOID, Color
from crfnet.shapes import ImageBytes, LabelMap

__all__ = ["DataConfig", "DataDigest", "Sample", "SegmentationDataset", "Split", "ToyConfig"]

Split: TypeAlias = Literal["train", "val"]


class Sample(NamedTuple):
    """One image with its labels; both have the same height and width.

    Attributes:
        id: Name of the image, unique in its split and usable as a file name.
        image: RGB, uint8.
        labels: Class indices, int64; 255 = void.
    """

    id: str
    image: ImageBytes
    labels: LabelMap


class DataDigest(NamedTuple):
    """Digests of the samples of a data set, in order, with their ids.

    Attributes:
        images: of the images alone.
        labels: of the labels alone.
    """

    images: str
    labels: str


@dataclass(frozen=True)
class ToyConfig:
    """The set toy, drawn on the fly.

    Attributes:
        train: Number of training images, >= 1.
        val: Number of validation images, >= 1.
        size: Height and width in pixels, each >= 32.
        seed: Another seed is another toy set; >= 0.
    """

    train: int = 200
    val: int = 60
    size: tuple[int, int] = (96, 128)
    seed: int = 0

    def __post_init__(self) -> None:
        require("train", self.train, self.train >= 1, ">= 1")
        require("val", self.val, self.val >= 1, ">= 1")
        require("size", list(self.size), min(self.size) >= 32, "height and width, each >= 32")
        require("seed", self.seed, self.seed >= 0, ">= 0")


@dataclass(frozen=True)
class DataConfig:
    """Which data set, where it lies and which of its lists are trained on and scored.

    Attributes:
        name: ``toy`` (drawn on the fly), ``camvid``, ``voc``, ``context`` (60 classes), ``context59`` (the
            same without background), ``person_part``, ``cityscapes``, or ``folders``: your own.
        root: The folder of the data set, laid out as the file of its name in crfnet/data says; unused by toy.
        train: Name of the training list (without ``.txt``) or folder; unused by toy.
        val: Name of the validation list (without ``.txt``) or folder; unused by toy.
        classes: Class names of folders, the position is the label; the other sets know theirs.
        images: Folder of the images below the root; of folders alone.
        masks: Folder of the masks below the root; of folders alone.
        void: Numbers in the masks that mean void, beside 255; of folders alone.
        toy: Of the set toy.
    """

    name: Literal["toy", "camvid", "voc", "context", "context59", "person_part", "cityscapes", "folders"] = (
        "toy"
    )
    root: Path | None = free(None)
    train: str = "train"
    val: str = "val"
    classes: tuple[str, ...] = ()
    images: str = "images"
    masks: str = "masks"
    void: tuple[int, ...] = ()
    toy: ToyConfig = section(ToyConfig, "name", ("toy",))

    def __post_init__(self) -> None:
        check_choices(self, "data.")
        self._check_classes()

    def _check_classes(self) -> None:
        own = self.name == "folders"
        for key in ("classes", "void"):
            value = list(getattr(self, key))
            require(f"data.{key}", value, own or not value, f"left out: {self.name} knows its own")
        good = 1 <= len(self.classes) <= VOID and len(set(self.classes)) == len(self.classes)
        names = f"1 to {VOID} names, each once, in the order of the masks' labels"
        require("data.classes", list(self.classes), good or not own, names)
        inside = all(0 <= number <= VOID for number in self.void)
        require("data.void", list(self.void), inside, f"numbers in 0..{VOID}")


class SegmentationDataset(Dataset[Sample], ABC):
    """Images with label maps whose values are 0..len(classes)-1 or 255.

    Attributes:
        name: Short name for logs and reports.
        classes: Class names; the position is the label.
        palette: One color for each class.
        ids: One id for each sample, in the order of the indices.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    ids: tuple[str, ...]

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Sample number ``index``; ``InputError`` when its files are missing, unreadable or contradictory."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_classes(self) -> int:
        """Number of labels l, void not counted."""
        return len(self.classes)

    def check(self) -> DataDigest:
        """Reads every sample once, so that no file can stop a long run in its middle.

        Returns:
            Digests of what was read.

        Raises:
            InputError: One line about the first sample of ``ids`` that cannot be used: the file,
                the value and what is allowed; and how many others there are.
        """
        with ThreadPoolExecutor(max_workers=4) as pool:
            found = pool.map(self._inspect, range(len(self)))
            progress = tqdm(found, desc=f"check {self.name}", total=len(self), unit="image", mininterval=0.5)
            inspected = list(progress)
        problems = [each for each in inspected if isinstance(each, str)]
        if problems:
            others = f" (and {len(problems) - 1} more of {len(self)} images)" if len(problems) > 1 else ""
            raise InputError(f"{problems[0]}{others}")
        digests = [each for each in inspected if not isinstance(each, str)]
        whole = [hashlib.sha256(repr(self.ids).encode()) for _ in DataDigest._fields]
        for each in digests:
            for digest, part in zip(whole, each, strict=True):
                digest.update(part.encode())
        return DataDigest(*(digest.hexdigest() for digest in whole))

    def _inspect(self, index: int) -> DataDigest | str:
        """Digests of a sample, or what is wrong with it."""
        try:
            sample = self[index]
        except InputError as error:
            return str(error)
        images, labels = (
            hashlib.sha256(f"{tuple(each.shape)}".encode() + each.byte().contiguous().numpy().tobytes())
            for each in (sample.image, sample.labels)
        )
        return DataDigest(images.hexdigest(), labels.hexdigest())
