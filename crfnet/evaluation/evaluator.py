"""Collects the confusion matrices of one arm, image by image: all that scores, curves and intervals need."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from crfnet.errors import InputError
from crfnet.evaluation.confusion import Absent, Metrics, Prediction, confusion_matrix, metrics
from crfnet.evaluation.trimap import BANDS, MAX_WIDTH, Band, trimap_confusions
from crfnet.files import write_atomically
from crfnet.shapes import LabelMap

__all__ = ["Evaluation", "EvaluationConfig"]


@dataclass(frozen=True)
class EvaluationConfig:
    """What a score means and how its interval is drawn.

    Attributes:
        absent: a class absent from truth and prediction is left out of the mean ("skip") or is 0 ("zero").
        max_width: largest trimap width, pixels.
        draws: bootstrap draws.
        seed: of the bootstrap.
    """

    absent: Absent = "skip"
    max_width: int = MAX_WIDTH
    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_width", "draws"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 1")


class Evaluation:
    """Per-image confusion matrices over the whole image and inside every trimap.

    Stream images in with `add`; the image size may change from one to the next. Memory per image: 4 bytes x
    (2 bands x max_width + 1) x num_classes^2, which is 143 kB for VOC.
    """

    def __init__(self, num_classes: int, max_width: int = MAX_WIDTH) -> None:
        if num_classes < 2 or max_width < 1:
            raise ValueError(
                f"num_classes is {num_classes} and max_width is {max_width}: "
                "there must be at least 2 classes and 1 width"
            )
        self.num_classes = num_classes
        self.max_width = max_width
        self._confusion: dict[str, Tensor] = {}
        self._trimap: dict[Band, list[Tensor]] = {band: [] for band in BANDS}

    def __len__(self) -> int:
        return len(self._confusion)

    def add(self, id: str, prediction: Prediction, labels: LabelMap) -> None:
        """Score one image; prediction and labels may be on any device.

        Raises:
            InputError: the id was added before, the sizes differ, or a label is outside the classes.
        """
        if id in self._confusion:
            raise InputError(f"image {id}: it was scored already; ids must differ")
        prediction, labels = prediction.cpu(), labels.cpu()
        try:
            confusion = confusion_matrix(prediction, labels, self.num_classes)
        except InputError as error:
            raise InputError(f"image {id}: {error}") from error
        for band in BANDS:
            inside = trimap_confusions(prediction, labels, self.num_classes, band, self.max_width)
            self._trimap[band].append(inside.int())
        self._confusion[id] = confusion.int()

    @property
    def ids(self) -> tuple[str, ...]:
        """The images in the order they were added."""
        return tuple(self._confusion)

    @property
    def confusion(self) -> Int[Tensor, "i l l"]:
        """Whole-image confusion matrix of each image, int32, rows truth, columns prediction."""
        empty = torch.zeros(0, self.num_classes, self.num_classes, dtype=torch.int32)
        return torch.stack(list(self._confusion.values())) if self._confusion else empty

    def trimap(self, band: Band) -> Int[Tensor, "i width l l"]:
        """Confusion matrix of each image inside the band of width 1, 2, ... max_width, int32 (a copy)."""
        empty = torch.zeros(0, self.max_width, self.num_classes, self.num_classes, dtype=torch.int32)
        return torch.stack(self._trimap[band]) if self._trimap[band] else empty

    def metrics(self, absent: Absent = "skip") -> Metrics:
        """Scores of all images together: one confusion matrix, never a mean over images."""
        return metrics(self.confusion.sum(0), absent)

    def trimap_metrics(self, band: Band, absent: Absent = "skip") -> Metrics:
        """The same inside the band; leading axis = width 1..max_width. NaN where no pixel is in the band."""
        return metrics(self.trimap(band).sum(0), absent)

    def save(self, path: Path) -> None:
        """Write everything to one compressed .npz file, atomically."""
        arrays: dict[str, Any] = {
            "ids": np.array(self.ids, dtype=np.str_),
            "confusion": self.confusion.numpy(),
        }
        for band in BANDS:
            arrays[f"trimap_{band}"] = self.trimap(band).numpy()
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        write_atomically(path, stream.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, damaged, or not one that `save` wrote.
        """
        arrays = _read_arrays(path)
        ids, confusion = arrays["ids"].tolist(), arrays["confusion"]
        trimaps = {band: arrays[f"trimap_{band}"] for band in BANDS}
        images, num_classes = len(ids), confusion.shape[-1]
        max_width = trimaps[BANDS[0]].shape[1]
        _check_shape(path, "confusion", confusion, (images, num_classes, num_classes))
        for band, array in trimaps.items():
            _check_shape(path, f"trimap_{band}", array, (images, max_width, num_classes, num_classes))
        evaluation = cls(num_classes, max_width)
        evaluation._confusion = dict(zip(ids, torch.from_numpy(confusion), strict=True))
        evaluation._trimap = {band: list(torch.from_numpy(array)) for band, array in trimaps.items()}
        return evaluation


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    names = ("ids", "confusion", *(f"trimap_{band}" for band in BANDS))
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            missing = [name for name in names if name not in file.files]
            if missing:
                raise InputError(
                    f"{path}: it lacks {', '.join(missing)}; an evaluation holds {', '.join(names)}"
                )
            return {name: file[name] for name in names}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; an evaluation .npz is needed") from error
    except InputError:
        raise
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: it cannot be read as an evaluation .npz ({error})") from error


def _check_shape(path: Path, name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise InputError(f"{path}: {name} has shape {array.shape}, which must be {shape}")
