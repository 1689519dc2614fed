"""What every data set is: a named list of images with label maps, read by index."""

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from torch.utils.data import Dataset
from tqdm import tqdm

from crfnet.errors import InputError
from crfnet.labels import VOID, Color
from crfnet.shapes import ImageBytes, LabelMap

__all__ = ["DataConfig", "Sample", "SegmentationDataset", "Split"]

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
        toy_train: Number of training images, >= 1.
        toy_val: Number of validation images, >= 1.
        toy_size: Height and width in pixels, each >= 32.
        toy_seed: Another seed is another toy set; >= 0.
    """

    name: Literal["toy", "camvid", "voc", "context", "context59", "person_part", "cityscapes", "folders"] = (
        "toy"
    )
    root: Path | None = None
    train: str = "train"
    val: str = "val"
    classes: tuple[str, ...] = ()
    images: str = "images"
    masks: str = "masks"
    void: tuple[int, ...] = ()
    toy_train: int = 200
    toy_val: int = 60
    toy_size: tuple[int, int] = (96, 128)
    toy_seed: int = 0

    def __post_init__(self) -> None:
        if self.toy_train < 1 or self.toy_val < 1:
            raise InputError(
                f"data: toy_train {self.toy_train}, toy_val {self.toy_val}; allowed are numbers >= 1"
            )
        if min(self.toy_size) < 32:
            raise InputError(f"data.toy_size: {list(self.toy_size)}; allowed are height and width >= 32")
        if self.toy_seed < 0:
            raise InputError(f"data.toy_seed: {self.toy_seed}; allowed are numbers >= 0")
        self._check_classes()

    def _check_classes(self) -> None:
        own = self.name == "folders"
        if not own and (self.classes or self.void):
            raise InputError(
                f"data: classes {list(self.classes)}, void {list(self.void)}; "
                f"allowed with name folders alone, {self.name} knows its own"
            )
        if own and (not 1 <= len(self.classes) <= VOID or len(set(self.classes)) < len(self.classes)):
            raise InputError(
                f"data.classes: {list(self.classes)}; "
                f"allowed are 1 to {VOID} names, each once, in the order of the masks' labels"
            )
        if any(not 0 <= number <= VOID for number in self.void):
            raise InputError(f"data.void: {list(self.void)}; allowed are 0..{VOID}")


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

    def check(self) -> None:
        """Reads every sample once, so that no file can stop a long run in its middle.

        Raises:
            InputError: One line about the first sample of ``ids`` that cannot be used: the file,
                the value and what is allowed; and how many others there are.
        """
        with ThreadPoolExecutor(max_workers=4) as pool:
            found = pool.map(self._problem, range(len(self)))
            progress = tqdm(found, desc=f"check {self.name}", total=len(self), unit="image", mininterval=0.5)
            problems = [problem for problem in progress if problem is not None]
        if problems:
            others = f" (and {len(problems) - 1} more of {len(self)} images)" if len(problems) > 1 else ""
            raise InputError(f"{problems[0]}{others}")

    def _problem(self, index: int) -> str | None:
        try:
            self[index]
        except InputError as error:
            return str(error)
        return None
