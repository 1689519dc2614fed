"""The widths of a domain transform as a YAML file of their own: what a search writes and commands read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from crfnet.config.variants import to_plain
from crfnet.domain_transform.config import DomainTransformConfig
from crfnet.files import write_yaml_text

__all__ = ["KEY", "load_domain_transform", "save_domain_transform"]

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


def save_domain_transform(path: Path | str, config: DomainTransformConfig, head: Sequence[str] = ()) -> None:
    """Write all parameters under `domain_transform`; `load_domain_transform` reads back equal ones.

    Args:
        path: the YAML file, replaced if it is there.
        config: what to write.
        head: lines that say where it comes from, written as comments.
    """
    write_yaml_text(Path(path), yaml.safe_dump({KEY: to_plain(config)}, sort_keys=False), head)
