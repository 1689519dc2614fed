"""Statistics of a data set, read once in parallel: sizes, labels, void, and all files that cannot be used."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from crfnet.data.dataset import SegmentationDataset, Split
from crfnet.data.file_dataset import MissingMaskError
from crfnet.errors import InputError, require
from crfnet.files import write_json
from crfnet.labels import VOID

__all__ = ["SplitStatistics", "balanced_weights", "check_splits", "split_statistics", "statistics_table"]

_SHOWN = 5  #: unusable files that the text names; the JSON holds all


class _ImageStatistics(NamedTuple):
    """What one image adds to the statistics; ``error`` is empty for one that can be used."""

    size: tuple[int, int] = (0, 0)
    counts: tuple[int, ...] = ()  # pixels of each class, void last
    error: str = ""
    no_mask: bool = False


@dataclass
class SplitStatistics:
    """One split of a data set.

    Attributes:
        split: ``train`` or ``val``.
        images: Ids of the list.
        usable: Of those, images that can be read together with their mask.
        sizes: Number of usable images of each size ``<width>x<height>``, the most frequent first.
        classes: Class names.
        pixels: Pixels of each class, void not counted.
        images_with: Usable images that hold each class.
        void: Share of void among all pixels, 0..1.
        no_mask: Ids of images without a mask.
        first_no_mask: Where the mask of the first of them was looked for: one line, empty without one.
        unreadable: For each other id that cannot be used, why: one line.
        no_image: Names of the masks that belong to no image, where images are those of a folder.
        labels: What is odd about the labels of all images, or None: one line.
    """

    split: str
    images: int
    classes: tuple[str, ...]
    usable: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    pixels: list[int] = field(default_factory=list)
    images_with: list[int] = field(default_factory=list)
    void: float = 0.0
    no_mask: list[str] = field(default_factory=list)
    first_no_mask: str = ""
    unreadable: dict[str, str] = field(default_factory=dict)
    no_image: list[str] = field(default_factory=list)
    labels: str | None = None

    @property
    def first_problem(self) -> str | None:
        """One line about the first image that cannot be used, or else about the labels of all, or None."""
        return next(iter(self.unreadable.values()), None) or self.first_no_mask or self.labels

    @property
    def balanced_weights(self) -> list[float]:
        """For each class ``pixels of all / (classes * its pixels)``; see `balanced_weights`."""
        return balanced_weights(self.pixels)

    def as_dict(self) -> dict[str, Any]:
        """All attributes, as JSON can hold them."""
        return asdict(self) | {"balanced_weights": self.balanced_weights}


class _StatisticsDataset(Dataset[_ImageStatistics]):
    """The statistics of each sample in place of its image."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> _ImageStatistics:
        try:
            labels = self._dataset[index].labels.numpy()
        except InputError as error:
            return _ImageStatistics(error=str(error), no_mask=isinstance(error, MissingMaskError))
        counts = np.bincount(labels.ravel(), minlength=VOID + 1)
        width_height = (labels.shape[1], labels.shape[0])
        return _ImageStatistics(
            width_height, (*counts[: self._dataset.num_classes].tolist(), int(counts[VOID]))
        )


def _identity(statistics: Any) -> Any:
    return statistics


def balanced_weights(pixels: Sequence[int]) -> list[float]:
    """For each class ``all pixels / (classes * its pixels)``, so that all count the same; 0 without any."""
    total = sum(pixels)
    return [total / (len(pixels) * count) if count else 0.0 for count in pixels]


def split_statistics(dataset: SegmentationDataset, split: Split, *, workers: int = 4) -> SplitStatistics:
    """Read every sample of `dataset` once, in `workers` processes (0: in this one), with a progress bar.

    There are never more processes than cores: torch warns of more, and they read no faster. Nothing is
    raised for files that cannot be used: the `SplitStatistics` tells of them.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    loader = DataLoader(
        _StatisticsDataset(dataset), batch_size=None, num_workers=min(workers, cores), collate_fn=_identity
    )
    progress = tqdm(loader, desc=f"check {dataset.name} {split}", unit="image", mininterval=0.5)
    found = SplitStatistics(split, len(dataset), dataset.classes)
    sizes: Counter[str] = Counter()
    pixels = np.zeros(len(dataset.classes) + 1, np.int64)
    present = np.zeros_like(pixels)
    for image_id, of_image in zip(dataset.ids, progress, strict=True):
        if of_image.no_mask:
            found.no_mask.append(image_id)
            found.first_no_mask = found.first_no_mask or of_image.error
        elif of_image.error:
            found.unreadable[image_id] = of_image.error
        else:
            sizes["{}x{}".format(*of_image.size)] += 1
            pixels += of_image.counts
            present += np.asarray(of_image.counts) > 0
    found.usable = sizes.total()
    found.sizes = dict(sizes.most_common())
    found.pixels, found.images_with = pixels[:-1].tolist(), present[:-1].tolist()
    found.void = float(pixels[-1] / max(1, pixels.sum()))
    found.no_image = list(getattr(dataset, "without_image", ()))
    if found.usable:
        found.labels = dataset.label_problem(pixels.tolist(), split)
    return found


def check_splits(
    train: SegmentationDataset,
    val: SegmentationDataset,
    *,
    workers: int,
    output: Path | None,
    overwrite: bool,
) -> tuple[str, str | None]:
    """Summarize the statistics of both splits as text, and in the JSON file `output` where one is given.

    Returns:
        The text; and one line about what cannot be used, None when all can.

    Raises:
        InputError: `output` exists and may not be overwritten, or `workers` is negative.
    """
    require("--workers", workers, workers >= 0, "at least 0")
    if output is not None and output.exists() and not overwrite:
        raise InputError(f"--output: {output} exists, must be a new file, or pass --overwrite")
    splits = [
        split_statistics(train, "train", workers=workers),
        split_statistics(val, "val", workers=workers),
    ]
    both = sorted(set(train.ids) & set(val.ids))
    text = statistics_table(splits)
    if both:
        text = f"{text}\n{len(both)} ids are in train and in val: {', '.join(both[:_SHOWN])}"
    if output is not None:
        found = {each.split: each.as_dict() for each in splits} | {"in_both": both}
        write_json(output, found)
    first = next((each.first_problem for each in splits if each.first_problem), None)
    pairs = [(each.images - each.usable, each.images) for each in splits]
    wrong, images = (sum(numbers) for numbers in zip(*pairs, strict=True))
    counted = f" (of {images} images, {wrong} cannot be used)" if wrong else ""
    return text, None if first is None else f"{first}{counted}"


def statistics_table(splits: list[SplitStatistics]) -> str:
    """Format a data set's statistics as text: a paragraph for each split, a row for each class."""
    lines = [line for each in splits for line in _paragraph(each)]
    classes = splits[0].classes
    wide = max(len(name) for name in (*classes, "class"))
    heads = "".join(f"{each.split + ' %':>12}{'images':>9}" for each in splits)
    lines += ["", f"{'':>5}{'class':<{wide}}{heads}   (share of the pixels that are not void)"]
    for label, name in enumerate(classes):
        cells = [
            f"{100 * each.pixels[label] / max(1, sum(each.pixels)):12.3f}{each.images_with[label]:9d}"
            for each in splits
        ]
        lines.append(f"{label:>3}  {name:<{wide}}{''.join(cells)}")
    weights = ", ".join(f"{weight:.4g}" for weight in splits[0].balanced_weights)
    return "\n".join([*lines, f"class_weights: balanced is [{weights}]"])


def _paragraph(found: SplitStatistics) -> list[str]:
    sizes = list(found.sizes.items())
    shown = ", ".join(f"{size} ({count})" for size, count in sizes[:3])
    more = f" and {len(sizes) - 3} more" if len(sizes) > 3 else ""
    absent = [name for name, count in zip(found.classes, found.images_with, strict=True) if not count]
    lines = [
        f"{found.split}: {found.images} images, {found.usable} usable, {len(found.no_mask)} without a mask, "
        f"{len(found.unreadable)} unreadable; void {100 * found.void:.2f} %",
        f"  sizes: {shown or 'none'}{more}",
    ]
    if absent:
        lines.append(f"  classes that no image holds: {', '.join(absent)}")
    lines += _named("without a mask", found.no_mask)
    lines += [f"    {found.first_no_mask}"] if found.no_mask else []
    lines += _named("masks without an image", found.no_image)
    lines += [f"  unreadable: {error}" for error in list(found.unreadable.values())[:_SHOWN]]
    lines += [f"  {found.labels}"] if found.labels else []
    return lines


def _named(what: str, names: Sequence[str]) -> list[str]:
    """A line with the first of the names; none without one."""
    dots = ", ..." if len(names) > _SHOWN else ""
    return [f"  {what}: {', '.join(names[:_SHOWN])}{dots}"] if names else []
