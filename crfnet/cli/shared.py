"""What several commands do first."""

import os
import sys
import webbrowser
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crfnet.errors import InputError

if TYPE_CHECKING:
    from crfnet.pipeline.run_config import Run

__all__ = ["check_apart", "check_crf_keys", "check_not_read", "inputs", "load", "open_page"]

_OUTPUTS = ("output", "to", "out")  #: the options that name what is written; all other paths are read
_POSITIONAL = ("config", "images", "image", "source", "file", "folders", "voc", "sbd")


def load(options: Namespace, overrides: Sequence[str]) -> "Run":
    """The run of ``CONFIG``, changed by ``overrides`` and ``--output``; sets its number of threads."""
    from crfnet.pipeline.run_config import load_run

    run = load_run(options.config, overrides)
    run.set_threads()
    return run if options.output is None else replace(run, output=options.output)


def check_crf_keys(options: Namespace, overrides: Sequence[str]) -> None:
    """Refuse keys of the section ``crf`` beside ``--crf``, which has the whole CRF but for its memory.

    Raises:
        InputError: there is one.
    """
    keys = [each.partition("=")[0] for each in overrides]
    ignored = [key for key in keys if key.startswith("--crf.") and key != "--crf.memory"]
    if options.crf is not None and ignored:
        raise InputError(
            f"{options.command} {ignored[0]}: the CRF is that of --crf {options.crf}; change it there, or "
            "leave out --crf"
        )


def open_page(page: Path) -> bool:
    """Open a file in a browser of the desktop; False where there is none to be seen.

    Without a display `webbrowser` would start a browser of the terminal, or none, so it is not asked.
    """
    elsewhere = sys.platform in ("win32", "darwin")
    if not elsewhere and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        return webbrowser.open(page.resolve().as_uri())
    except (webbrowser.Error, OSError):
        return False


def check_apart(options: Namespace, run: "Run | None", folder: Path) -> None:
    """Refuse ``--overwrite`` of a folder from which it would remove something that the command reads.

    Raises:
        InputError: see `crfnet.files.check_inputs`.
    """
    from crfnet.files import check_inputs

    if options.overwrite:
        check_inputs(folder, inputs(options, run))


def check_not_read(path: Path, options: Namespace) -> None:
    """Refuse to replace a file that the command reads.

    Raises:
        InputError: it is one of them.
    """
    read = {os.path.realpath(each) for each in inputs(options, None).values()}  # of a loop of links, too
    if os.path.realpath(path) in read:
        raise InputError(f"{path}: is read, and would be replaced; give another place for what is written")


def inputs(options: Namespace, run: "Run | None") -> dict[str, Path]:
    """All files and folders that a command reads, by the names of their options and keys."""
    found: dict[str, Path] = {}
    for name, value in vars(options).items():
        if name in _OUTPUTS:
            continue
        shown = name.upper() if name in _POSITIONAL else f"--{name.replace('_', '-')}"
        paths = value if isinstance(value, list) else [value]
        for number, path in enumerate(paths):
            if isinstance(path, Path):
                found[f"{shown} {number}" if number else shown] = path
    return found | (dict(_config_paths(run)) if run is not None else {})


def _config_paths(section: Any, prefix: str = "") -> Iterator[tuple[str, Path]]:
    for field in fields(section):
        value, name = getattr(section, field.name), f"{prefix}{field.name}"
        if is_dataclass(value):
            yield from _config_paths(value, f"{name}.")
        elif isinstance(value, Path) and name not in _OUTPUTS:
            yield name, value
