"""Convolutions along the axes of a grid as products with band matrices, by torch: differentiable, any device.

Block by block: the band matrix as a whole would be mostly zeros. On a CPU this is several times faster than a
convolution with one channel per group.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from crfnet.shapes import Grid, Values

__all__ = ["convolved", "window_of"]

_BLOCK, _BLOCK_CUDA = 32, 128  # pixels per matrix product; on a GPU few products count


def _block_of(device: torch.device) -> int:
    return _BLOCK if device.type == "cpu" else _BLOCK_CUDA


def window_of(radius: int, spacing: Tensor, theta: Tensor) -> Tensor:
    """Weights of the pixels around one block (block + 2 radius) in each of its pixels (block).

    Args:
        radius: how many pixels a pixel reaches.
        spacing: between neighbors, (1 or b,), float64.
        theta: bandwidth ().

    Returns:
        (.., block + 2 radius, block) in float64, with an axis for the images where spacings differ.
    """
    block = _block_of(spacing.device)
    source = torch.arange(-radius, block + radius, dtype=spacing.dtype, device=spacing.device)
    distance = source.unsqueeze(1) - source[radius : radius + block]
    apart = distance * spacing.view(-1, 1, 1, 1) / theta
    window: Tensor = torch.exp(-0.5 * apart.square()) * (distance.abs() <= radius)
    return window[0, 0] if len(window) == 1 else window


def convolved(values: Values, grid: Grid, radii: Sequence[int], windows: Sequence[Tensor]) -> Values:
    """The values convolved along each axis; keeps the layout in memory, (b, n, l) is fastest.

    Args:
        values: of the pixels of ``grid``.
        grid: sizes of the axes, slowest first.
        radii: of each axis.
        windows: of each axis by `window_of`, in the values' precision.
    """
    batch, labels, pixels = values.shape
    table = values.mT.contiguous()
    faster = labels  # numbers that lie between neighbors along the axis
    for axis in reversed(range(len(grid))):
        rows = table.view(batch, -1, grid[axis], faster)
        table = _convolve(rows, _blocks(grid[axis], radii[axis], windows[axis]))
        faster *= grid[axis]
    filtered = table.view(batch, pixels, labels).mT
    return filtered.contiguous() if values.is_contiguous() else filtered


def _blocks(length: int, radius: int, window: Tensor) -> list[tuple[slice, Tensor]]:
    """For each block of an axis: the pixels that reach it, and their weights (.., block, pixels)."""
    blocks, block = [], window.shape[-1]
    for start in range(0, length, block):
        stop = min(start + block, length)
        first, last = max(0, start - radius), min(length, stop + radius)
        offset = radius - start
        weights = window[..., first + offset : last + offset, : stop - start].mT
        blocks.append((slice(first, last), weights))
    return blocks


def _convolve(grid: Tensor, blocks: list[tuple[slice, Tensor]]) -> Tensor:
    """The last axis but one, block by block."""
    if not torch.is_grad_enabled() and grid.shape[:-2].numel() == 1:  # as whole matrices, each into its place
        out = torch.empty_like(grid)
        table, rows = grid[0, 0], out[0, 0].split(blocks[0][1].shape[-2])
        for (source, weights), place in zip(blocks, rows, strict=True):
            torch.mm(weights.view(weights.shape[-2:]), table[source], out=place)
        return out
    return torch.cat([weights @ grid[..., source, :] for source, weights in blocks], dim=-2)
