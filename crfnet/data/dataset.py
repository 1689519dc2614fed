"""What every data set is: a named list of images with label maps, read by index."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from torch.utils.data import Dataset
from tqdm import tqdm

from crfnet.errors import InputError
from crfnet.labels import VOID, Color
from crfnet.shapes import ImageBytes, LabelMap

__all__ = ["DataDigest", "Sample", "SegmentationDataset", "Split", "Subset"]

Split: TypeAlias = Literal["train", "val"]


class Sample(NamedTuple):
    """One image with its labels; both have the same height and width.

    Attributes:
        id: Name of the image, unique in its split and usable as a file name.
        image: uint8, RGB or as many channels as ``data.channels`` says.
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

    def label_problem(self, pixels: Sequence[int], split: Split | None) -> str | None:
        """One line about counts that only masks have whose numbers mean something else; None otherwise.

        Args:
            pixels: of each class and, last, of void, over all images.
            split: ``train`` where the images are to be trained on.
        """
        del pixels, split
        return None

    def check(self, split: Split | None = None) -> DataDigest:
        """Reads every sample once, so that no file can stop a long run in its middle.

        Args:
            split: ``train`` where it is to be trained on: every class must be in an image.

        Returns:
            Digests of what was read.

        Raises:
            InputError: One line about the first sample of ``ids`` that cannot be used: the file,
                the value and what is allowed; and how many others there are. Or about the labels of all: see
                `label_problem`.
        """
        with ThreadPoolExecutor(max_workers=4) as pool:
            found = pool.map(self._inspect, range(len(self)))
            progress = tqdm(found, desc=f"check {self.name}", total=len(self), unit="image", mininterval=0.5)
            inspected = list(progress)
        problems = [each for each in inspected if isinstance(each, str)]
        if problems:
            others = f" (and {len(problems) - 1} more of {len(self)} images)" if len(problems) > 1 else ""
            raise InputError(f"{problems[0]}{others}")
        read = [each for each in inspected if not isinstance(each, str)]
        self.pixels = np.sum([pixels for _, pixels in read], 0).tolist()
        self.image_digests = {
            image_id: each.images for image_id, (each, _) in zip(self.ids, read, strict=True)
        }
        if (problem := self.label_problem(self.pixels, split)) is not None:
            raise InputError(problem)
        whole = [hashlib.sha256(repr(self.ids).encode()) for _ in DataDigest._fields]
        for each, _ in read:
            for digest, part in zip(whole, each, strict=True):
                digest.update(part.encode())
        return DataDigest(*(digest.hexdigest() for digest in whole))

    @cached_property
    def pixels(self) -> list[int]:
        """Pixels of each class and, last, of void, over all images; read once, by `check` if that was first.

        Raises:
            InputError: see `check`.
        """
        self.check()
        return list(vars(self)["pixels"])

    @cached_property
    def image_digests(self) -> dict[str, str]:
        """A digest of each image's pixels by its id; read once, by `check` if that was first.

        Raises:
            InputError: see `check`.
        """
        self.check()
        return dict(vars(self)["image_digests"])

    def _inspect(self, index: int) -> tuple[DataDigest, np.ndarray] | str:
        """Digests of a sample and its pixels of each class and void, or what is wrong with it."""
        try:
            sample = self[index]
        except InputError as error:
            return str(error)
        images, labels = (
            hashlib.sha256(f"{tuple(each.shape)}".encode() + each.byte().contiguous().numpy().tobytes())
            for each in (sample.image, sample.labels)
        )
        counts = np.bincount(sample.labels.numpy().ravel(), minlength=VOID + 1)
        digest = DataDigest(images.hexdigest(), labels.hexdigest())
        return digest, np.append(counts[: self.num_classes], counts[VOID])


class Subset(SegmentationDataset):
    """Some images of a data set, in the order of their ids."""

    def __init__(self, dataset: SegmentationDataset, ids: Sequence[str]) -> None:
        """Reads nothing; every id must be one of the data set's."""
        self.name, self.classes, self.palette = dataset.name, dataset.classes, dataset.palette
        self.ids = tuple(ids)
        index = {name: number for number, name in enumerate(dataset.ids)}
        self._dataset, self._indices = dataset, [index[name] for name in ids]

    def __getitem__(self, index: int) -> Sample:
        """Sample number ``index`` of the chosen ones."""
        return self._dataset[self._indices[index]]
