"""``report``: that of a finished run again, or one of several runs with different seeds."""

import logging
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from crfnet.data import load_dataset
from crfnet.errors import InputError
from crfnet.files import check_writable, write_atomically, write_json
from crfnet.pipeline.run_config import Run, load_run
from crfnet.pipeline.run_folder import open_folder, provenance
from crfnet.pipeline.scoring import strip_samples
from crfnet.report import ArmResult, StripSample, combine, console_table, shown_images, write_report
from crfnet.variants import free_keys

__all__ = ["report_command"]

log = logging.getLogger(__name__)

_CONFIG = "config.yaml"


def report_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """A report from the counts and label maps in the folders; nothing is predicted again."""
    if overrides:
        raise InputError(f"report: {overrides[0]} changes a config, but a report only tells what was done")
    folders: list[Path] = options.folders
    output: Path = folders[0] if options.output is None else options.output
    if options.output is None and len(folders) > 1:
        raise InputError("report: one of several runs is written into a folder of its own: give --output DIR")
    check_writable(output)
    inputs = combine(folders, free_keys(Run))
    if options.output is not None:
        inputs = replace(inputs, facts={**inputs.facts, "this report": command})
        _open(output, folders, overwrite=options.overwrite, command=command)
    given = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
    try:
        report = write_report(output, **given, strip_samples=_stored_pictures(output, inputs.arms))
    except InputError as error:  # of files that are whole each, and do not fit one another
        raise InputError(f"{', '.join(map(str, folders))}: {error}") from error
    return f"\n{console_table(inputs.arms, inputs.config)}\n\nreport: {report}, report.html"


def _open(output: Path, folders: Sequence[Path], *, overwrite: bool, command: str) -> None:
    """Makes the report's own folder, with the configuration of the first run; never one that holds a run."""
    for folder in folders:
        if folder.resolve().is_relative_to(output.resolve()):
            raise InputError(f"report --output: {output} holds the run {folder}; give another folder")
    open_folder(output, resume=False, overwrite=overwrite)
    write_json(output / "run.json", provenance(command))
    if (folders[0] / _CONFIG).is_file():
        write_atomically(output / _CONFIG, (folders[0] / _CONFIG).read_bytes())


def _stored_pictures(folder: Path, arms: Sequence[ArmResult]) -> list[StripSample]:
    """The images of the gallery and every arm's labels; none where there is no data set to take them from."""
    folders = {arm.name: arm.folder for arm in arms if arm.folder is not None}
    if not (folder / _CONFIG).is_file():
        return []
    run = load_run(folder / _CONFIG)
    ids = shown_images(arms, run.pictures, run.evaluation)
    try:
        sets = [load_dataset(run.data, split) for split in ("val", "train")]
        return strip_samples(next(each for each in sets if set(ids) <= set(each.ids)), ids, folders)
    except (InputError, StopIteration) as error:
        log.warning("the report has no pictures: %s", error)
        return []
