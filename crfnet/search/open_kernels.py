"""The two kernels among the open pixels of an image: what they send to one another, at the cost of few.

Both are approximations, made for differences: `crfnet.search.open_pixels` computes what all pixels send once
and exactly, and only what changes afterwards by these.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from crfnet.crf.filters.permutohedral.lattice import Lattice
from crfnet.crf.filters.separable import SeparableGaussian
from crfnet.shapes import Grid

__all__ = ["coarse_gaussian", "in_half", "read_at", "restricted"]

_Table = Float[Tensor, "_ _"]  #: (pixels, labels)
_Factors = Float[Tensor, "m 1"]
_LARGEST_SUM = 2.0**14  # float16 ends at 2^16
_LARGEST_AT_CORNER = 2.0**9  # six blurs may double it each; the 1e-6 of a sum of a million would be too small
_COARSE_FROM = 2.0  #: pixels of bandwidth from which a coarser grid pays


def read_at(lattice: Lattice, points: Int[Tensor, " m"]) -> Lattice:
    """The lattice as it is, read at some of its points only, in their order."""
    slice = lattice.slice
    corners = slice.indices.view(len(slice.offsets) - 1, -1)
    read = replace(
        slice,
        indices=corners.index_select(0, points).flatten(),
        offsets=slice.offsets[: len(points) + 1],
        weights=slice.weights.view(corners.shape).index_select(0, points).flatten(),
    )
    return replace(lattice, slice=read)


def restricted(lattice: Lattice, points: Int[Tensor, " m"]) -> Lattice:
    """From some points to the same ones, through the corners that these have; increasing, m >= 1.

    What would pass through a corner that only other points have is lost: up to a third between far points.
    """
    splat = lattice.splat
    number = splat.indices.new_full((len(lattice.slice.offsets) - 1,), -1)
    number[points] = torch.arange(len(points), dtype=number.dtype, device=number.device)
    sender = number.index_select(0, splat.indices)
    sends = sender >= 0
    before = F.pad(sends.cumsum(0, dtype=torch.int32), (1, 0)).index_select(0, splat.offsets)
    corners = (before[1:] > before[:-1]).nonzero().flatten()
    count = len(corners)
    renumbered = number.new_full((len(before) - 1,), count)
    renumbered[corners] = torch.arange(count, dtype=number.dtype, device=number.device)
    ends = F.pad(before[corners], (0, 2), value=int(before[-1]))
    blurs = []
    for blur in lattice.blurs:
        nearby = blur.indices.view(len(blur.offsets) - 1, -1).index_select(0, corners).flatten()
        entries = len(nearby) // count
        blurs.append(
            replace(
                blur,
                indices=F.pad(renumbered.index_select(0, nearby), (0, entries), value=count),
                offsets=blur.offsets[: count + 2],
                weights=blur.weights[: (count + 1) * entries],
            )
        )
    slice = read_at(lattice, points).slice
    return Lattice(
        splat=replace(splat, indices=sender[sends], offsets=ends, weights=splat.weights[sends]),
        blurs=tuple(blurs),
        slice=replace(slice, indices=renumbered.index_select(0, slice.indices)),
    )


def in_half(lattice: Lattice) -> Callable[[_Table], _Table]:
    """The lattice in float16, for values 0..1: half the bytes to be moved, off by about 1e-3 of a sum.

    A power of two brings what a corner gathers to 512 at most; the points get it back. Where their sums,
    those of a kernel that is not normalized, do not fit into float16, it is the lattice as it is.
    """
    splat, slice = lattice.splat, lattice.slice
    ones = slice.weights.new_ones(len(slice.offsets) - 1, 1)
    if lattice(ones).amax() > _LARGEST_SUM:
        return lattice
    scale = torch.exp2(splat(ones).amax().log2().ceil()) / _LARGEST_AT_CORNER
    half = Lattice(
        splat=replace(splat, weights=(splat.weights / scale).half()),
        blurs=tuple(replace(blur, weights=blur.weights.half()) for blur in lattice.blurs),
        slice=replace(slice, weights=(slice.weights * scale).half()),
    )
    return lambda table: half(table.half()).to(table.dtype)


def coarse_gaussian(
    grid: Grid,
    theta: float,
    pixels: Int[Tensor, " m"],
    like: Lattice,
    send: _Factors | None = None,
    receive: _Factors | None = None,
) -> Callable[[_Table], _Table]:
    """``exp(-|p_i - p_j|^2 / (2 theta^2))`` between some pixels of a grid, by way of a coarser grid.

    Values are spread over the four nearest points of a grid with spacing theta, convolved there and read in
    the same way; each of the two linear interpolations widens the kernel by spacing^2 / 6, so the convolution
    is narrower by that. Within 3 % for white noise, far better for what is smooth. Below a bandwidth of 2
    pixels the grid is that of the pixels, and the kernel exact.

    Args:
        grid: rows and columns.
        theta: bandwidth in pixels, > 0.
        pixels: numbers of pixels in row-major order; values come and go in their order.
        like: any lattice; says how gather-sums are done.
        send: what each pixel's values are multiplied by before, all by 1 without.
        receive: the same after.
    """
    spacing = theta if theta >= _COARSE_FROM else 1.0
    width = theta / spacing
    narrower = math.sqrt(width**2 - 1 / 3) if spacing > 1 else width
    rows, columns = (int((size - 1) // spacing) + 2 for size in grid)
    row, y = _interpolation(torch.div(pixels, grid[1], rounding_mode="floor"), spacing)
    column, x = _interpolation(pixels % grid[1], spacing)
    index = (row.unsqueeze(2) * columns + column.unsqueeze(1)).flatten()
    weight = (y.unsqueeze(2) * x.unsqueeze(1)).view(-1, 4)
    sent = weight if send is None else weight * send
    received = weight if receive is None else weight * receive
    ordered, order = torch.sort(index, stable=True)
    counts = torch.bincount(ordered, minlength=rows * columns)
    splat = replace(
        like.splat,
        indices=(order // 4).int(),
        offsets=F.pad(counts.cumsum(0), (1, 0)).int(),
        weights=sent.flatten().index_select(0, order),
    )
    slice = replace(
        like.slice,
        indices=index.int(),
        offsets=torch.arange(0, 4 * len(pixels) + 1, 4, dtype=torch.int32, device=pixels.device),
        weights=received.flatten() * (width / narrower) ** 2,  # the row sums of the kernel itself
        entries=4,
    )
    gaussian = SeparableGaussian((rows, columns), torch.tensor(narrower, device=pixels.device))

    def apply(table: _Table) -> _Table:
        return slice(gaussian.product(splat(table).T.unsqueeze(0))[0].T)

    return apply


def _interpolation(place: Tensor, spacing: float) -> tuple[Int[Tensor, "m 2"], Float[Tensor, "m 2"]]:
    """The two grid points around each place, and their weights."""
    at = place.double() / spacing
    below = at.floor()
    above = (at - below).float()
    return torch.stack([below, below + 1], 1).long(), torch.stack([1 - above, above], 1)
