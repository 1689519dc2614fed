"""The near pairs of a batch for the compiled kernels of a CPU, as functions of tensors."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crfnet.crf.filters.compiled import array_of, outside_graphs
from crfnet.crf.filters.exact.tiles import ONE_TILE, build_tiles
from crfnet.shapes import Features, Mask, Values

if TYPE_CHECKING:
    from crfnet.kernels.cpu.point_blocks import PointBlocks

__all__ = ["CompiledPairs"]

_SLACK = 1e-5  # distances between boxes are rounded


class CompiledPairs:
    """Points in blocks of near neighbors; which blocks are near which is found anew in each use.

    Args:
        features: of every pixel, finite, float32 or float64.
        mask: the pixels that count; None for all.
        reach: distance beyond which pairs may be left out; up to 256 points none is.
    """

    def __init__(self, features: Features, mask: Mask | None, reach: float) -> None:
        self._farthest = math.inf if features.shape[2] <= ONE_TILE else reach**2 * (1 + _SLACK)
        self._as: dict[torch.dtype, PointBlocks] = {}
        outside_graphs(self._build, features, mask)

    def _build(self, features: Features, mask: Mask | None) -> None:
        from crfnet.kernels.cpu.point_blocks import BLOCK

        tiles = build_tiles(features, mask, BLOCK)
        self._used = tiles.used.unsqueeze(1)
        self._slots = torch.where(tiles.counts, tiles.order, -1).int().view(len(features), -1, BLOCK)
        self._points = tiles.sort(features).transpose(1, 2).contiguous()

    def filter(self, values: Values) -> Values:
        """``out_i = sum_j K_ij v_j``."""
        return outside_graphs(self._filter, values)

    def _filter(self, values: Values) -> Values:
        from crfnet.kernels.cpu import exact

        return torch.from_numpy(exact.filter_values(array_of(values), self._blocks(values.dtype)))

    def grad_features(self, grad: Values, values: Values) -> Features:
        """``-sum_j K_ij (f_i - f_j) (g_i . v_j + v_i . g_j)``, g being the gradient of `filter`'s result."""
        return outside_graphs(self._grad_features, grad, values)

    def _grad_features(self, grad: Values, values: Values) -> Features:
        from crfnet.kernels.cpu import exact

        blocks = self._blocks(values.dtype)
        return torch.from_numpy(exact.grad_features(array_of(grad), array_of(values), blocks))

    def _blocks(self, dtype: torch.dtype) -> "PointBlocks":
        """Those of values of this precision."""
        from crfnet.kernels.cpu.point_blocks import PointBlocks

        if dtype not in self._as:
            points = self._points.to(dtype)
            self._as[dtype] = PointBlocks(
                points=array_of(points),
                slots=array_of(self._slots),
                low=self._bound(points.amin(3), math.inf),
                high=self._bound(points.amax(3), -math.inf),
                farthest=self._farthest,
            )
        return self._as[dtype]

    def _bound(self, bound: Tensor, nowhere: float) -> np.ndarray:
        """(b, blocks, d) -> (b, d, blocks), filled up to eights; ``nowhere`` for a block that is not used."""
        inside = bound.mT.masked_fill(~self._used, nowhere)
        return array_of(F.pad(inside, (0, -inside.shape[2] % 8), value=nowhere))
