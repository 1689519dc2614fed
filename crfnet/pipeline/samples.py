"""Samples of a data set by image id: for an evaluation, with a progress bar, for the report's pictures."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from crfnet.data import Sample, SegmentationDataset
from crfnet.distributed import is_rank_zero
from crfnet.errors import InputError
from crfnet.labels import as_rgb, read_label_png
from crfnet.report import StripSample

__all__ = ["select_samples", "strip_samples", "with_progress"]


def select_samples(dataset: SegmentationDataset, ids: Iterable[str]) -> Iterator[Sample]:
    """Yield the samples of the images `ids`, in that order.

    Raises:
        InputError: the data set has no image of that id.
    """
    index = {name: i for i, name in enumerate(dataset.ids)}
    for name in ids:
        if name not in index:
            raise InputError(f"{dataset.name}: no image {name!r}, must be one of its {len(index)}")
        yield dataset[index[name]]


def with_progress(samples: Iterator[Sample], description: str, total: int) -> Iterator[Sample]:
    """Yield the samples, with a progress bar on rank 0."""
    yield from tqdm(samples, description, total, unit="image", mininterval=0.5, disable=not is_rank_zero())


def strip_samples(
    dataset: SegmentationDataset, ids: Sequence[str], folders: dict[str, Path]
) -> list[StripSample]:
    """Read images, truth and every arm's stored predictions, for the report's strip of pictures."""
    return [
        (
            sample.id,
            as_rgb(sample.image),
            sample.labels,
            {arm: read_label_png(folder / f"{sample.id}.png") for arm, folder in folders.items()},
        )
        for sample in select_samples(dataset, ids)
    ]
