"""Counts of predictions on images, from which every metric follows, and their text form for the database."""

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
from crfnet.search.selection_criteria import CRITERIA
from crfnet.shapes import LabelMap

__all__ = ["PointCounts", "count_predictions"]

_MAX_BYTES = 2**26  #: of one point on one image; of 255 classes they are 260,000


@dataclass(frozen=True)
class PointCounts:
    """Counts of some points on some images.

    Attributes:
        criterion: counts of the criterion, of each point and image, int32.
        confusion: rows truth, columns prediction, int32; where the criterion is mIoU the same tensor.
    """

    criterion: Int[Tensor, "p i *counts"]
    confusion: Int[Tensor, "p i l l"]

    @classmethod
    def concatenate_images(cls, images: Sequence["PointCounts"]) -> "PointCounts":
        """The same points on several images, one after the other."""
        confusion = torch.cat([counts.confusion for counts in images], 1)
        if all(counts.criterion is counts.confusion for counts in images):
            return cls(confusion, confusion)
        return cls(torch.cat([counts.criterion for counts in images], 1), confusion)

    def select_point(self, index: int) -> "PointCounts":
        """One of the points, the leading axis kept."""
        confusion = self.confusion[index : index + 1]
        if self.criterion is self.confusion:
            return PointCounts(confusion, confusion)
        return PointCounts(self.criterion[index : index + 1], confusion)

    def encode(self) -> dict[str, str]:
        """Serialize to text for a database; short, for most counts are 0."""
        texts = {"confusion": _encode(self.confusion)}
        if self.criterion is not self.confusion:
            texts["criterion"] = _encode(self.criterion)
        return texts

    @classmethod
    def decode(cls, texts: dict[str, str]) -> "PointCounts":
        """Invert `encode`."""
        confusion = _decode(texts["confusion"])
        return cls(_decode(texts["criterion"]) if "criterion" in texts else confusion, confusion)


def count_predictions(
    predictions: Sequence[Prediction], labels: LabelMap, num_classes: int, config: SearchConfig
) -> PointCounts:
    """Count several predictions (points) of one image, by the config's criterion and as confusion matrices.

    Raises:
        InputError: labels or predictions outside the classes.
    """
    criterion = CRITERIA[config.criterion]
    confusion = torch.stack([confusion_matrix(one, labels, num_classes) for one in predictions])
    confusion = confusion.int().unsqueeze(1)
    if criterion.uses_confusion:
        return PointCounts(confusion, confusion)
    target = criterion.prepare(labels, config)
    counts = torch.stack([criterion.count(one, target, num_classes) for one in predictions])
    return PointCounts(counts.int().unsqueeze(1), confusion)


def _encode(counts: Tensor) -> str:
    shape = np.array([counts.ndim, *counts.shape], np.int32)
    data = zlib.compress(shape.tobytes() + counts.contiguous().numpy().tobytes())
    return base64.b64encode(data).decode()


def _decode(text: str) -> Tensor:
    packed = zlib.decompressobj()
    data = packed.decompress(base64.b64decode(text), _MAX_BYTES)
    if not packed.eof:
        raise ValueError(f"counts that are cut off, or more than {_MAX_BYTES} bytes")
    numbers = np.frombuffer(data, np.int32)
    shape = numbers[1 : 1 + numbers[0]].tolist()
    counts = numbers[1 + numbers[0] :].reshape(shape)
    if counts.min(initial=0) < 0:
        raise ValueError("counts below 0")
    return torch.from_numpy(counts.copy())
