"""A filter and a scheme of a user: one file, and one line for each in the table of its axis."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from crfnet.crf.filters import FILTERS, ExactFilter, GaussianFilter, KernelOperator
from crfnet.crf.inference import INFERENCES, Inference
from crfnet.shapes import Features, Grid, Mask, Values


@dataclass(frozen=True)
class HalfFilter(GaussianFilter):
    """The exact filter, of features that are scaled first.

    Attributes:
        alpha: what the features are multiplied with, > 0.
        window: not used, like the name.
        tolerance: not used either.
    """

    alpha: float = 0.5
    window: int = 7
    tolerance: Literal["low", "high"] = "low"
    learns_features: ClassVar[bool] = True
    quick_pixels: ClassVar[int] = 4096

    def build(self, features: Features, grid: Grid | None, mask: Mask | None) -> KernelOperator:
        return ExactFilter(eps=0.0).build(self.alpha * features, grid, mask)

    def dense(self, features: Features, grid: Grid) -> Tensor:
        return super().dense(self.alpha * features, grid)


@dataclass(frozen=True)
class SlowMeanField(Inference):
    """Mean field of which only a part of each step is taken.

    Attributes:
        window: share of the new marginals, in (0, 1].
        eps: not used, like the name.
        tolerance: as of every scheme.
        recompute: as of every scheme.
    """

    window: float = 0.5
    eps: float = 0.25
    tolerance: float = 0.0
    recompute: bool = False

    def _steps(
        self,
        unary: Values,
        penalty: Callable[[Values], Values],
        iterations: int,
        trace: list[Values] | None,
    ) -> Values:
        step = self._kept_small(lambda q: q + self.window * ((unary - penalty(q)).softmax(1) - q))
        q, before = unary.softmax(1), None
        for _ in range(iterations):
            if self._settled(q, before):
                break
            if trace is not None:
                trace.append(q)
            q, before = step(q), q
        if trace is not None:
            trace.append(q)
        return q.clamp_min(1e-30).log()


FILTERS["half"] = HalfFilter
INFERENCES["slow"] = SlowMeanField
