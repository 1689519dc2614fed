"""The spatial Gaussian of a pixel grid: one 1-D convolution per axis, no lattice."""

import math

import torch
from torch import Tensor

from crfnet.crf.filters.contract import KernelOperator
from crfnet.shapes import Grid, Mask, Spacing, Values

__all__ = ["SeparableGaussian"]

# Pixels per matrix product; the band matrix as a whole would be mostly zeros. On a GPU few products count.
_BLOCK, _BLOCK_CUDA = 32, 128


class SeparableGaussian(KernelOperator):
    """``K_ij = exp(-|p_i - p_j|^2 / (2 theta_gamma^2))`` over the pixels p of one grid.

    Each axis is convolved as a band matrix, block by block: on a CPU this is several times faster than a
    convolution with one channel per group. Cost O(N l radius).

    Args:
        grid: Sizes of the axes, slowest first: (rows, columns), or 1 or 3 axes.
        theta_gamma: Bandwidth in pixels (in units of ``spacing``), > 0; a 0-d tensor gets its exact gradient
            (at a fixed radius).
        spacing: Distance between neighbors along each axis of ``grid``, for all images or each; None for 1.
        radius_in_sigmas: Where the kernel is cut off. At 5.5 the cut mass is 4e-8 of the whole per axis.
        mask: The pixels that count; None for all.

    Raises:
        ValueError: ``theta_gamma`` or ``radius_in_sigmas`` is not a finite number > 0.
    """

    def __init__(
        self,
        grid: Grid,
        theta_gamma: float | Tensor,
        *,
        spacing: Spacing | None = None,
        radius_in_sigmas: float = 5.5,
        mask: Mask | None = None,
    ) -> None:
        super().__init__(mask)
        device = theta_gamma.device if isinstance(theta_gamma, Tensor) else None
        if spacing is None:
            apart = torch.ones(1, len(grid), device=device, dtype=torch.float64)
        else:
            apart = spacing.view(-1, len(grid)).to(device, torch.float64)
        width = torch.as_tensor(theta_gamma, dtype=torch.float64, device=apart.device).detach()
        bandwidth, *closest = torch.cat([width.view(1), apart.amin(0)]).tolist()  # one wait for a GPU
        for name, value in (("theta_gamma", bandwidth), ("radius_in_sigmas", radius_in_sigmas)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}, must be a finite number > 0")
        self.features_need_grad = (
            isinstance(theta_gamma, Tensor) and theta_gamma.requires_grad and torch.is_grad_enabled()
        )
        self._grid = grid
        self._radii = [
            min(math.ceil(radius_in_sigmas * bandwidth / distance), size)
            for distance, size in zip(closest, grid, strict=True)
        ]
        self._block = _BLOCK if apart.device.type == "cpu" else _BLOCK_CUDA
        self._windows = [  # once, not in every mean-field step
            _window(radius, self._block, apart[:, axis], theta_gamma)
            for axis, radius in enumerate(self._radii)
        ]

    def product(self, values: Values) -> Values:
        """``out_i = sum_j K_ij v_j``; see `KernelOperator`. Keeps the layout; (b, n, l) is fastest."""
        batch, labels, pixels = values.shape
        table = values.mT.contiguous()
        faster = labels  # numbers that lie between neighbors along the axis
        for axis in reversed(range(len(self._grid))):
            rows = table.view(batch, -1, self._grid[axis], faster)
            table = _convolve(rows, self._blocks(axis, values), self._block)
            faster *= self._grid[axis]
        filtered = table.view(batch, pixels, labels).mT
        return filtered.contiguous() if values.is_contiguous() else filtered

    def _blocks(self, axis: int, like: Tensor) -> list[tuple[slice, Tensor]]:
        """For each block of an axis: the pixels that reach it, and their weights (.., block, pixels)."""
        radius, length = self._radii[axis], self._grid[axis]
        window = self._windows[axis].to(like)
        blocks = []
        for start in range(0, length, self._block):
            stop = min(start + self._block, length)
            first, last = max(0, start - radius), min(length, stop + radius)
            offset = radius - start
            weights = window[..., first + offset : last + offset, : stop - start].mT
            blocks.append((slice(first, last), weights))
        return blocks


def _window(radius: int, block: int, spacing: Tensor, theta: float | Tensor) -> Tensor:
    """Weights of the pixels around one block (block + 2 radius) in each of its pixels (block).

    (.., block + 2 radius, block) in float64, with an axis for the images where spacings (b,) differ.
    """
    source = torch.arange(-radius, block + radius, dtype=spacing.dtype, device=spacing.device)
    distance = source.unsqueeze(1) - source[radius : radius + block]
    apart = distance * spacing.view(-1, 1, 1, 1) / theta
    window: Tensor = torch.exp(-0.5 * apart.square()) * (distance.abs() <= radius)
    return window[0, 0] if len(window) == 1 else window


def _convolve(grid: Tensor, blocks: list[tuple[slice, Tensor]], block: int) -> Tensor:
    """The last axis but one, block by block."""
    if not torch.is_grad_enabled() and grid.shape[:-2].numel() == 1:  # as whole matrices, each into its place
        out = torch.empty_like(grid)
        table, rows = grid[0, 0], out[0, 0].split(block)
        for (source, weights), place in zip(blocks, rows, strict=True):
            torch.mm(weights.view(weights.shape[-2:]), table[source], out=place)
        return out
    return torch.cat([weights @ grid[..., source, :] for source, weights in blocks], dim=-2)
