"""``report``: that of a finished run again."""

import logging
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from crfnet.config import load_run
from crfnet.data import load_dataset
from crfnet.errors import InputError
from crfnet.report import ArmResult, StripSample, console_table, load_inputs, shown_images, write_report
from crfnet.scoring import strip_samples

__all__ = ["report_command"]

log = logging.getLogger(__name__)


def report_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """The report once more, from the counts and label maps in the folder; nothing is predicted again."""
    del command
    if overrides:
        raise InputError(f"report: {overrides[0]} changes a config, but a report only tells what was done")
    inputs = load_inputs(options.folder)
    given = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
    report = write_report(
        options.folder, **given, strip_samples=_stored_pictures(options.folder, inputs.arms)
    )
    return f"\n{console_table(inputs.arms, inputs.config)}\n\nreport: {report}, report.html"


def _stored_pictures(folder: Path, arms: Sequence[ArmResult]) -> list[StripSample]:
    """The images of the gallery and every arm's labels; none where there is no data set to take them from."""
    folders = {arm.name: arm.folder for arm in arms if arm.folder is not None}
    if not (folder / "config.yaml").is_file():
        return []
    run = load_run(folder / "config.yaml")
    ids = shown_images(arms, run.pictures, run.evaluation.absent)
    try:
        sets = [load_dataset(run.data, split) for split in ("val", "train")]
        return strip_samples(next(each for each in sets if set(ids) <= set(each.ids)), ids, folders)
    except (InputError, StopIteration) as error:
        log.warning("the report has no pictures: %s", error)
        return []
