"""What several commands share: the run of a config, its model, ids from files."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from crfnet.checkpoints.checkpoint import load_model
from crfnet.crf.layer import CRFConfig
from crfnet.data import SegmentationDataset
from crfnet.errors import InputError
from crfnet.pipeline.compare import resolve_device, within_memory
from crfnet.pipeline.run_config import Run, load_run
from crfnet.segmenter import Segmenter, build_segmenter

__all__ = ["load", "read_ids", "require", "segmenter_of"]


def load(options: Namespace, overrides: Sequence[str]) -> Run:
    """The run of ``CONFIG``, changed by ``overrides`` and ``--output``."""
    run = load_run(options.config, overrides)
    return run if options.output is None else replace(run, output=options.output)


def segmenter_of(
    run: Run,
    num_classes: int,
    checkpoint: Path | None,
    crf: CRFConfig | None,
    *,
    with_crf: bool = False,
) -> Segmenter:
    """The run's model; weights from `checkpoint`, those of its CRF only on request."""
    torch.manual_seed(run.seed)
    model = build_segmenter(run.model, num_classes, within_memory(crf, run))
    if checkpoint is not None:
        load_model(model, checkpoint, network_only=not with_crf)
    return model.to(resolve_device(run.device))


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
