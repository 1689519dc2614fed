"""Folder of a run: refused when it is in use, opened with its config and provenance, done by stages."""

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

import crfnet
from crfnet.config.nested import differing, flat
from crfnet.config.variants import free_keys, to_plain
from crfnet.distributed import on_rank_zero
from crfnet.errors import InputError
from crfnet.files import (
    RECORD,
    check_type,
    check_writable,
    leftovers,
    lock_folder,
    one_line,
    recorded_files,
    recording,
    regular,
    remove_recorded_files,
    write_atomically,
    write_json,
)
from crfnet.pipeline.cost import Cost
from crfnet.pipeline.digests import check_digests
from crfnet.pipeline.run_config import Run, dump_run
from crfnet.report.arms import short
from crfnet.report.seeds import CONFIG_FILE, written_config

__all__ = ["check_folder", "open_run", "output_folder", "provenance", "stage_seconds", "run_stage"]

_RUN_FILE = "run.json"  #: a run's first file; on the folder's list it says that crfnet began the run


def check_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that must not be written; change nothing.

    Raises:
        InputError: it holds files and neither `resume` nor `overwrite` was asked for; it is a file, or cannot
            be written (`check_writable`); or either was asked for a folder that no run began.
    """
    check_writable(folder)
    if not folder.is_dir() or not set(folder.iterdir()) - {folder / RECORD, *leftovers(folder)}:
        return
    if not (resume or overwrite):
        raise InputError(f"{folder}: already holds files; give --resume, --overwrite or another --output")
    if folder / _RUN_FILE not in recorded_files(folder):
        option = "--overwrite leaves it alone" if overwrite else "there is nothing to --resume"
        raise InputError(
            f"{folder}: not made by crfnet (no {_RUN_FILE} on the list {RECORD}/files in it), so {option}"
        )


@contextmanager
def output_folder(folder: Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Make `folder`, lock it within, and empty it: with `overwrite` of the files that crfnet wrote into it.

    What a kill left half-written is removed. Of several processes all call it.

    Raises:
        InputError: see `check_folder`; or another process works in the folder.
    """

    def open_folder() -> None:
        check_folder(folder, resume=resume, overwrite=overwrite)
        stack.enter_context(lock_folder(folder))
        check_folder(folder, resume=resume, overwrite=overwrite)  # nobody else changes it from here on
        if overwrite and not resume:
            remove_recorded_files(folder)
        for path in leftovers(folder):
            path.unlink()

    with ExitStack() as stack:
        on_rank_zero(open_folder)
        with recording(folder):
            yield


@contextmanager
def open_run(
    run: Run,
    *,
    resume: bool,
    overwrite: bool,
    command: str,
    digests: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[dict[str, str]]:
    """Open the run's `output_folder`, write what begins it into it; yield the provenance.

    That is ``run.json``, ``config.yaml`` and ``digests.json``. Of several processes all call it.

    Args:
        run: its output folder and configuration.
        resume: go on with what is there.
        overwrite: remove what is there.
        command: for the record.
        digests: of what the run reads, by its name: see `check_digests`.

    Raises:
        InputError: see `output_folder`; or the run is resumed with other inputs, or with another value of a
            key that changes results.
    """
    with output_folder(run.output, resume=resume, overwrite=overwrite):
        yield on_rank_zero(lambda: _begin(run, digests, resume=resume, command=command))


def _begin(run: Run, digests: Mapping[str, str], *, resume: bool, command: str) -> dict[str, str]:
    mark = run.output / _RUN_FILE
    facts = provenance(command)
    if resume and mark.is_file():
        facts = _read_json(mark)
    if resume and (run.output / CONFIG_FILE).is_file():
        _check_unchanged(run)
    write_json(mark, facts)  # first: a kill leaves a folder that is known as ours
    check_digests(run.output, digests, "a run goes on with what it began with, or again with --overwrite")
    write_atomically(run.output / CONFIG_FILE, dump_run(run).encode())
    return facts


def _check_unchanged(run: Run) -> None:
    """Refuse to go on where the run began with another value of a key that changes results."""
    began, now = written_config(run.output), flat(to_plain(run))
    may_differ = free_keys(Run) - {"seed"}  # which is free from one run to the next
    for key in differing(began, now):
        if key not in may_differ:
            there, here = short(began.get(key)), short(now.get(key))
            raise InputError(
                f"{run.output / CONFIG_FILE}: the run was begun with another configuration: {key} was "
                f"{there}, now it is {here}"
            )


def run_stage(
    folder: Path,
    work: Callable[[], Mapping[str, float]],
    digests: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, float]:
    """Do `work` unless ``folder/stage.json`` says that it is done; return what it returned, with its cost.

    The keys ``seconds`` and ``peak_mb`` are added (see `Cost`). A stage that was killed half-way reports
    the cost of the part since it was resumed. Of several processes all do the work, or none; what the first
    one returns, and its cost, is written and returned in all.

    Args:
        folder: of the stage.
        work: see above.
        digests: of what it works on, see `check_digests`: also a stage that is done must have had the same.
    """
    record = folder / "stage.json"

    def read_record() -> dict[str, float] | None:
        check_digests(folder, digests, "remove that folder, and the stage is done again")
        return _read_json(record) if record.is_file() else None

    if (done := on_rank_zero(read_record)) is not None:
        return done
    folder.mkdir(parents=True, exist_ok=True)
    with Cost() as cost:
        result = dict(work())
    result = {"seconds": cost.seconds, "peak_mb": cost.peak_mb, **result}

    def write() -> dict[str, float]:
        write_json(record, result)
        return result

    return on_rank_zero(write)


def stage_seconds(folder: Path) -> float:
    """Return the seconds that the finished stage in `folder` took."""
    return float(_read_json(folder / "stage.json")["seconds"])


def _read_json(path: Path) -> dict[str, Any]:
    """Read a file that a run left: numbers of a stage, or texts."""
    try:
        found: dict[str, Any] = json.loads(regular(path).read_text(encoding="utf-8"))
        numbers = path.name == "stage.json"
        check_type(found, dict[str, float] if numbers else dict[str, str], "it")
        if numbers:
            found = {name: float(value) for name, value in found.items()}
            check_type(found.get("seconds"), float, "seconds")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: damaged ({one_line(error)}); remove it, and what it stands for is done again"
        ) from error
    return found


def provenance(command: str) -> dict[str, str]:
    """Collect what a reader of a result must know: command, commit, versions, hardware."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "command": command,
        "crfnet": crfnet.__version__,
        "commit": _commit(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "processor": f"{_processor()}, {torch.get_num_threads()} threads",
        "gpu": gpu,
    }


def _commit() -> str:
    """Return the commit of this package, not that of a repository around its environment."""
    here = Path(__file__)
    try:
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        dirty = _git(here.parent, "status", "--porcelain", "-uno")
        return _git(here.parent, "rev-parse", "HEAD") + (" with uncommitted changes" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown (installed, not run from a git checkout)"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
