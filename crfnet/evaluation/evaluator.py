"""Counts the predictions of one arm, image by image: all that scores, curves and intervals need."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crfnet.errors import InputError, require
from crfnet.evaluation.boundary import (
    BoundaryConfig,
    boundary_f,
    boundary_tallies,
    contour_matches,
)
from crfnet.evaluation.confusion import (
    Absent,
    Metrics,
    Prediction,
    count_pairs,
    metrics,
    pair_map,
    tally_metrics,
)
from crfnet.evaluation.dilation import ELEMENTS, Element
from crfnet.evaluation.image_counts import ImageCounts, read_image_counts, write_image_counts
from crfnet.evaluation.trimap import BANDS, MAX_WIDTH, Band, band_distance, count_shells, dense_shells
from crfnet.shapes import LabelMap

__all__ = ["Evaluation", "EvaluationConfig", "GalleryMetric"]

GalleryMetric: TypeAlias = Literal["miou", "pixel_accuracy"]

_RANGES = {"max_width": (1, 10_000), "draws": (1, 1_000_000), "seed": (0, 2**63 - 2)}
_CHOICES = {"absent": get_args(Absent), "element": tuple(ELEMENTS), "gallery": get_args(GalleryMetric)}


@dataclass(frozen=True)
class EvaluationConfig:
    """What a score means and how its interval is drawn.

    Attributes:
        absent: a class absent from truth and prediction is left out of the mean ("skip") or is 0 ("zero").
        max_width: largest trimap width, pixels.
        element: what grows the trimaps: "square" (the papers'), "disc" or "cross".
        boundary: widths of the Boundary IoU and the boundary F-score.
        draws: bootstrap draws.
        seed: of the bootstrap.
        gallery: the report's pictures are the images whose own "miou" or "pixel_accuracy" changes most.
    """

    absent: Absent = "skip"
    max_width: int = MAX_WIDTH
    element: Element = "square"
    boundary: BoundaryConfig = field(default_factory=BoundaryConfig)
    draws: int = 2000
    seed: int = 0
    gallery: GalleryMetric = "miou"

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            require(name, value, least <= value <= most, f"in {least}..{most}")
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            require(name, value, value in allowed, " or ".join(allowed))


class Evaluation:
    """Counts of every image: confusion matrix, pixels in every trimap, pixels at the borders of each class.

    Stream images in with `add`; the image size may change from one to the next. Only counts that are not 0
    are kept of the trimaps: a few kB per image, and 4 l^2 bytes for its confusion matrix.

    Args:
        num_classes: at least 2.
        max_width: largest trimap width, pixels.
        element: what grows the trimaps.
        boundary: widths of the Boundary IoU and the boundary F-score.
    """

    def __init__(
        self,
        num_classes: int,
        max_width: int = MAX_WIDTH,
        element: Element = "square",
        boundary: BoundaryConfig | None = None,
    ) -> None:
        require("num_classes", num_classes, num_classes >= 2, "at least 2")
        require("max_width", max_width, max_width >= 1, "at least 1 pixel")
        require("element", element, element in ELEMENTS, " or ".join(ELEMENTS))
        self.num_classes = num_classes
        self.max_width = max_width
        self.element: Element = element
        self.boundary = BoundaryConfig() if boundary is None else boundary
        self._images: dict[str, ImageCounts] = {}

    def __len__(self) -> int:
        return len(self._images)

    def add(self, id: str, prediction: Prediction, labels: LabelMap) -> None:
        """Score one image, on the device of the prediction; what is kept is on the CPU.

        Raises:
            InputError: the id was added before, the sizes differ, or a label is outside the classes.
        """
        if id in self._images:
            raise InputError(f"image {id}: it was scored already; ids must differ")
        labels = labels.to(prediction.device)
        try:
            pairs = pair_map(prediction, labels, self.num_classes)
        except InputError as error:
            raise InputError(f"image {id}: {error}") from error
        self._images[id] = self._count(prediction, labels, pairs)

    def _count(self, prediction: Tensor, labels: Tensor, pairs: Tensor) -> ImageCounts:
        classes, size = self.num_classes, (labels.shape[0], labels.shape[1])
        prediction, labels = prediction.short(), labels.short()  # a quarter of the memory to go through
        shells = {}
        for band in BANDS:
            distance = band_distance(labels, band, self.element, self.max_width)
            shells[band] = count_shells(pairs, distance, classes, self.max_width)
        d, theta = self.boundary.iou_pixels(*size), self.boundary.f_pixels(*size)
        return ImageCounts(
            confusion=count_pairs(pairs, classes).int().cpu(),
            shells=shells,
            boundary=boundary_tallies(prediction, labels, classes, d).int(),
            contours=contour_matches(prediction, labels, classes, theta).int(),
        )

    @property
    def ids(self) -> tuple[str, ...]:
        """The images in the order they were added."""
        return tuple(self._images)

    @property
    def confusion(self) -> Int[Tensor, "i l l"]:
        """Whole-image confusion matrix of each image, int32, rows truth, columns prediction."""
        return self._stacked([image.confusion for image in self._images.values()], self.num_classes)

    @property
    def boundary_tallies(self) -> Int[Tensor, "i l 3"]:
        """(both, truth, predicted) pixels near the contour of each class in each image, int32."""
        return self._stacked([image.boundary for image in self._images.values()], 3)

    @property
    def contour_matches(self) -> Int[Tensor, "i l 4"]:
        """(matched, all) boundary pixels of prediction and truth, of each class in each image, int32."""
        return self._stacked([image.contours for image in self._images.values()], 4)

    def trimap(self, band: Band) -> Int[Tensor, "i width l l"]:
        """Confusion matrix of each image inside the band of width 1, 2, ... max_width, int32.

        Made anew at every call, and large: `trimap_tallies` are 3 numbers per class instead.
        """
        shells = [image.shells[band] for image in self._images.values()]
        return dense_shells(shells, self.num_classes, self.max_width)

    def trimap_tallies(self, band: Band, width: int) -> Int[Tensor, "i l 3"]:
        """(right, truth, predicted) pixels of each class of each image inside the band of a width, int32."""
        require("width", width, 1 <= width <= self.max_width, f"in 1..{self.max_width}")
        classes = self.num_classes
        counted = torch.zeros(len(self), classes, 3, dtype=torch.int32)
        for row, image in zip(counted, self._images.values(), strict=True):
            bins, counts = image.shells[band].bins, image.shells[band].counts
            inside = bins < width * classes**2
            bins, counts = bins[inside] % classes**2, counts[inside]
            truth, predicted = bins // classes, bins % classes
            right = truth == predicted
            for column, (at, count) in enumerate(
                ((truth[right], counts[right]), (truth, counts), (predicted, counts))
            ):
                row[:, column].index_add_(0, at, count)
        return counted

    def metrics(self, absent: Absent = "skip") -> Metrics:
        """Scores of all images together: one confusion matrix, never a mean over images."""
        return metrics(self.confusion.sum(0), absent)

    def trimap_metrics(self, band: Band, absent: Absent = "skip") -> Metrics:
        """The same inside the band; leading axis = width 1..max_width. NaN where no pixel is in the band."""
        classes = self.num_classes
        total = torch.zeros(self.max_width * classes**2, dtype=torch.int64)
        for image in self._images.values():
            total[image.shells[band].bins.long()] += image.shells[band].counts
        return metrics(total.reshape(self.max_width, classes, classes).cumsum(0), absent)

    def boundary_iou(self, absent: Absent = "skip") -> tuple[float, Float[Tensor, " l"]]:
        """Boundary IoU of all images together: the mean over classes, and that of each class."""
        found = tally_metrics(self.boundary_tallies.sum(0), absent)
        return float(found.miou), found.per_class_iou

    def boundary_f(self) -> float:
        """Boundary F-score: mean over images of the mean over their classes; NaN without any boundary."""
        total, images = boundary_f(self.contour_matches).sum(0).tolist()
        return total / images if images else float("nan")

    def save(self, path: Path | str) -> None:
        """Write everything to one compressed .npz file, atomically."""
        settings = {
            "num_classes": self.num_classes,
            "max_width": self.max_width,
            "element": self.element,
            "iou_width": self.boundary.iou_width,
            "f_width": self.boundary.f_width,
        }
        write_image_counts(Path(path), settings, self._images)

    @classmethod
    def load(cls, path: Path | str) -> "Evaluation":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, damaged, of an older version, or not one that `save` wrote.
        """
        settings, images = read_image_counts(Path(path))
        boundary = BoundaryConfig(settings["iou_width"], settings["f_width"])
        evaluation = cls(settings["num_classes"], settings["max_width"], settings["element"], boundary)
        evaluation._images = images
        return evaluation

    @classmethod
    def of_parts(cls, parts: Iterable["Evaluation"], ids: Sequence[str]) -> "Evaluation":
        """The images of evaluations that are counted alike, at least one, in the order of ``ids``.

        Raises:
            ValueError: the parts together do not hold each of ``ids`` once and nothing else.
        """
        parts = list(parts)
        images = {id: image for part in parts for id, image in part._images.items()}
        if sum(map(len, parts)) != len(ids) or images.keys() != set(ids):
            raise ValueError(
                f"parts hold {sum(map(len, parts))} images: must be each of the {len(ids)} ids once"
            )
        of = parts[0]
        whole = cls(of.num_classes, of.max_width, of.element, of.boundary)
        whole._images = {id: images[id] for id in ids}
        return whole

    def _stacked(self, rows: list[Tensor], last: int) -> Tensor:
        empty = torch.zeros(0, self.num_classes, last, dtype=torch.int32)
        return torch.stack(rows) if rows else empty
