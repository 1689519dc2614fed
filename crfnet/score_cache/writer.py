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
from crfnet.files import RECORD, leftovers, lock_folder, recorded_files, recording, write_atomically
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
        overwrite: delete the scores that crfnet wrote into the folder, of another source too.

    Raises:
        InputError: the folder holds scores of another source, to overwrite scores of another program, or
            files that are not scores; another process overwrites it or is overwritten; an id that is not
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
    digest: str = "",
    overwrite: bool = False,
) -> None:
    """Prepare a folder for the scores of one source: the first half of `write_scores`.

    With a `digest` of what makes them the folder's must be the same, or it is refused as that of another
    source is.
    """
    metadata = ScoreMetadata(num_classes, kind, align_corners, source, digest)
    if num_classes < 2:
        raise InputError(f"{folder}: scores of {num_classes} class, must be 2 or more")
    path = folder / METADATA_FILE
    refusal = InputError(
        f"{folder}: holds files but no {METADATA_FILE}, must be a new folder or one of scores"
    )
    begun = not folder.is_dir() or path.exists() or (folder / RECORD).exists()
    if not begun and set(folder.iterdir()) - set(leftovers(folder)):
        raise refusal
    # A second process, which writes the same scores, waits until it can read what they are.
    with lock_folder(folder, name="preparing", wait=True), recording(folder):
        partial = leftovers(folder)
        if path.exists():
            if overwrite:
                _remove_scores(folder)
            else:
                metadata = _same_source(path, metadata)
        elif set(folder.iterdir()) - {folder / RECORD, *partial}:
            raise refusal
        for each in partial:
            each.unlink()
        known = {key: value for key, value in asdict(metadata).items() if key != "digest" or value}
        write_atomically(path, yaml.safe_dump(known, sort_keys=False).encode())


def _remove_scores(folder: Path) -> None:
    """Remove what crfnet wrote there, while nobody else writes; refuse where somebody's own scores lie."""
    with lock_folder(folder):
        ours = set(recorded_files(folder))
        names = [f"{image_id}{suffix}" for image_id in list_ids(folder) for suffix in SCORE_SUFFIXES]
        there = [path for name in (METADATA_FILE, *names) if (path := folder / name).exists()]
        others = [path for path in there if path not in ours]
        if others:
            raise InputError(
                f"{others[0]}: not written by crfnet, so --overwrite leaves it alone; give another folder"
            )
        # The metadata comes last: until then an interrupted overwrite still names the old source.
        for path in sorted(ours, key=lambda each: each.name == METADATA_FILE):
            path.unlink()


def _same_source(path: Path, metadata: ScoreMetadata) -> ScoreMetadata:
    """What the folder says of itself; refused where that is another source."""
    existing = read_metadata(path)
    if metadata.digest and existing.digest != metadata.digest:
        raise InputError(
            f"{path}: its scores were made of other weights or images, or at other scales or tiles; "
            "give another folder or --overwrite"
        )
    for key, wanted in asdict(metadata).items():
        if key != "digest" and getattr(existing, key) != wanted:
            raise InputError(
                f"{path}: {key} is {getattr(existing, key)!r}, these scores have {wanted!r}; "
                "give another folder or --overwrite"
            )
    return existing


def add_scores(folder: Path, pairs: Iterable[tuple[str, Float[Tensor, "l hs ws"]]], num_classes: int) -> None:
    """Write scores into a prepared folder, also from several processes: the second half of `write_scores`."""
    with lock_folder(folder, shared=True), recording(folder):
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
