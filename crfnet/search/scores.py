"""Cached network scores on disk, from any framework: what the search reads instead of running the network.

A score folder holds `scores.yaml` and one file per image::

    scores.yaml        num_classes: 21
                       kind: logits            # or probabilities
                       align_corners: false    # geometry of the upsampling: crfnet.resize.resize_scores
                       source: free text       # what made them; one folder holds the scores of one source
    <id>.npz           with an array `scores` (l, hs, ws), at any stride; float16 is enough
    <id>.npy           or that array alone

A single `.npz` file with the arrays `ids` (i,) and `logits` (i, l, hs, ws) is read as well (kind logits,
align_corners false).
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from crfnet.errors import InputError
from crfnet.files import read_arrays, read_yaml, write_atomically
from crfnet.resize import resize_scores
from crfnet.shapes import Logits

__all__ = ["KINDS", "ScoreFolder", "add_scores", "claim_scores", "missing_scores", "write_scores"]

KINDS = ("logits", "probabilities")
SHEET = "scores.yaml"
SUFFIXES = (".npz", ".npy")
_SMALLEST_PROBABILITY = 1e-5
#: Rounding that stored probabilities may show outside 0..1.
_PROBABILITY_SLACK = 1e-3


@dataclass(frozen=True)
class _Sheet:
    """The contents of scores.yaml."""

    num_classes: int
    kind: Literal["logits", "probabilities"]
    align_corners: bool
    source: str


class ScoreFolder:
    """Reads the scores of one network, by image id.

    Args:
        path: a score folder, or a single `.npz` file (both described at the top of this file).

    Attributes:
        path: what was opened.
        ids: the images that have scores, sorted (a single file: in its own order).
        num_classes: the number of labels l.
        align_corners: how scores are upsampled.
        source: the text that says what made them.

    Raises:
        InputError: nothing readable at `path`; scores.yaml with a missing or unknown key or a wrong value.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stacked: NDArray[Any] | None = None
        if path.is_dir():
            self._sheet = _read_sheet(path / SHEET)
            self.ids: tuple[str, ...] = _ids_in(path)
        elif path.is_file() and path.suffix == ".npz":
            self.ids, self._stacked = _read_single(path)
            self._sheet = _Sheet(self._stacked.shape[1], "logits", align_corners=False, source=path.stem)
        else:
            raise InputError(f"{path}: no scores there; expected a folder with {SHEET}, or one .npz file")
        if not self.ids:
            raise InputError(f"{path}: holds the scores of no image; expected <id>.npz or <id>.npy files")
        self._index = {id_: i for i, id_ in enumerate(self.ids)}

    @property
    def num_classes(self) -> int:
        """The number of labels l."""
        return self._sheet.num_classes

    @property
    def align_corners(self) -> bool:
        """Whether the corner scores lie on the corner pixels' centres when upsampled."""
        return self._sheet.align_corners

    @property
    def source(self) -> str:
        """What made the scores."""
        return self._sheet.source

    def scores(self, id: str) -> Float[Tensor, "l hs ws"]:
        """The logits of one image at the stored stride, float32.

        Probabilities come back as logarithms, clamped to 1e-5..1 first. They are turned before any
        upsampling, so that the softmax of a network's logits serves as well as the logits themselves: the two
        differ by a constant per pixel, and interpolating keeps it one.

        Raises:
            InputError: no scores for `id`, an unreadable file, a wrong shape, NaN or infinity, probabilities
                outside 0..1.
        """
        place = self._place(id)
        array = self._read(id)
        if array.ndim != 3 or array.shape[0] != self.num_classes or 0 in array.shape:
            raise InputError(
                f"{place}: scores have shape {array.shape}; expected ({self.num_classes}, hs, ws)"
            )
        if array.dtype.kind != "f":
            raise InputError(f"{place}: scores are {array.dtype}; expected floating point numbers")
        with np.errstate(over="ignore"):
            scores = torch.from_numpy(array.astype(np.float32))
        if not scores.isfinite().all():
            raise InputError(f"{place}: scores hold NaN or infinity; expected finite numbers")
        if self._sheet.kind == "logits":
            return scores
        low, high = float(scores.min()), float(scores.max())
        if low < -_PROBABILITY_SLACK or high > 1 + _PROBABILITY_SLACK:
            raise InputError(
                f"{place}: scores reach from {low:.4g} to {high:.4g}; kind probabilities allows 0..1"
            )
        return scores.clamp(_SMALLEST_PROBABILITY, 1.0).log()

    def logits(self, id: str, size: tuple[int, int]) -> Logits:
        """The logits (1, l, h, w) of one image, bilinearly resized to `size` = (h, w) pixels; float32.

        Raises:
            InputError: as `scores`.
        """
        return resize_scores(self.scores(id)[None], size, align_corners=self.align_corners)

    def _place(self, id: str) -> str:
        return str(self.path / id) if self._stacked is None else f"{self.path} [{id}]"

    def _read(self, id: str) -> NDArray[Any]:
        if id not in self._index:
            raise InputError(
                f"{self.path}: no scores for image {id!r}; it holds {len(self.ids)}: {_some(self.ids)}"
            )
        if self._stacked is not None:
            return np.asarray(self._stacked[self._index[id]])
        places = [self.path / f"{id}{suffix}" for suffix in SUFFIXES]
        path = next((each for each in places if each.is_file()), places[0])
        try:
            return _load(path)
        except ValueError as error:
            raise InputError(
                f"{path}: cannot be read ({error}); expected 'scores' in a .npz file, or a .npy file"
            ) from error


def missing_scores(folder: Path, ids: Iterable[str]) -> list[str]:
    """Those of `ids` that have no scores in `folder` yet, in order: what is left for the network to do."""
    finished = set(_ids_in(folder)) if folder.is_dir() else set()
    return [id_ for id_ in ids if id_ not in finished]


def write_scores(
    folder: Path,
    pairs: Iterable[tuple[str, Float[Tensor, "l hs ws"]]],
    num_classes: int,
    align_corners: bool,
    source: str,
    *,
    kind: Literal["logits", "probabilities"] = "logits",
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
    kind: Literal["logits", "probabilities"] = "logits",
    overwrite: bool = False,
) -> None:
    """The first half of `write_scores`: makes the folder ready for the scores of one source."""
    _claim(folder, _Sheet(num_classes, kind, align_corners, source), overwrite)


def add_scores(folder: Path, pairs: Iterable[tuple[str, Float[Tensor, "l hs ws"]]], num_classes: int) -> None:
    """The second half of `write_scores`: into a folder that is claimed, by several processes at once."""
    finished = set(_ids_in(folder))
    for id_, scores in pairs:
        if not id_ or Path(id_).name != id_ or id_.startswith("."):
            raise InputError(
                f"image id {id_!r}: cannot name a file; expected a plain file name without a folder"
            )
        if id_ in finished:
            continue
        array = scores.detach().cpu().to(torch.float16)
        if array.shape[0] != num_classes:
            raise InputError(
                f"scores of image {id_!r} have shape {tuple(array.shape)}; expected ({num_classes}, hs, ws)"
            )
        if not torch.isfinite(array).all():
            raise InputError(f"scores of image {id_!r} hold NaN, infinity or numbers beyond float16 (65504)")
        content = io.BytesIO()
        np.savez_compressed(content, scores=array.numpy())
        write_atomically(folder / f"{id_}.npz", content.getvalue())
        finished.add(id_)


def _claim(folder: Path, sheet: _Sheet, overwrite: bool) -> None:
    """Makes `folder` ready for the scores of `sheet`."""
    if sheet.num_classes < 2:
        raise InputError(f"{folder}: scores of {sheet.num_classes} class; expected 2 or more")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SHEET
    if path.exists():
        if not overwrite:
            _refuse_other_source(path, sheet)
            return
        # The new sheet comes after: until then a folder cut short still says whose scores it holds.
        for id_ in _ids_in(folder):
            for suffix in SUFFIXES:
                (folder / f"{id_}{suffix}").unlink(missing_ok=True)
    elif any(folder.iterdir()):
        raise InputError(
            f"{folder}: holds files but no {SHEET}; scores go to a new folder or to one of their own"
        )
    write_atomically(path, yaml.safe_dump(asdict(sheet), sort_keys=False).encode())


def _refuse_other_source(path: Path, sheet: _Sheet) -> None:
    there = _read_sheet(path)
    for key, wanted in asdict(sheet).items():
        if getattr(there, key) != wanted:
            raise InputError(
                f"{path}: {key} is {getattr(there, key)!r}, these scores have {wanted!r}; "
                "choose another folder, or overwrite"
            )


def _read_sheet(path: Path) -> _Sheet:
    if not path.exists():
        raise InputError(f"{path}: not there; a score folder says there what it holds")
    content = read_yaml(path)
    allowed = [field.name for field in fields(_Sheet)]
    if not isinstance(content, dict) or sorted(map(str, content)) != sorted(allowed):
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else repr(content)
        raise InputError(f"{path}: holds {keys}; expected exactly the keys {', '.join(allowed)}")
    _check_value(
        path, content, "num_classes", "an integer >= 2", type(n := content["num_classes"]) is int and n >= 2
    )
    _check_value(path, content, "kind", "logits or probabilities", content["kind"] in KINDS)
    _check_value(path, content, "align_corners", "true or false", isinstance(content["align_corners"], bool))
    _check_value(path, content, "source", "text", isinstance(content["source"], str))
    return _Sheet(**content)


def _check_value(path: Path, content: dict[str, object], key: str, allowed: str, good: bool) -> None:
    if not good:
        raise InputError(f"{path}: {key} is {content[key]!r}; expected {allowed}")


def _load(path: Path) -> NDArray[Any]:
    """The scores in one image's file, as stored; ValueError where it holds something else."""
    arrays = read_arrays(path, ["scores"])
    name = "" if path.suffix == ".npy" else "scores"
    if name not in arrays:
        raise ValueError(f"no {path.suffix} file")
    return arrays[name]


def _read_single(path: Path) -> tuple[tuple[str, ...], NDArray[Any]]:
    """The arrays `ids` and `logits` of a single file, whole in memory."""
    try:
        arrays = read_arrays(path, ["ids", "logits"])
    except ValueError as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected a .npz file with arrays 'ids' and 'logits'"
        ) from error
    if "" in arrays:
        raise InputError(f"{path}: a .npy file; expected a .npz file with arrays 'ids' and 'logits'")
    ids, logits = arrays["ids"], arrays["logits"]
    if ids.ndim != 1 or ids.dtype.kind != "U" or len(set(ids.tolist())) != len(ids):
        raise InputError(
            f"{path}: ids have shape {ids.shape} and type {ids.dtype}; expected (i,) different texts"
        )
    if logits.ndim != 4 or len(logits) != len(ids) or logits.shape[1] < 2:
        raise InputError(f"{path}: logits have shape {logits.shape}; expected ({len(ids)}, l >= 2, hs, ws)")
    return tuple(ids.tolist()), logits


def _ids_in(folder: Path) -> tuple[str, ...]:
    files = (p for p in folder.iterdir() if p.suffix in SUFFIXES and not p.name.startswith("."))
    return tuple(sorted({p.stem for p in files}))


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
