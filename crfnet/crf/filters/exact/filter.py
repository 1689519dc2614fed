"""The Gaussian filter by summing over pairs: exact up to a stated cut-off, memory O(N), exact gradients."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from crfnet import kernels
from crfnet.crf.filters.contract import GaussianFilter, KernelOperator, require_finite
from crfnet.crf.filters.exact.compiled import CompiledPairs
from crfnet.crf.filters.exact.tiles import Tiles, build_tiles
from crfnet.crf.filters.rows import exp_normal, kernel_rows, multiplies_in_full
from crfnet.errors import require
from crfnet.shapes import Features, Grid, Mask, Values

if TYPE_CHECKING:
    from crfnet.kernels.gpu.exact import TilePairs

__all__ = ["ExactFilter"]

_TILE = 64  # points of a tile where the GPU kernels run
_BLOCK = 1 << 19  # kernel entries alive at once: 2 MB in float32, which a processor's cache holds

# |x - y|^2 / 2 = |x|^2/2 - x.y + |y|^2/2 loses about |x|^2 units in the last place where it matters, that is
# where y is near x. For rows x within NARROW bandwidths of the origin that is below 1e-5 in float32 and 1e-14
# in float64; within WIDE of it, 1e-8 in float64.
_NARROW, _WIDE = 8.0, 8192.0


def _filter(values: Tensor, features: Tensor, tiles: Tiles, reach: float) -> Tensor:
    """K v, one tile of rows at a time."""
    tiled = tiles.sort_once(values)
    sums = []
    for image, blocks in _tiles_of_rows(features, tiles, reach):
        total = tiled.new_zeros(tiled.shape[2:])
        for near, _, _, kernel in blocks:
            total = torch.addmm(total, kernel, tiled[image].index_select(0, near).flatten(0, 1))
        sums.append(total)
    return tiles.unsort(torch.stack(sums).view(len(values), -1, values.shape[1]))


def _grad_features(grad: Tensor, values: Tensor, features: Tensor, tiles: Tiles, reach: float) -> Tensor:
    """``-sum_j K_ij (f_i - f_j) (g_i . v_j + v_i . g_j)``, one tile of rows at a time; differentiable."""
    left = tiles.sort_once(torch.cat([grad, values], dim=1))
    right = tiles.sort_once(torch.cat([values, grad], dim=1))
    rows = left.flatten(0, 1)
    sums: list[Tensor] = []
    for image, blocks in _tiles_of_rows(features, tiles, reach):
        mine = rows[len(sums)]
        total = features.new_zeros(len(mine), features.shape[1])
        for near, x, y, kernel in blocks:
            weight = (kernel * (mine @ right[image].index_select(0, near).flatten(0, 1).mT)).to(x.dtype)
            total = total + weight @ y.mT - x.mT * weight.sum(1, keepdim=True)
        sums.append(total.to(features.dtype))
    return tiles.unsort(torch.stack(sums).view(len(features), -1, features.shape[1]))


_Blocks = Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]


def _tiles_of_rows(features: Tensor, tiles: Tiles, reach: float) -> Iterator[tuple[int, _Blocks]]:
    """For each tile of each image, in order: the image's number, and K between it and the tiles in reach.

    K comes in blocks: columns' tiles (s,), rows (d, p), columns (d, s p) and K (p, s p); the rows and columns
    relative to the center of the rows' box, in float64 where float32 would not be near enough to it.
    """
    points = tiles.sort(features)
    step = max(1, _BLOCK // points.shape[3] ** 2)
    multiplies = multiplies_in_full(points)
    centers = ((tiles.low + tiles.high) / 2).unsqueeze(-1)
    extents = ((tiles.high - tiles.low) / 2).norm(dim=2).tolist()

    def blocks(image: int, tile: int, near: Tensor) -> _Blocks:
        extent = extents[image][tile]
        dtype = points.dtype if multiplies and extent <= _NARROW else torch.float64
        subtract = extent > (_NARROW if points.dtype == torch.float64 else _WIDE)
        center = 0 if subtract else centers[image, tile].to(dtype)  # of such a box it would cost digits
        x = points[image, :, tile].to(dtype) - center
        for some in near.split(step):
            y = points[image].index_select(1, some).flatten(1).to(dtype) - center
            if subtract:
                yield some, x, y, kernel_rows(x.unsqueeze(0), y.unsqueeze(0)).squeeze(0).to(points.dtype)
            else:
                yield some, x, y, exp_normal(_exponents(x, y).to(points.dtype))

    for image, tile, near in tiles.pairs(reach):
        yield image, blocks(image, tile, near)


def _exponents(x: Tensor, y: Tensor) -> Tensor:
    """``-|x_i - y_j|^2 / 2``: (d, r) and (d, c) -> (r, c), by one matrix product, for x near the origin.

    Several times faster than by subtractions.
    """
    y = y.clamp(-1e9, 1e9)  # what is farther is as far: no overflow
    rows = torch.cat([x, torch.ones_like(x[:1]), x.square().sum(0, keepdim=True) * -0.5])
    columns = torch.cat([y, y.square().sum(0, keepdim=True) * -0.5, torch.ones_like(y[:1])])
    return rows.mT @ columns


class _Pairs:
    """The pairs that are summed over: by kernels where these take the values, else by torch.

    Args:
        features: of every pixel.
        mask: the pixels that count; None for all.
        reach: distance beyond which pairs may be left out.

    Raises:
        ValueError: a feature is not finite.
    """

    def __init__(self, features: Tensor, mask: Mask | None, reach: float) -> None:
        self.reach, self._of = reach, (features, mask)
        self.listed: TilePairs | None = None
        self._compiled: CompiledPairs | None = None
        if kernels.usable(features):
            self.listed = self._list(features)
            return
        require_finite(bool(features.isfinite().all()))
        if kernels.compiled(features):
            self._compiled = CompiledPairs(features, mask, reach)

    @cached_property
    def tiles(self) -> Tiles:
        """Those of torch and of the list for a GPU; compiled kernels have blocks of their own."""
        return build_tiles(*self._of, _TILE if kernels.usable(self._of[0]) else None)

    def _list(self, features: Tensor) -> "TilePairs":
        from crfnet.kernels.gpu.exact import TilePairs

        starts, columns = self.tiles.pair_list(self.reach)
        return TilePairs(
            points=self.tiles.sort(features.float()).transpose(1, 2).flatten(0, 1).contiguous(),
            slots=torch.where(self.tiles.counts, self.tiles.order, -1).int().view(-1, _TILE),
            starts=starts,
            columns=columns,
            schedule=starts.diff().argsort(descending=True),
        )

    def filter(self, values: Tensor, features: Tensor) -> Tensor:
        if self.listed is not None and kernels.usable(values):
            from crfnet.kernels.gpu import exact

            return exact.filter_values(values, self.listed)
        if self._compiled is not None and kernels.compiled(values):
            return self._compiled.filter(values)
        return _filter(values, features, self.tiles, self.reach)

    def grad_features(self, grad: Tensor, values: Tensor, features: Tensor) -> Tensor:
        second = torch.is_grad_enabled()  # derivatives will be asked for
        if self.listed is not None and kernels.usable(values) and not second:
            from crfnet.kernels.gpu import exact

            return exact.grad_features(grad, values, self.listed).to(features.dtype)
        if self._compiled is not None and kernels.compiled(values) and not second:
            return self._compiled.grad_features(grad, values)
        return _grad_features(grad, values, features, self.tiles, self.reach)


class _ExactFilter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, features: Tensor, pairs: _Pairs) -> Tensor:
        ctx.pairs = pairs  # type: ignore[attr-defined]
        ctx.save_for_backward(values, features)
        with torch.autocast(values.device.type, enabled=False):
            return pairs.filter(values, features)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, features = ctx.saved_tensors  # type: ignore[attr-defined]
        pairs = ctx.pairs  # type: ignore[attr-defined]
        need_values, need_features, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        grad_values = grad_features = None
        if need_values:
            grad_values = _ExactFilter.apply(grad, features, pairs)  # K is symmetric
        if need_features:
            with torch.autocast(grad.device.type, enabled=False):
                grad_features = pairs.grad_features(grad, values, features)
        return grad_values, grad_features, None


class _ExactOperator(KernelOperator):
    def __init__(self, features: Features, mask: Mask | None, eps: float) -> None:
        super().__init__(mask)
        self.features_need_grad = features.requires_grad and torch.is_grad_enabled()
        self._features = features
        reach = math.sqrt(-2 * math.log(eps)) if eps > 0 else math.inf
        self._pairs = _Pairs(features.detach(), mask, reach)

    @property
    def _tiles(self) -> Tiles:
        return self._pairs.tiles

    def product(self, values: Values) -> Values:
        features = self._features.to(values.dtype)
        filtered: Tensor = _ExactFilter.apply(values, features, self._pairs)
        return filtered


@dataclass(frozen=True)
class ExactFilter(GaussianFilter):
    """``sum_j exp(-|f_i - f_j|^2 / 2) v_j`` by summing over pairs: any device, float32 or float64.

    Pairs with a kernel value below ``eps`` may be left out, in both directions alike: where they are many,
    whole tiles of them are. So an output is off by less than ``eps sum_j |v_j|``, in practice far less, and
    the gradients are those of the same sum over the same pairs.

    Time O(N^2 (d + l)) times the share of pairs that is left, 9 to 33 % of a photo at the default; memory a
    few megabytes beside copies of features and values. Differentiable in values and features, to any order;
    a second derivative of the features (``create_graph=True``) holds all kernel values of those pairs.

    Attributes:
        eps: kernel values that may be taken for 0, in [0, 1); 0 leaves out nothing. Up to 256 points none
            is left out anyway.
    """

    eps: float = 1e-6
    learns_features: ClassVar[bool] = True
    checks_features: ClassVar[bool] = True
    growth: ClassVar[int] = 2
    quick_pixels: ClassVar[int] = 4096

    def __post_init__(self) -> None:
        require("eps", self.eps, 0 <= self.eps < 1, "in [0, 1), 0 leaves out nothing")

    def build(self, features: Features, grid: Grid | None, mask: Mask | None) -> KernelOperator:
        """The operator of these features; see `GaussianFilter.operator`.

        Raises:
            ValueError: a feature is not finite.
        """
        return _ExactOperator(features, mask, self.eps)
