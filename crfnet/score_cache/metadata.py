"""What a score folder says about itself, scores.yaml, and which images it has scores of."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from crfnet.errors import InputError
from crfnet.files import read_yaml

__all__ = ["SHEET", "SUFFIXES", "Kind", "ScoreMetadata", "are_probabilities", "ids_in", "read_metadata"]

Kind = Literal["logits", "probabilities"]
SHEET = "scores.yaml"
SUFFIXES = (".npz", ".npy")


@dataclass(frozen=True)
class ScoreMetadata:
    """The contents of scores.yaml."""

    num_classes: int
    kind: Kind
    align_corners: bool
    source: str


def read_metadata(path: Path) -> ScoreMetadata:
    """The sheet at `path`.

    Raises:
        InputError: it is not there, no YAML, or has a missing or unknown key or a wrong value.
    """
    if not path.exists():
        raise InputError(f"{path}: not there; a score folder says there what it holds")
    content = read_yaml(path)
    allowed = [field.name for field in fields(ScoreMetadata)]
    if not isinstance(content, dict) or sorted(map(str, content)) != sorted(allowed):
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else repr(content)
        raise InputError(f"{path}: holds {keys}; expected exactly the keys {', '.join(allowed)}")
    _check_value(
        path, content, "num_classes", "an integer >= 2", type(n := content["num_classes"]) is int and n >= 2
    )
    _check_value(path, content, "kind", "logits or probabilities", content["kind"] in get_args(Kind))
    _check_value(path, content, "align_corners", "true or false", isinstance(content["align_corners"], bool))
    _check_value(path, content, "source", "text", isinstance(content["source"], str))
    return ScoreMetadata(**content)


def _check_value(path: Path, content: dict[str, object], key: str, allowed: str, good: bool) -> None:
    if not good:
        raise InputError(f"{path}: {key} is {content[key]!r}; expected {allowed}")


def are_probabilities(scores: NDArray[Any]) -> bool:
    """Whether the labels of every pixel are in 0..1 and sum to 1, which no network's logits are."""
    return bool(scores.min() >= 0 and (np.abs(scores.sum(0) - 1) < 1e-2).all())


def ids_in(folder: Path) -> tuple[str, ...]:
    """The images that have a file of scores in `folder`, sorted."""
    files = (p for p in folder.iterdir() if p.suffix in SUFFIXES and not p.name.startswith("."))
    return tuple(sorted({p.stem for p in files}))
