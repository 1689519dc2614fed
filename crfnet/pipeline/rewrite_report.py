"""The report of a finished run again, or one of several runs with different seeds."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from crfnet.config.variants import free_keys
from crfnet.data import Split, load_dataset
from crfnet.errors import InputError
from crfnet.files import check_writable, lock_folder, recording, write_atomically, write_json
from crfnet.pipeline.run_config import Run, load_run
from crfnet.pipeline.run_folder import output_folder, provenance
from crfnet.pipeline.samples import strip_samples
from crfnet.report import StripSample, combine, console_table, shown_images, write_report
from crfnet.report.report_json import ReportInputs

__all__ = ["rewrite_report"]

log = logging.getLogger(__name__)

_CONFIG = "config.yaml"
_SPLIT = re.compile(r", split (train|val), ")  #: in what `evaluate_split` says of its data


def rewrite_report(
    folders: Sequence[Path], output: Path | None = None, *, overwrite: bool = False, command: str = ""
) -> tuple[Path, str]:
    """A report from the counts and label maps in the folders; nothing is predicted again.

    Args:
        folders: each holds ``report.json``; several: runs that differ in their seed.
        output: a folder of its own for the report, needed for several; None: where the run is.
        overwrite: replace what is there.
        command: for the record.

    Returns:
        The path of the report and its table as text.

    Raises:
        InputError: a folder that holds no finished run, or runs that do not fit one another.
    """
    target = folders[0] if output is None else output
    if output is None and len(folders) > 1:
        raise InputError("report: one of several runs is written into a folder of its own: give --output DIR")
    check_writable(target)
    inputs = combine(folders, free_keys(Run))
    with _opened(folders, output, overwrite=overwrite, command=command):
        if output is not None:
            inputs = replace(inputs, facts={**inputs.facts, "this report": command})
        given = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
        try:
            report = write_report(target, **given, strip_samples=_stored_pictures(target, inputs))
        except InputError as error:  # of files that are whole each, and do not fit one another
            raise InputError(f"{', '.join(map(str, folders))}: {error}") from error
    return report, console_table(inputs.arms, inputs.config)


@contextmanager
def _opened(folders: Sequence[Path], output: Path | None, *, overwrite: bool, command: str) -> Iterator[None]:
    """The run's own folder; or the report's, with the configuration of the first run, never that of a run."""
    if output is None:
        with lock_folder(folders[0]), recording(folders[0]):
            yield
        return
    for folder in folders:
        if folder.resolve().is_relative_to(output.resolve()):
            raise InputError(f"report --output: {output} holds the run {folder}; give another folder")
    with output_folder(output, resume=False, overwrite=overwrite):
        write_json(output / "run.json", provenance(command))
        if (folders[0] / _CONFIG).is_file():
            write_atomically(output / _CONFIG, (folders[0] / _CONFIG).read_bytes())
        yield


def _stored_pictures(folder: Path, inputs: ReportInputs) -> list[StripSample]:
    """The images of the gallery and every arm's labels; none where there is no data set to take them from."""
    arms = inputs.arms
    folders = {arm.name: arm.folder for arm in arms if arm.folder is not None}
    if not (folder / _CONFIG).is_file():
        return []
    run = load_run(folder / _CONFIG)
    ids = shown_images(arms, run.pictures, run.evaluation)
    try:
        # Begun with the split that was scored: the other one may have images of the same names, or none.
        scored = _SPLIT.search(inputs.facts.get("data", ""))
        splits: tuple[Split, ...] = ("train", "val") if scored and scored[1] == "train" else ("val", "train")
        sets = (load_dataset(run.data, split) for split in splits)
        return strip_samples(next(each for each in sets if set(ids) <= set(each.ids)), ids, folders)
    except (InputError, StopIteration) as error:
        log.warning("the report has no pictures: %s", error)
        return []
