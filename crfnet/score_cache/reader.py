"""ScoreFolder: logits by image id, from a score folder or one file."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from crfnet.errors import InputError
from crfnet.files import read_arrays
from crfnet.resize import AlignCorners, resize_logits
from crfnet.score_cache.metadata import METADATA_FILE, SCORE_SUFFIXES, ScoreMetadata, list_ids, read_metadata
from crfnet.score_cache.probabilities import log_probabilities
from crfnet.score_cache.score_size import check_score_size
from crfnet.shapes import Logits

__all__ = ["ScoreFolder"]

#: Rounding that stored probabilities may show outside 0..1.
_PROBABILITY_TOLERANCE = 1e-3


class ScoreFolder:
    """Cached scores of one network, read by image id.

    Args:
        path: a score folder, or a single `.npz` file (see `crfnet.score_cache`).

    Attributes:
        path: what was opened.
        ids: the images that have scores, sorted (a single file: in its own order).
        num_classes: the number of labels l.
        align_corners: how scores are upsampled.
        source: free text: what made them (configuration, checkpoint).

    Raises:
        InputError: nothing readable at `path`; scores.yaml with a missing or unknown key or a wrong value.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stacked: NDArray[Any] | None = None
        if path.is_dir():
            self._metadata = read_metadata(path / METADATA_FILE)
            self.ids: tuple[str, ...] = list_ids(path)
        elif path.is_file() and path.suffix == ".npz":
            self.ids, self._stacked = _read_single(path)
            self._metadata = ScoreMetadata(
                self._stacked.shape[1], "logits", align_corners=False, source=path.stem
            )
        else:
            raise InputError(
                f"{path}: holds no scores, must be a folder with {METADATA_FILE}, or one .npz file"
            )
        if not self.ids:
            raise InputError(f"{path}: holds the scores of no image, must hold <id>.npz or <id>.npy files")
        self._index = {image_id: i for i, image_id in enumerate(self.ids)}

    @property
    def num_classes(self) -> int:
        """The number of labels l."""
        return self._metadata.num_classes

    @property
    def align_corners(self) -> AlignCorners:
        """Whether the corner scores lie on the corner pixels' centers when upsampled."""
        return self._metadata.align_corners

    @property
    def source(self) -> str:
        """What made the scores."""
        return self._metadata.source

    def stored_logits(self, id: str) -> Float[Tensor, "l hs ws"]:
        """The logits of one image at the stored stride, float32.

        Probabilities are returned as logarithms, clamped to 1e-5..1 first. They are converted before any
        upsampling, so that the softmax of a network's logits serves as well as the logits themselves: the two
        differ by a constant per pixel, which interpolation keeps constant over labels.

        Raises:
            InputError: no scores for `id`, an unreadable file, a wrong shape, NaN or infinity, probabilities
                outside 0..1.
        """
        location = self.location(id)
        array = self._read(id)
        if array.ndim != 3 or array.shape[0] != self.num_classes or 0 in array.shape:
            raise InputError(
                f"{location}: scores have shape {array.shape}, must be ({self.num_classes}, hs, ws)"
            )
        if array.dtype.kind != "f":
            raise InputError(f"{location}: scores are {array.dtype}, must be floating point numbers")
        with np.errstate(over="ignore"):
            scores = torch.from_numpy(array.astype(np.float32))
        if not scores.isfinite().all():
            raise InputError(f"{location}: scores hold NaN or infinity, must be finite numbers")
        if self._metadata.kind == "logits":
            return scores
        low, high = float(scores.min()), float(scores.max())
        if low < -_PROBABILITY_TOLERANCE or high > 1 + _PROBABILITY_TOLERANCE:
            raise InputError(
                f"{location}: scores range from {low:.4g} to {high:.4g}, must be in 0..1 (kind probabilities)"
            )
        return log_probabilities(scores)

    def logits(self, id: str, size: tuple[int, int]) -> Logits:
        """The logits (1, l, h, w) of one image, bilinearly resized to `size` = (h, w) pixels; float32.

        Raises:
            InputError: see `stored_logits` and `check_score_size`.
        """
        stored = self.stored_logits(id)
        check_score_size(self.location(id), (stored.shape[1], stored.shape[2]), size)
        return resize_logits(stored[None], size, align_corners=self.align_corners)

    def digest(self, ids: Sequence[str]) -> str:
        """A digest of the stored scores of some images, and of how they are read.

        Raises:
            InputError: see `stored_logits`.
        """
        digest = hashlib.sha256(repr((tuple(ids), self.num_classes, self.align_corners)).encode())
        for id in ids:
            stored = self.stored_logits(id)
            digest.update(f"{tuple(stored.shape)}".encode() + stored.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def location(self, id: str) -> str:
        """What a message calls the scores of one image: their file, or their place in the single one."""
        return str(self._file(id)) if self._stacked is None else f"{self.path} [{id}]"

    def _file(self, id: str) -> Path:
        candidates = [self.path / f"{id}{suffix}" for suffix in SCORE_SUFFIXES]
        return next((each for each in candidates if each.is_file()), candidates[0])

    def _read(self, id: str) -> NDArray[Any]:
        if id not in self._index:
            raise InputError(
                f"{self.path}: no scores for image {id!r}; it holds {len(self.ids)}: {_first_ids(self.ids)}"
            )
        if self._stacked is not None:
            return np.asarray(self._stacked[self._index[id]])
        path = self._file(id)
        try:
            return _load(path)
        except ValueError as error:
            raise InputError(
                f"{path}: cannot be read ({error}), must be a .npz file with 'scores', or a .npy file"
            ) from error


def _load(path: Path) -> NDArray[Any]:
    """Load the scores in one image's file, as stored; ValueError where it holds something else."""
    arrays = read_arrays(path, ["scores"])
    name = "" if path.suffix == ".npy" else "scores"
    if name not in arrays:
        raise ValueError(f"not a {path.suffix} file")
    return arrays[name]


def _read_single(path: Path) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Load the arrays `ids` and `logits` of a single file into memory."""
    try:
        arrays = read_arrays(path, ["ids", "logits"])
    except ValueError as error:
        raise InputError(
            f"{path}: cannot be read ({error}), must be a .npz file with arrays 'ids' and 'logits'"
        ) from error
    if "" in arrays:
        raise InputError(f"{path}: a .npy file, must be a .npz file with arrays 'ids' and 'logits'")
    ids, logits = arrays["ids"], arrays["logits"]
    if ids.ndim != 1 or ids.dtype.kind != "U" or len(set(ids.tolist())) != len(ids):
        raise InputError(
            f"{path}: ids have shape {ids.shape} and type {ids.dtype}, must be (i,) unique strings"
        )
    if logits.ndim != 4 or len(logits) != len(ids) or logits.shape[1] < 2:
        raise InputError(f"{path}: logits have shape {logits.shape}, must be ({len(ids)}, l >= 2, hs, ws)")
    return tuple(ids.tolist()), logits


def _first_ids(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
