"""Writes scores into a score folder, image by image; what is written survives a kill."""

import io
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import yaml
from jaxtyping import Float
from torch import Tensor

from crfnet.errors import InputError, require
from crfnet.files import leftovers, write_atomically
from crfnet.resize import AlignCorners
from crfnet.score_cache.metadata import (
    METADATA_FILE,
    SCORE_SUFFIXES,
    Kind,
    ScoreMetadata,
    list_ids,
    read_metadata,
)
from crfnet.score_cache.reader import ScoreFolder

__all__ = ["add_scores", "missing_scores", "prepare_score_folder", "write_scores"]


def missing_scores(folder: Path, ids: Iterable[str]) -> list[str]:
    """Those of `ids` that have no scores in `folder` yet, in order: the images left to run the network on."""
    finished = set(list_ids(folder)) if folder.is_dir() else set()
    return [image_id for image_id in ids if image_id not in finished]


def write_scores(
    folder: Path,
    pairs: Iterable[tuple[str, Float[Tensor, "l hs ws"]]],
    num_classes: int,
    align_corners: AlignCorners,
    source: str,
    *,
    kind: Kind = "logits",
    overwrite: bool = False,
) -> ScoreFolder:
    """Write the scores of images, one file at a time and each atomically; a kill loses nothing written.

    Ids that have a file already are skipped; run the network on `missing_scores` only.

    Args:
        folder: created if missing.
        pairs: (id, scores at the network's stride); stored as float16.
        num_classes: the number of labels l.
        align_corners: of the upsampling that the network was trained with.
        source: what made the scores (configuration, checkpoint); a folder holds the scores of one source.
        kind: of the scores.
        overwrite: delete the scores that the folder holds, of another source too.

    Raises:
        InputError: the folder holds scores of another source, or files that are not scores; an id that is not
            a plain file name; scores of a wrong shape, or beyond what float16 holds.
    """
    prepare_score_folder(folder, num_classes, align_corners, source, kind=kind, overwrite=overwrite)
    add_scores(folder, pairs, num_classes)
    return ScoreFolder(folder)


def prepare_score_folder(
    folder: Path,
    num_classes: int,
    align_corners: AlignCorners,
    source: str,
    *,
    kind: Kind = "logits",
    overwrite: bool = False,
) -> None:
    """Prepare a folder for the scores of one source: the first half of `write_scores`."""
    metadata = ScoreMetadata(num_classes, kind, align_corners, source)
    if num_classes < 2:
        raise InputError(f"{folder}: scores of {num_classes} class, must be 2 or more")
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / METADATA_FILE, leftovers(folder)
    if path.exists():
        if not overwrite:
            _refuse_other_source(path, metadata)
        # The new metadata comes last: until then an interrupted overwrite still names the old source.
        for image_id in list_ids(folder) if overwrite else ():
            for suffix in SCORE_SUFFIXES:
                (folder / f"{image_id}{suffix}").unlink(missing_ok=True)
    elif set(folder.iterdir()) - set(partial):
        raise InputError(
            f"{folder}: holds files but no {METADATA_FILE}, must be a new folder or one of scores"
        )
    for each in partial:
        each.unlink()
    write_atomically(path, yaml.safe_dump(asdict(metadata), sort_keys=False).encode())


def _refuse_other_source(path: Path, metadata: ScoreMetadata) -> None:
    existing = read_metadata(path)
    for key, wanted in asdict(metadata).items():
        if getattr(existing, key) != wanted:
            raise InputError(
                f"{path}: {key} is {getattr(existing, key)!r}, these scores have {wanted!r}; "
                "give another folder or --overwrite"
            )


def add_scores(folder: Path, pairs: Iterable[tuple[str, Float[Tensor, "l hs ws"]]], num_classes: int) -> None:
    """Write scores into a prepared folder, also from several processes: the second half of `write_scores`."""
    finished = set(list_ids(folder))
    for image_id, scores in pairs:
        plain = bool(image_id) and Path(image_id).name == image_id and not image_id.startswith(".")
        require("image id", image_id, plain, "a plain file name without a folder")
        if image_id in finished:
            continue
        array = scores.detach().cpu().to(torch.float16)
        if array.shape[0] != num_classes:
            raise InputError(
                f"scores of image {image_id!r} have shape {tuple(array.shape)}, "
                f"must be ({num_classes}, hs, ws)"
            )
        if not torch.isfinite(array).all():
            raise InputError(
                f"scores of image {image_id!r} hold NaN, infinity or numbers beyond float16 (65504)"
            )
        content = io.BytesIO()
        np.savez_compressed(content, scores=array.numpy())
        write_atomically(folder / f"{image_id}.npz", content.getvalue())
        finished.add(image_id)
