"""The widths of a domain transform as a YAML file of their own: what a search writes and commands read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from crfnet.config.variants import to_plain
from crfnet.crf.config_file import load_crf_config
from crfnet.crf.layer import CRFConfig
from crfnet.domain_transform.config import DomainTransformConfig
from crfnet.files import read_yaml, write_yaml_text

__all__ = [
    "KEY",
    "domain_transform_text",
    "load_domain_transform",
    "load_refinement",
    "save_domain_transform",
]

KEY = "domain_transform"


@dataclass(frozen=True)
class _File:
    """All that such a file holds.

    Attributes:
        domain_transform: the parameters.
    """

    domain_transform: DomainTransformConfig = field(default_factory=DomainTransformConfig)


def load_domain_transform(path: Path | str) -> DomainTransformConfig:
    """The parameters under the one key `domain_transform` of a YAML file; keys left out keep their defaults.

    Raises:
        InputError: no such file, not YAML, an unknown key, a value of a wrong type or out of its range.
    """
    from crfnet.config.reader import read_config  # jsonargparse, which the layer does without

    return read_config(_File, Path(path)).domain_transform


def load_refinement(path: Path | str) -> CRFConfig | DomainTransformConfig:
    """Read the parameters of a CRF or of a domain transform from the file that a search wrote.

    Raises:
        InputError: see `load_crf_config`.
    """
    path = Path(path)
    content = read_yaml(path) if path.is_file() else None
    if isinstance(content, dict) and list(content) == [KEY]:
        return load_domain_transform(path)
    return load_crf_config(path)


def domain_transform_text(config: DomainTransformConfig) -> str:
    """All parameters under `domain_transform` as YAML."""
    return yaml.safe_dump({KEY: to_plain(config)}, sort_keys=False)


def save_domain_transform(path: Path | str, config: DomainTransformConfig, head: Sequence[str] = ()) -> None:
    """Write all parameters under `domain_transform`; `load_domain_transform` reads back equal ones.

    Args:
        path: the YAML file, replaced if it is there.
        config: what to write.
        head: lines that say where it comes from, written as comments.
    """
    write_yaml_text(Path(path), domain_transform_text(config), head)
