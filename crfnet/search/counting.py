"""Scoring a group of points on some images: what is counted, and how it is kept as text."""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from crfnet.evaluation.confusion import Prediction, confusion_matrix
from crfnet.search.config import SearchConfig
from crfnet.search.criteria import CRITERIA
from crfnet.shapes import LabelMap

__all__ = ["Counted", "count"]


@dataclass(frozen=True)
class Counted:
    """What some points did on some images.

    Attributes:
        counts: of the criterion, of each point and image, int32.
        confusion: rows truth, columns prediction, int32; where the criterion is mIoU the same tensor.
    """

    counts: Int[Tensor, "p i *counts"]
    confusion: Int[Tensor, "p i l l"]

    @classmethod
    def of_images(cls, images: Sequence["Counted"]) -> "Counted":
        """The same points on several images, one after the other."""
        confusion = torch.cat([one.confusion for one in images], 1)
        if all(one.counts is one.confusion for one in images):
            return cls(confusion, confusion)
        return cls(torch.cat([one.counts for one in images], 1), confusion)

    def of_point(self, index: int) -> "Counted":
        """One of the points, the leading axis kept."""
        confusion = self.confusion[index : index + 1]
        if self.counts is self.confusion:
            return Counted(confusion, confusion)
        return Counted(self.counts[index : index + 1], confusion)

    def encode(self) -> dict[str, str]:
        """As text for a database: few counts are not 0, so that it is short."""
        texts = {"confusion": _encode(self.confusion)}
        if self.counts is not self.confusion:
            texts["counts"] = _encode(self.counts)
        return texts

    @classmethod
    def decode(cls, texts: dict[str, str]) -> "Counted":
        """What `encode` made."""
        confusion = _decode(texts["confusion"])
        return cls(_decode(texts["counts"]) if "counts" in texts else confusion, confusion)


def count(
    predictions: Sequence[Prediction], labels: LabelMap, num_classes: int, config: SearchConfig
) -> Counted:
    """Counts several predictions (points) of one image, by the config's criterion and as confusion matrices.

    Raises:
        InputError: labels or predictions outside the classes.
    """
    criterion = CRITERIA[config.criterion]
    confusion = torch.stack([confusion_matrix(one, labels, num_classes) for one in predictions])
    confusion = confusion.int().unsqueeze(1)
    if criterion.uses_confusion:
        return Counted(confusion, confusion)
    truth = criterion.truth(labels, config)
    counts = torch.stack([criterion.count(one, truth, num_classes) for one in predictions])
    return Counted(counts.int().unsqueeze(1), confusion)


def _encode(counts: Tensor) -> str:
    shape = np.array([counts.ndim, *counts.shape], np.int32)
    data = zlib.compress(shape.tobytes() + counts.contiguous().numpy().tobytes())
    return base64.b64encode(data).decode()


def _decode(text: str) -> Tensor:
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.int32)
    shape = numbers[1 : 1 + numbers[0]].tolist()
    return torch.from_numpy(numbers[1 + numbers[0] :].reshape(shape).copy())
