"""The Gaussian kernel cut off to a window of the pixel grid: time O(N window^axes), exact gradients."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from crfnet import kernels
from crfnet.crf.filters.compiled import features_gradient_in_window, filter_in_window
from crfnet.crf.filters.contract import GaussianFilter, KernelOperator
from crfnet.crf.filters.rows import exp_normal
from crfnet.crf.reference import local_matrix
from crfnet.errors import require
from crfnet.shapes import Features, Grid, Mask, Values

__all__ = ["LocalFilter"]

_Region = tuple[EllipsisType | slice, ...]


def _neighbors(grid: Grid, radius: int) -> Iterator[tuple[_Region, _Region]]:
    """Each shift within the window, one of every two opposite ones: what lies in the grid, and where to."""
    reaches = [min(radius, size - 1) for size in grid]
    for shift in itertools.product(*(range(-reach, reach + 1) for reach in reaches)):
        if shift > (0,) * len(grid):
            here = tuple(slice(max(0, -s), size - max(0, s)) for s, size in zip(shift, grid, strict=True))
            there = tuple(slice(max(0, s), size - max(0, -s)) for s, size in zip(shift, grid, strict=True))
            yield (..., *here), (..., *there)


def _filter(values: Tensor, features: Tensor, radius: int) -> Tensor:
    """K v for values (b, l, *grid): K_ii = 1, then one shift at a time and its opposite."""
    out = values.clone()
    for here, there in _neighbors(features.shape[2:], radius):
        kernel = _kernel(features[here] - features[there])
        out[here].addcmul_(kernel, values[there])
        out[there].addcmul_(kernel, values[here])
    return out


def _grad_features(grad: Tensor, values: Tensor, features: Tensor, radius: int) -> Tensor:
    """``-sum_j K_ij (f_i - f_j) (g_i . v_j + v_i . g_j)``, one shift at a time; differentiable."""
    total = torch.zeros_like(features)
    for here, there in _neighbors(features.shape[2:], radius):
        difference = features[here] - features[there]
        product = (grad[here] * values[there] + values[here] * grad[there]).sum(1, keepdim=True)
        share = _kernel(difference) * product * difference
        total[here] -= share
        total[there] += share
    return total


def _kernel(difference: Tensor) -> Tensor:
    return exp_normal(difference.square().sum(1, keepdim=True) * -0.5)


class _LocalFilter(torch.autograd.Function):
    """Kernel values are made anew in the backward pass: kept, they would take window^axes arrays."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, features: Tensor, radius: int) -> Tensor:
        ctx.radius = radius  # type: ignore[attr-defined]
        ctx.save_for_backward(values, features)
        if kernels.usable(values):
            from crfnet.kernels.gpu import local

            return local.filter_values(values, features, radius)
        if kernels.compiled(values):
            return filter_in_window(values, features, radius)
        return _filter(values, features, radius)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, features = ctx.saved_tensors  # type: ignore[attr-defined]
        radius = ctx.radius  # type: ignore[attr-defined]
        need_values, need_features, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        grad_values = _LocalFilter.apply(grad, features, radius) if need_values else None  # K is symmetric
        grad_features = None
        if need_features and kernels.usable(values) and not torch.is_grad_enabled():
            from crfnet.kernels.gpu import local

            grad_features = local.grad_features(grad, values, features, radius).to(features.dtype)
        elif need_features and kernels.compiled(values) and not torch.is_grad_enabled():
            grad_features = features_gradient_in_window(grad, values, features, radius)
        elif need_features:  # also where a second derivative will be asked for
            grad_features = _grad_features(grad, values, features, radius)
        return grad_values, grad_features, None


class _Cells:
    """Cells of pool^axes pixels: averages over those that exist and are inside the mask, and back."""

    def __init__(self, filter: "LocalFilter", grid: Grid, mask: Mask | None, like: Tensor) -> None:
        self._grid, self._pool = grid, filter.pool
        missing = [-size % filter.pool for size in grid]
        #: Pixels of the first cell of every axis that lie before the image.
        self._before = [(m + 1) // 2 if filter.centered else 0 for m in missing]
        self._inside = None if mask is None else mask.view(-1, 1, *grid)
        inside = like.new_ones(1, 1, *grid) if self._inside is None else self._inside.to(like.dtype)
        self._count = self._sum(inside)
        self._seen = None if self._inside is None else self._interpolate((self._count > 0).to(like.dtype))

    def average(self, x: Tensor) -> Tensor:
        """(b, c, n) -> (b, c, *cells); 0 for a cell without a pixel."""
        x = x.reshape(*x.shape[:2], *self._grid)
        if self._inside is not None:
            x = torch.where(self._inside, x, 0.0)
        return self._sum(x) / self._count.to(x.dtype).clamp_min(1)

    def upsample(self, x: Tensor) -> Tensor:
        """(b, c, *cells) -> (b, c, n), linearly along each axis, among the cells that hold a pixel."""
        if self._seen is None:
            return self._interpolate(x).flatten(2)
        x = self._interpolate(torch.where(self._count > 0, x, 0.0))
        return (x / torch.where(self._seen > 0, self._seen, 1.0).to(x.dtype)).flatten(2)

    def _sum(self, x: Tensor) -> Tensor:
        for axis, (size, before) in enumerate(zip(self._grid, self._before, strict=True), start=2):
            after = -(size + before) % self._pool
            x = F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [before, after])
            x = x.unflatten(axis, (-1, self._pool)).sum(axis + 1)
        return x

    def _interpolate(self, x: Tensor) -> Tensor:
        """Cell c is centered at ``pool c + (pool - 1) / 2``; outside the outermost centers, their cells."""
        for axis, (size, before) in enumerate(zip(self._grid, self._before, strict=True), start=2):
            last = x.shape[axis] - 1
            pixels = torch.arange(size, device=x.device, dtype=torch.float64)
            place = ((pixels + before + 0.5) / self._pool - 0.5).clamp(0, last)
            below = place.long()
            shape = [-1 if i == axis else 1 for i in range(x.ndim)]
            share = (place - below).to(x.dtype).view(shape)
            above = (below + 1).clamp_max(last)
            x = x.index_select(axis, below) * (1 - share) + x.index_select(axis, above) * share
        return x


class _LocalOperator(KernelOperator):
    def __init__(self, filter: "LocalFilter", features: Features, grid: Grid, mask: Mask | None) -> None:
        super().__init__(mask)
        self.features_need_grad = features.requires_grad and torch.is_grad_enabled()
        self._features, self._grid, self._radius = features, grid, filter.window // 2
        with torch.no_grad():
            self._cells = _Cells(filter, grid, mask, features) if filter.pool > 1 else None

    def product(self, values: Values) -> Values:
        features = self._features.to(values.dtype)
        filtered: Tensor
        if self._cells is None:
            values, features = (x.reshape(*x.shape[:2], *self._grid) for x in (values, features))
            filtered = _LocalFilter.apply(values, features, self._radius)
            return filtered.flatten(2)
        low, low_features = self._cells.average(values), self._cells.average(features)
        filtered = _LocalFilter.apply(low, low_features, self._radius)
        return self._cells.upsample(filtered)


@dataclass(frozen=True)
class LocalFilter(GaussianFilter):
    """``sum_j exp(-|f_i - f_j|^2 / 2) v_j`` over the pixels j of a window around i: ConvCRF's filter.

    Teichmann & Cipolla 2018, "Convolutional CRFs"; their defaults are window 11 and pool 4, so that a window
    spans 44 pixels. Only pixels that exist are summed, so that row sums are right at the borders (there, the
    released code takes pixels beyond them for zeros).

    With ``pool`` > 1, features and values are averaged over cells of pool pixels along each axis, filtered
    cell by cell, and brought back by linear interpolation between the cells' centers: ``U K P v``. This is
    not symmetric, and unnormalized sums run over cells, not over pixels. A cell at the border, or of a mask,
    is the average over the pixels that it has.

    Time O(N l window^axes / pool^axes), memory that of a few copies of values and features. Exact gradients
    of values and features, to any order; a second derivative of the features holds all kernel values.

    Attributes:
        window: pixels (cells where pooled) along each axis, odd, >= 1.
        pool: pixels along each axis of a cell, >= 1; 1 does not pool.
        centered: where cells do not fit, they reach beyond the image on both sides, as ConvCRF's released
            code has them, not behind its end alone.
    """

    window: int = 11
    pool: int = 1
    centered: bool = False
    learns_features: ClassVar[bool] = True
    quick_pixels: ClassVar[int] = 16384

    def __post_init__(self) -> None:
        require("window", self.window, self.window >= 1 and self.window % 2 == 1, "odd and >= 1")
        require("pool", self.pool, self.pool >= 1, ">= 1")

    def build(self, features: Features, grid: Grid | None, mask: Mask | None) -> KernelOperator:
        """The operator of these features; see `GaussianFilter.operator`.

        Raises:
            ValueError: there is no grid, it has not 1 to 3 axes, or not as many pixels as the features.
        """
        if grid is None:
            raise ValueError(
                "grid is None, must be the sizes of the pixel grid for LocalFilter, such as (rows, columns)"
            )
        if not 1 <= len(grid) <= 3 or math.prod(grid) != features.shape[2]:
            raise ValueError(f"grid is {grid}, must be 1 to 3 sizes with product {features.shape[2]}")
        return _LocalOperator(self, features, grid, mask)

    def dense(self, features: Features, grid: Grid) -> Float[Tensor, "b n n"]:
        """`local_matrix` of the reference."""
        return local_matrix(features, grid, window=self.window, pool=self.pool, centered=self.centered)

    def for_smaller(self, factor: int) -> "LocalFilter":
        """Window and pool count pixels of what comes, and so shrink with it."""
        if factor == 1:
            return self
        pool = max(1, round(self.pool / factor))
        reach = self.window // 2 * self.pool / (factor * pool)
        return replace(self, window=2 * max(1, round(reach)) + 1, pool=pool)
