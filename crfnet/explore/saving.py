"""Writes the parameters that were found by hand as the YAML file that every command takes with --crf."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import yaml

from crfnet.crf.config_file import load_crf_config
from crfnet.crf.layer import CRFConfig
from crfnet.errors import InputError
from crfnet.files import write_atomically

__all__ = ["save_crf"]

#: Written even where they are the defaults: what a reader looks for.
_ALWAYS = ("w1", "theta_alpha", "theta_beta", "w2", "theta_gamma", "iterations", "normalization", "filter")


def save_crf(path: Path, crf: CRFConfig, head: Sequence[str], *, replace: bool = False) -> None:
    """Writes ``crf:`` with the parameters, and whatever else is not the default, below comment lines.

    `crfnet.search.load_crf_config` reads back an equal configuration.

    Args:
        path: a ``.yaml`` or ``.yml`` file in a folder that exists.
        crf: what to write.
        head: lines that say where it comes from.
        replace: whether a file of such parameters may be replaced; any other file is left alone.

    Raises:
        InputError: another ending, no such folder, a file that is there already or is none of parameters.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"{path}: the file's name must end in .yaml")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; parameters are saved in one that exists")
    if path.exists():
        if not replace:
            raise InputError(f"{path}: exists already; tick 'replace' or choose another name")
        load_crf_config(path)  # raises where that is something else
    default = asdict(CRFConfig())
    kept = {key: value for key, value in asdict(crf).items() if key in _ALWAYS or value != default[key]}
    lines = [f"# {' '.join(line.split())}\n" for line in head]
    body = yaml.safe_dump({"crf": kept}, sort_keys=False)
    write_atomically(path, ("".join(lines) + body).encode())
