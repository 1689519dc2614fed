"""The permutohedral lattice without a hash table: everything is sort, search and weighted gather-sums.

Adams, Baek & Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral Lattice". The derivation
is in ``crf/README.md``; the same lattice as readable loops is `crfnet.crf.reference.permutohedral_matrix`.
"""

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Lattice", "build_lattice"]

_FARTHEST = 1e12  # bandwidths
_CODE_LIMIT = 2**62  # codes of corners and of their neighbours stay below it: no overflow of int64


@dataclass(frozen=True)
class _Gather:
    """``out_r = sum over bag r of weights[k] * table[indices[k]]``; bag r starts at ``offsets[r]``."""

    indices: Tensor  # (k,) int32
    offsets: Tensor  # (r,) int32
    weights: Tensor  # (k,)

    def __call__(self, table: Tensor) -> Tensor:
        return F.embedding_bag(
            self.indices, table, self.offsets, mode="sum", per_sample_weights=self.weights.to(table.dtype)
        )


@dataclass(frozen=True)
class Lattice:
    """The lattice of one batch of points: ``alpha S^T B_d .. B_0 S`` as gather-sums."""

    splat: _Gather
    blurs: tuple[_Gather, ...]  # one per lattice axis
    slice: _Gather  #: with the factor alpha = 1 / (1 + 2^-d)

    @property
    def corners(self) -> int:
        """How many corners of simplices hold a point: rows of the table that is blurred."""
        return len(self.splat.offsets)

    def __call__(self, table: Tensor, transposed: bool) -> Tensor:
        """Filters the rows of ``table`` (points, channels); the transpose blurs in reverse order."""
        table = self.splat(table)
        for blur in reversed(self.blurs) if transposed else self.blurs:
            table = blur(table)
        return self.slice(table)


def build_lattice(features: Tensor) -> Lattice:
    """The lattice of features (b, d, n): one for the batch, in which images share no corner.

    Raises:
        ValueError: A feature is beyond 1e12 bandwidths, where no float64 can place it in a simplex.
    """
    batch, dimensions, _ = features.shape
    size = dimensions + 1
    base, rank, weights = _simplices(_accurate(features).transpose(0, 1).reshape(dimensions, -1))
    weights = weights.to(features.dtype)
    codes, steps = _corner_codes(base, rank, batch)
    ordered, order = torch.sort(codes.mT.reshape(-1))  # entry p * size + k is corner k of point p
    new = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=new[1:])
    corner = torch.empty_like(ordered, dtype=torch.int32)
    corner[order] = new.cumsum(0, dtype=torch.int32) - 1
    first = new.nonzero().flatten()
    weights = weights.mT.reshape(-1)
    alpha = 1 / (1 + 2.0**-dimensions)
    bags = torch.arange(0, len(codes.T) * size, size, dtype=torch.int32, device=features.device)
    corners = ordered[first]
    return Lattice(
        splat=_Gather((order.int() // size), first.int(), weights[order]),
        blurs=tuple(_blur(corners, step, weights.dtype) for step in steps),
        slice=_Gather(corner, bags, weights * alpha),
    )


def _accurate(features: Tensor) -> Tensor:
    """Far from 0 a float32 does not say where in its simplex a point is: float64 there."""
    farthest = float(features.abs().max())
    if farthest > _FARTHEST:
        raise ValueError(f"features reach {farthest:.3g} bandwidths; the lattice takes up to {_FARTHEST:.0e}")
    return features.double() if farthest > 2**13 else features


def _simplices(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which simplex holds each point of (d, points), and where in it the point is.

    Returns:
        base: (d+1, points), the corner of remainder 0 divided by d+1: integers that sum to 0;
        rank: (d+1, points), 0 for the coordinate that is farthest above the base, d for the last;
        weights: (d+1, points), the barycentric weight of corner k.
    """
    dimensions, points = features.shape
    size = dimensions + 1
    elevated = _elevate(features)
    base = elevated.round()
    rest = elevated - base
    small = torch.int8 if size < 60 else torch.int16
    rank = torch.arange(size, device=features.device, dtype=small).unsqueeze(1).repeat(1, points)
    for i in range(size):
        for j in range(i + 1, size):
            later_is_larger = (rest[i] < rest[j]).to(small)
            rank[i] += later_is_larger
            rank[j] -= later_is_larger
    rank += base.sum(0).to(small)  # a base that sums to s > 0 lowers the s coordinates of lowest rest
    raised = (rank < 0).to(small) - (rank > dimensions).to(small)
    rank += raised * size
    base += raised
    rest -= raised
    falling = torch.empty_like(rest).scatter_(0, rank.long(), rest)
    weights = torch.empty_like(rest)
    weights[0] = 1 + falling[-1] - falling[0]
    weights[1:] = (falling[:-1] - falling[1:]).flip(0)
    return base, rank, weights


def _elevate(features: Tensor) -> Tensor:
    """Points of R^d in the hyperplane sum = 0 of R^(d+1), in units of d+1: (d, points) -> (d+1, points).

    Summed by hand: a matrix product may run in reduced precision (TF32), which would misplace the points.
    """
    dimensions, points = features.shape
    elevated = features.new_empty(dimensions + 1, points)
    above = features.new_zeros(points)
    for i in range(dimensions, 0, -1):
        scaled = features[i - 1] * math.sqrt(2 / 3 / (i * (i + 1)))
        elevated[i] = above - scaled * i
        above += scaled
    elevated[0] = above
    return elevated


def _corner_codes(base: Tensor, rank: Tensor, batch: int) -> tuple[Tensor, list[int]]:
    """Codes of the corners of each point (d+1, points), and what a step along each lattice axis adds.

    Step i adds 1 to every coordinate of a corner x and takes d+1 off x_i. So the integers c_j = (x_j -
    x_(j+1)) / (d+1), which determine x, change by constants (c_i by -1, c_(i-1) by 1), and a code that is
    linear in them changes by one number. c_0 holds the first feature alone and stands for most: with
    positions first, corners that are near one another in memory are near in the image, and caches work.
    """
    size, points = base.shape
    digits = (base[:-1] - base[1:]).long()  # of corner 0
    low, high = digits.aminmax(dim=1, keepdim=True)
    strides = _strides((high - low).flatten().tolist(), batch)  # of the image, then of each digit
    steps = [left - right for left, right in itertools.pairwise([0, *strides[1:], 0])]
    stride = torch.tensor(strides, device=base.device).unsqueeze(1)
    # From corner k to k+1 the coordinate of rank d-k takes its step.
    step = torch.tensor(steps, device=base.device).unsqueeze(1).expand(-1, points)
    step_of_rank = torch.empty_like(rank, dtype=torch.int64).scatter_(0, rank.long(), step)
    codes = torch.empty_like(step_of_rank)
    codes[0] = ((digits - low + 2) * stride[1:]).sum(0)
    codes[0].view(batch, -1).add_(torch.arange(batch, device=base.device).unsqueeze(1) * strides[0])
    for k in range(size - 1):
        torch.add(codes[k], step_of_rank[size - 1 - k], out=codes[k + 1])
    return codes, steps


def _strides(extents: list[int], batch: int) -> list[int]:
    """Weights of (image, digit 0, .., digit d-1) in a code; the last is 1.

    A digit varies by 1 either way over the corners of a simplex and by 1 more over their neighbours.
    """
    strides = [1]
    for extent in reversed(extents):
        strides.insert(0, strides[0] * (extent + 5))
    if strides[0] * batch <= _CODE_LIMIT:
        return strides
    # Too far apart for 63 bits: the code becomes a linear hash modulo 2^64, with random strides. Two corners
    # get the same code with probability 2^-62 or so; any two of a million corners, with probability 1e-6.
    generator = torch.Generator().manual_seed(0)
    return [*torch.randint(-(2**61), 2**61, (len(extents),), generator=generator).tolist(), 1]


def _blur(codes: Tensor, step: int, dtype: torch.dtype) -> _Gather:
    """``out_v = v + (left + right) / 2`` over the corners that exist; a bag is (v, right, left)."""
    wanted = codes + step
    if step == 1:  # the codes are sorted and distinct: only the next one can be it
        place = torch.arange(1, len(codes) + 1, device=codes.device).clamp_max_(len(codes) - 1)
    else:
        place = torch.searchsorted(codes, wanted).clamp_max_(len(codes) - 1)
    here = (codes[place] == wanted).nonzero().flatten()
    there = place[here]
    count = torch.ones_like(codes, dtype=torch.int32)
    count[here] += 1
    count[there] += 1
    end = count.cumsum(0)
    start = end - count
    indices = torch.empty(len(codes) + 2 * len(here), dtype=torch.int32, device=codes.device)
    weights = torch.full_like(indices, 0.5, dtype=dtype)
    indices[start] = torch.arange(len(codes), dtype=torch.int32, device=codes.device)
    weights[start] = 1
    indices[start[here] + 1] = there.int()
    indices[end[there] - 1] = here.int()
    return _Gather(indices, start.int(), weights)
