"""scores.yaml, the metadata of a score folder, and the list of its images."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from crfnet.errors import InputError, require
from crfnet.files import read_yaml
from crfnet.resize import AlignCorners

__all__ = ["METADATA_FILE", "SCORE_SUFFIXES", "Kind", "ScoreMetadata", "list_ids", "read_metadata"]

Kind = Literal["logits", "probabilities"]
METADATA_FILE = "scores.yaml"
SCORE_SUFFIXES = (".npz", ".npy")


@dataclass(frozen=True)
class ScoreMetadata:
    """The contents of scores.yaml.

    Attributes:
        num_classes: the number of labels l.
        kind: of the numbers.
        align_corners: of the upsampling that the network was trained with.
        source: what made them, in words.
        digest: of what made them: weights, images, protocol; empty where that is not known.
    """

    num_classes: int
    kind: Kind
    align_corners: AlignCorners
    source: str
    digest: str = ""


def read_metadata(path: Path) -> ScoreMetadata:
    """Read scores.yaml.

    Raises:
        InputError: it is missing or not YAML, or has a missing or unknown key or a wrong value.
    """
    if not path.exists():
        raise InputError(
            f"{path}: missing; a score folder must hold it (crfnet convert-scores makes one of .npy, .npz, "
            ".mat or .png files)"
        )
    content = read_yaml(path)
    allowed = [field.name for field in fields(ScoreMetadata) if field.name != "digest"]
    if not isinstance(content, dict) or sorted({*map(str, content)} - {"digest"}) != sorted(allowed):
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else repr(content)
        raise InputError(f"{path}: holds {keys}, must hold exactly the keys {', '.join(allowed)}")
    num_classes = content["num_classes"]
    valid = type(num_classes) is int and num_classes >= 2
    require(f"{path}: num_classes", num_classes, valid, "an integer >= 2")
    kind, align_corners, source = content["kind"], content["align_corners"], content["source"]
    require(f"{path}: kind", kind, kind in get_args(Kind), "logits or probabilities")
    known = isinstance(align_corners, bool) or align_corners == "stretch"
    require(f"{path}: align_corners", align_corners, known, "true, false or stretch")
    require(f"{path}: source", source, isinstance(source, str), "text")
    digest = content.get("digest", "")
    require(f"{path}: digest", digest, isinstance(digest, str), "text")
    return ScoreMetadata(**content)


def list_ids(folder: Path) -> tuple[str, ...]:
    """Ids of the images that have a file of scores in `folder`, sorted."""
    files = (p for p in folder.iterdir() if p.suffix in SCORE_SUFFIXES and not p.name.startswith("."))
    return tuple(sorted({p.stem for p in files}))
