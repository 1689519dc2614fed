"""The report of a result that is made up, before hours of work: what would fail at their end fails now."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crfnet.data import Sample, SegmentationDataset
from crfnet.errors import InputError
from crfnet.evaluation.csv_tables import write_tables
from crfnet.evaluation.evaluator import Evaluation
from crfnet.labels import VOID, write_label_png
from crfnet.pipeline.run_config import Run
from crfnet.pipeline.samples import select_samples, strip_samples
from crfnet.report import ArmResult, write_report
from crfnet.shapes import LabelMap

__all__ = ["rehearse_report"]

_DRAWS = 2  #: of the bootstrap


def rehearse_report(run: Run, dataset: SegmentationDataset, ids: Sequence[str], arms: Sequence[str]) -> None:
    """Write the report of a run into a temporary folder, with label maps that nobody predicted.

    Title, class names, colors, ids and the sizes of images are those of the run, so that whatever a file's
    name, a table or a figure cannot hold is told before training.

    Args:
        run: its title and how it is scored and shown.
        dataset: what is reported on.
        ids: of the images; the first ``run.pictures`` of them are read.
        arms: names.

    Raises:
        InputError: the report cannot be written.
    """
    shown = list(ids[: run.pictures])
    config = replace(run.evaluation, draws=_DRAWS)
    with tempfile.TemporaryDirectory(prefix="crfnet-") as place:
        folder = Path(place)
        try:
            made = [_arm(name, number, dataset, shown, folder, run) for number, name in enumerate(arms)]
            write_report(
                folder,
                made,
                title=run.title,
                class_names=dataset.classes,
                palette=dataset.palette,
                facts={"configuration": "made up"},
                strip_samples=strip_samples(dataset, shown, {arm: folder / arm for arm in arms}),
                config=config,
            )
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"the report of {dataset.name} cannot be written ({error.strerror})") from error


def _arm(
    name: str, number: int, dataset: SegmentationDataset, ids: Sequence[str], folder: Path, run: Run
) -> ArmResult:
    config = run.evaluation
    evaluation = Evaluation(len(dataset.classes), config.max_width, config.element, config.boundary)
    for sample in select_samples(dataset, ids):
        labels = _made_up(sample, number, dataset.num_classes)
        evaluation.add(sample.id, labels, sample.labels)
        write_label_png(folder / name / f"{sample.id}.png", labels, dataset.palette)
    evaluation.save(folder / name / "evaluation.npz")
    write_tables(folder / name, evaluation, dataset.classes, config.absent)
    return ArmResult(
        name=name,
        evaluation=evaluation,
        seconds_per_image=math.nan,
        train_seconds=math.nan,
        search_seconds=math.nan,
        peak_memory_mb=math.nan,
        folder=folder / name,
    )


def _made_up(sample: Sample, number: int, num_classes: int) -> LabelMap:
    """The truth, with another class in so many of its rows: the arms differ, and every class may be seen."""
    labels = sample.labels.masked_fill(sample.labels == VOID, 0)
    changed = labels.clone()
    changed[: 1 + number] = (labels[: 1 + number] + 1 + number) % num_classes
    return changed
