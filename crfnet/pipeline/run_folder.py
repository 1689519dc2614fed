"""Folder of a run: refused when it is in use, opened with its config and provenance, done by stages."""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import crfnet
from crfnet.distributed import on_rank_zero
from crfnet.errors import InputError
from crfnet.files import check_writable, leftovers, one_line, write_atomically, write_json
from crfnet.pipeline.cost import Cost
from crfnet.pipeline.run_config import Run, dump_run

__all__ = ["check_folder", "open_folder", "open_run", "provenance", "stage_seconds", "run_stage"]

_RUN_FILE = "run.json"  #: marks a folder that crfnet made, which --overwrite may empty


def check_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that must not be written; change nothing.

    Raises:
        InputError: it holds files and neither `resume` nor `overwrite` was asked for; it is a file, or cannot
            be written (`check_writable`); or `overwrite` was asked for a folder that crfnet did not make.
    """
    check_writable(folder)
    if folder.is_dir() and any(folder.iterdir()) and not resume:
        if not overwrite:
            raise InputError(f"{folder}: already holds files; give --resume, --overwrite or another --output")
        if not (folder / _RUN_FILE).is_file():
            raise InputError(
                f"{folder}: not made by crfnet (no {_RUN_FILE} in it), so --overwrite leaves it alone"
            )


def open_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make `folder` and empty it: of files that a kill left half-written, with `overwrite` of all.

    Raises:
        InputError: see `check_folder`.
    """
    check_folder(folder, resume=resume, overwrite=overwrite)
    if overwrite and not resume and folder.is_dir():
        for path in folder.iterdir():  # not the folder itself, which may be a disk of its own
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for path in leftovers(folder):
        path.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def open_run(run: Run, *, resume: bool, overwrite: bool, command: str) -> dict[str, str]:
    """Open the run's output folder, write ``config.yaml`` and ``run.json`` into it; return the provenance.

    Raises:
        InputError: see `open_folder`; or the run is resumed with another configuration.
    """
    folder = run.output
    open_folder(folder, resume=resume, overwrite=overwrite)
    config, mark = folder / "config.yaml", folder / _RUN_FILE
    facts = provenance(command)
    if resume and mark.is_file():
        facts = _read_json(mark)
    if resume and config.is_file():
        began, now = config.read_text(errors="replace"), dump_run(run)
        if began != now:
            raise InputError(
                f"{config}: the run was begun with another configuration: {_changed(began, now)}"
            )
    write_atomically(config, dump_run(run).encode())
    write_json(mark, facts)
    return facts


def _changed(old: str, new: str) -> str:
    pairs = zip(old.splitlines(), new.splitlines(), strict=False)
    return next(
        (f"{a.strip()!r} became {b.strip()!r}" for a, b in pairs if a != b), "keys were added or removed"
    )


def run_stage(folder: Path, work: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    """Do `work` unless ``folder/stage.json`` says that it is done; return what it returned, with its cost.

    The keys ``seconds`` and ``peak_mb`` are added (see `Cost`). A stage that was killed half-way reports
    the cost of the part since it was resumed. Of several processes all do the work, or none; what the first
    one returns, and its cost, is written and returned in all.
    """
    record = folder / "stage.json"

    def read_record() -> dict[str, float] | None:
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
        found = json.loads(path.read_text())
        kinds = (int, float) if path.name == "stage.json" else str
        if not isinstance(found, dict) or not all(isinstance(value, kinds) for value in found.values()):
            raise ValueError("not what crfnet writes")
        if path.name == "stage.json" and "seconds" not in found:
            raise ValueError("no seconds")
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
