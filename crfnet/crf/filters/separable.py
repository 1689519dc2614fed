"""The spatial Gaussian of a pixel grid: two 1-D convolutions, no lattice."""

import math

import torch
from torch import Tensor

from crfnet.crf.filters.contract import KernelOperator
from crfnet.shapes import Mask, Values

__all__ = ["SeparableGaussian"]

_BLOCK = 32  # pixels per matrix product; the band matrix as a whole would be mostly zeros


class SeparableGaussian(KernelOperator):
    """``K_ij = exp(-|p_i - p_j|^2 / (2 theta_gamma^2))`` over the pixels p of one grid.

    Each axis is convolved as a band matrix, block by block: on a CPU this is several times faster than a
    convolution with one channel per group. Cost O(N l radius).

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        theta_gamma: Bandwidth in pixels, > 0; a 0-d tensor gets its exact gradient (at a fixed radius).
        radius_in_sigmas: Where the kernel is cut off. At 5.5 the cut mass is 4e-8 of the whole per axis.

    Raises:
        ValueError: ``theta_gamma`` or ``radius_in_sigmas`` is not a finite number > 0.
    """

    def __init__(
        self,
        height: int,
        width: int,
        theta_gamma: float | Tensor,
        radius_in_sigmas: float = 5.5,
        mask: Mask | None = None,
    ) -> None:
        super().__init__(mask)
        bandwidth = float(theta_gamma.detach() if isinstance(theta_gamma, Tensor) else theta_gamma)
        for name, value in (("theta_gamma", bandwidth), ("radius_in_sigmas", radius_in_sigmas)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}; it has to be a finite number > 0")
        self.features_need_grad = (
            isinstance(theta_gamma, Tensor) and theta_gamma.requires_grad and torch.is_grad_enabled()
        )
        self._height, self._width, self._theta = height, width, theta_gamma
        self._radius = min(math.ceil(radius_in_sigmas * bandwidth), max(height, width))

    def product(self, values: Values) -> Values:
        """``out_i = sum_j K_ij v_j``; see `KernelOperator`. Keeps the layout; (b, n, l) is fastest."""
        batch, labels, pixels = values.shape
        window = self._window(values)
        rows = values.mT.contiguous().view(batch, self._height, self._width, labels)
        rows = _convolve(rows, self._blocks(self._width, window))
        columns = rows.view(batch, self._height, self._width * labels)
        columns = _convolve(columns, self._blocks(self._height, window))
        filtered = columns.view(batch, pixels, labels).mT
        return filtered.contiguous() if values.is_contiguous() else filtered

    def _window(self, like: Tensor) -> Tensor:
        """Weights of the pixels around one block (block + 2 radius) in each of its pixels (block)."""
        source = torch.arange(-self._radius, _BLOCK + self._radius, dtype=like.dtype, device=like.device)
        distance = source.unsqueeze(1) - source[self._radius : self._radius + _BLOCK]
        theta = self._theta.to(like.dtype) if isinstance(self._theta, Tensor) else self._theta
        return torch.exp(-0.5 * (distance / theta).square()) * (distance.abs() <= self._radius)

    def _blocks(self, length: int, window: Tensor) -> list[tuple[slice, Tensor]]:
        """For each block of an axis: the pixels that reach it, and their weights (block, pixels)."""
        blocks = []
        for start in range(0, length, _BLOCK):
            stop = min(start + _BLOCK, length)
            first, last = max(0, start - self._radius), min(length, stop + self._radius)
            offset = self._radius - start
            blocks.append((slice(first, last), window[first + offset : last + offset, : stop - start].mT))
        return blocks


def _convolve(grid: Tensor, blocks: list[tuple[slice, Tensor]]) -> Tensor:
    """The last axis but one, block by block."""
    return torch.cat([weights @ grid[..., source, :] for source, weights in blocks], dim=-2)
