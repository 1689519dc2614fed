"""The parameters of a CRF as a YAML file of their own: what a search writes and every command reads."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from crfnet.config.nested import changed
from crfnet.config.variants import to_plain
from crfnet.crf.config import CRFConfig
from crfnet.errors import InputError
from crfnet.files import read_yaml, write_yaml_text

__all__ = ["crf_config_text", "load_crf_config", "save_crf_config"]

#: Written even where they are the defaults: what a reader looks for.
_ALWAYS = ("w1", "theta_alpha", "theta_beta", "w2", "theta_gamma", "iterations", "normalization", "filter")


@dataclass(frozen=True)
class _File:
    """All that such a file holds.

    Attributes:
        crf: the parameters.
    """

    crf: CRFConfig = field(default_factory=CRFConfig)


def load_crf_config(path: Path | str) -> CRFConfig:
    """The CRF parameters under the one key `crf` of a YAML file; keys left out keep their defaults.

    Raises:
        InputError: no such file, not YAML, an unknown key, a value of a wrong type or out of its range.
    """
    from crfnet.config.reader import read_config  # jsonargparse, which the layer does without

    content = read_yaml(Path(path))
    if not isinstance(content, dict) or list(content) != ["crf"] or not isinstance(content["crf"], dict):
        got = ", ".join(map(str, content)) if isinstance(content, dict) else repr(content)
        raise InputError(f"{path}: holds {got}, must be the one key crf with a mapping under it")
    return read_config(_File, Path(path)).crf


def save_crf_config(path: Path | str, crf: CRFConfig, head: Sequence[str] = ()) -> None:
    """Write the parameters under `crf`, those that are the defaults left out but for the best known ones.

    `load_crf_config` reads back an equal configuration.

    Args:
        path: the YAML file, replaced if it is there.
        crf: what to write.
        head: lines that say where it comes from, written as comments.
    """
    write_yaml_text(Path(path), crf_config_text(crf), head)


def crf_config_text(crf: CRFConfig) -> str:
    """The YAML that `save_crf_config` writes."""
    kept = changed(to_plain(crf), to_plain(CRFConfig()), always=_ALWAYS)
    return yaml.safe_dump({"crf": kept}, sort_keys=False)
