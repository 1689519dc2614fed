"""The filter that suits the problem: exact where that is quick enough, else the permutohedral lattice."""

import logging
from dataclasses import dataclass
from typing import ClassVar

import torch

from crfnet.crf.filters.contract import GaussianFilter, KernelOperator
from crfnet.crf.filters.exact.filter import ExactFilter
from crfnet.crf.filters.permutohedral.filter import PermutohedralFilter
from crfnet.shapes import Features, Grid, Mask

__all__ = ["AutoFilter"]

_LOG = logging.getLogger("crfnet")
_SAID: set[str] = set()  # what was chosen, said once per process

# Up to here exact takes less than half a second for 21 labels and 10 mean-field steps on one CPU core (the
# lattice a fifth of it), a price that buys exact values and theta gradients; beyond, it grows as N^2. On
# a GPU its loop over tiles is bound by launches, not by pairs; that bound is an estimate, not a measurement.
_EXACT_POINTS = {"cpu": 4096, "cuda": 65536}
_LATTICE_DIMENSIONS = 16  # beyond, points share no corners and the lattice passes on next to nothing


@dataclass(frozen=True)
class AutoFilter(GaussianFilter):
    """`ExactFilter` for few points or many dimensions, else `PermutohedralFilter`; says which in the log.

    Once per distinct choice, at level INFO of the logger ``crfnet``. Exact up to 4096 points per image on a
    CPU (a map of 64 x 64) and 65536 on a GPU, and beyond 16 dimensions. Above, the lattice, whose values are
    a few per cent off and whose gradients of theta are sampled. Features that require a gradient do not
    change the choice, since those of a learned theta do so too: ask `for_learned_features` where every
    single feature learns.

    Attributes:
        rows: of the `PermutohedralFilter`: kernel rows drawn for the gradient of theta, >= 1.
        eps: of the `ExactFilter`: kernel values that may be left out, in [0, 1).
    """

    rows: int = 32
    eps: float = 1e-6
    learns_features: ClassVar[bool] = False
    may_be_lattice: ClassVar[bool] = True
    checks_features: ClassVar[bool] = True  # as both of those do
    quick_pixels: ClassVar[int] = PermutohedralFilter.quick_pixels

    def __post_init__(self) -> None:
        PermutohedralFilter(rows=self.rows)
        ExactFilter(eps=self.eps)  # these refuse what they do not take

    def choose(self, points: int, dimensions: int, device: torch.device) -> GaussianFilter:
        """The filter for images of so many points and features.

        Args:
            points: n of one image, >= 1.
            dimensions: d, >= 1.
            device: where the features are.
        """
        many = points > _EXACT_POINTS.get(device.type, _EXACT_POINTS["cpu"])
        lattice = many and dimensions <= _LATTICE_DIMENSIONS
        name = "permutohedral" if lattice else "exact"
        text = f"filter auto: {name} for {points} points of {dimensions} dimensions on {device.type}"
        if text not in _SAID:
            _SAID.add(text)
            _LOG.info(text)
        return PermutohedralFilter(rows=self.rows) if lattice else ExactFilter(eps=self.eps)

    def is_lattice(self, points: int, dimensions: int, device: torch.device) -> bool:
        """Whether it chooses the lattice."""
        return isinstance(self.choose(points, dimensions, device), PermutohedralFilter)

    def for_learned_features(self) -> GaussianFilter:
        """The filter for features that are learned one by one, as of an image with gradient: exact."""
        return ExactFilter(eps=self.eps)

    def build(self, features: Features, grid: Grid | None, mask: Mask | None) -> KernelOperator:
        """The operator of these features; see `GaussianFilter.operator`."""
        _, dimensions, points = features.shape
        return self.choose(points, dimensions, features.device).build(features, grid, mask)
