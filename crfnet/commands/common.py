"""What several commands share: the run of a config, ids from files."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crfnet.data import SegmentationDataset
from crfnet.errors import InputError
from crfnet.pipeline.run_config import Run, load_run

__all__ = ["load", "read_ids", "require"]


def load(options: Namespace, overrides: Sequence[str]) -> Run:
    """The run of ``CONFIG``, changed by ``overrides`` and ``--output``."""
    run = load_run(options.config, overrides)
    return run if options.output is None else replace(run, output=options.output)


def read_ids(dataset: SegmentationDataset, path: Path | None) -> set[str]:
    """The ids in a file, one a line; none without a file. All have to be of the data set."""
    if path is None:
        return set()
    try:
        ids = set(path.read_text().split())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of image ids ({type(error).__name__})") from error
    strangers = ids - set(dataset.ids)
    if strangers:
        raise InputError(
            f"{path}: {min(strangers)!r} is no image of {dataset.name}; it must list ids of the split"
        )
    return ids


def require(place: Path, missing: Sequence[str]) -> None:
    """Refuse scores or predictions that lack images."""
    if missing:
        raise InputError(
            f"{place}: nothing for image {missing[0]!r} and {len(missing) - 1} others; all are needed"
        )
