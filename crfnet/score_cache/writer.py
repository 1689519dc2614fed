"""Scores into a score folder, image by image; what is written survives a kill."""

import io
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import yaml
from jaxtyping import Float
from torch import Tensor

from crfnet.errors import InputError
from crfnet.files import leftovers, write_atomically
from crfnet.score_cache.metadata import SHEET, SUFFIXES, Kind, ScoreMetadata, ids_in, read_metadata
from crfnet.score_cache.reader import ScoreFolder

__all__ = ["add_scores", "claim_scores", "missing_scores", "write_scores"]


def missing_scores(folder: Path, ids: Iterable[str]) -> list[str]:
    """Those of `ids` that have no scores in `folder` yet, in order: what is left for the network to do."""
    finished = set(ids_in(folder)) if folder.is_dir() else set()
    return [image_id for image_id in ids if image_id not in finished]


def write_scores(
    folder: Path,
    pairs: Iterable[tuple[str, Float[Tensor, "l hs ws"]]],
    num_classes: int,
    align_corners: bool,
    source: str,
    *,
    kind: Kind = "logits",
    overwrite: bool = False,
) -> ScoreFolder:
    """Writes the scores of images, one file at a time and each atomically; a kill loses nothing written.

    Ids that have a file already are skipped; run the network on `missing_scores` only.

    Args:
        folder: made when it is not there.
        pairs: (id, scores at the network's stride); stored as float16.
        num_classes: the number of labels l.
        align_corners: of the upsampling that the network was trained with.
        source: what made the scores (configuration, checkpoint); a folder holds the scores of one source.
        kind: of the scores.
        overwrite: drop the scores of another source that the folder holds, and its finished ids.

    Raises:
        InputError: the folder holds scores of another source, or files that are not scores; an id that is not
            a plain file name; scores of a wrong shape, or beyond what float16 holds.
    """
    claim_scores(folder, num_classes, align_corners, source, kind=kind, overwrite=overwrite)
    add_scores(folder, pairs, num_classes)
    return ScoreFolder(folder)


def claim_scores(
    folder: Path,
    num_classes: int,
    align_corners: bool,
    source: str,
    *,
    kind: Kind = "logits",
    overwrite: bool = False,
) -> None:
    """The first half of `write_scores`: makes the folder ready for the scores of one source."""
    sheet = ScoreMetadata(num_classes, kind, align_corners, source)
    if num_classes < 2:
        raise InputError(f"{folder}: scores of {num_classes} class; expected 2 or more")
    folder.mkdir(parents=True, exist_ok=True)
    path, half = folder / SHEET, leftovers(folder)
    if path.exists():
        if not overwrite:
            _refuse_other_source(path, sheet)
        # The new sheet comes after: until then a folder cut short still says whose scores it holds.
        for image_id in ids_in(folder) if overwrite else ():
            for suffix in SUFFIXES:
                (folder / f"{image_id}{suffix}").unlink(missing_ok=True)
    elif set(folder.iterdir()) - set(half):
        raise InputError(
            f"{folder}: holds files but no {SHEET}; scores go to a new folder or to one of their own"
        )
    for each in half:
        each.unlink()
    write_atomically(path, yaml.safe_dump(asdict(sheet), sort_keys=False).encode())


def _refuse_other_source(path: Path, sheet: ScoreMetadata) -> None:
    there = read_metadata(path)
    for key, wanted in asdict(sheet).items():
        if getattr(there, key) != wanted:
            raise InputError(
                f"{path}: {key} is {getattr(there, key)!r}, these scores have {wanted!r}; "
                "give another folder or --overwrite"
            )


def add_scores(folder: Path, pairs: Iterable[tuple[str, Float[Tensor, "l hs ws"]]], num_classes: int) -> None:
    """The second half of `write_scores`: into a folder that is claimed, by several processes at once."""
    finished = set(ids_in(folder))
    for image_id, scores in pairs:
        if not image_id or Path(image_id).name != image_id or image_id.startswith("."):
            raise InputError(
                f"image id {image_id!r}: cannot name a file; expected a plain file name without a folder"
            )
        if image_id in finished:
            continue
        array = scores.detach().cpu().to(torch.float16)
        if array.shape[0] != num_classes:
            raise InputError(
                f"scores of image {image_id!r} have shape {tuple(array.shape)}; "
                f"expected ({num_classes}, hs, ws)"
            )
        if not torch.isfinite(array).all():
            raise InputError(
                f"scores of image {image_id!r} hold NaN, infinity or numbers beyond float16 (65504)"
            )
        content = io.BytesIO()
        np.savez_compressed(content, scores=array.numpy())
        write_atomically(folder / f"{image_id}.npz", content.getvalue())
        finished.add(image_id)
