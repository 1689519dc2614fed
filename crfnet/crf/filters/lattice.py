"""The permutohedral lattice without a hash table: everything is sort, search and weighted gather-sums.

Adams, Baek & Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral Lattice". The derivation
is in ``crf/README.md``; the same lattice as readable loops is `crfnet.crf.reference.permutohedral_matrix`.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from crfnet import kernels

__all__ = ["Lattice", "build_lattice", "sum_of"]

_FARTHEST = 1e12  # bandwidths
_CODE_LIMIT = 2**62  # codes of corners and of their neighbours stay below it: no overflow of int64


@dataclass(frozen=True)
class _Gather:
    """``out_r = sum over bag r of weights[k] * table[indices[k]]``; bag r is offsets[r] .. offsets[r+1]."""

    indices: Tensor  # (k,) int32
    offsets: Tensor  # (r + 1,) int32
    weights: Tensor  # (k,)
    entries: int | None = None  # of every bag, where that is one number

    def __call__(self, table: Tensor) -> Tensor:
        if kernels.usable(table):
            return self._by_kernel(table)
        return F.embedding_bag(
            self.indices,
            table,
            self.offsets,
            mode="sum",
            per_sample_weights=self.weights.to(table.dtype),
            include_last_offset=True,
        )

    def _by_kernel(self, table: Tensor) -> Tensor:
        from crfnet.kernels.gather import gather_rows, gather_sum  # triton takes a second to import

        if self.entries is None:
            return gather_sum(table, self.indices, self.offsets, self.weights)
        shape = (-1, self.entries)
        return gather_rows(table, self.indices.view(shape), self.weights.view(shape))


@dataclass(frozen=True)
class Lattice:
    """The lattice of one batch of points: ``alpha S^T B_d .. B_0 S`` as gather-sums."""

    splat: _Gather  #: its last row has no entries: the corner that stands for those that do not exist
    blurs: tuple[_Gather, ...]  #: one per lattice axis
    slice: _Gather  #: with the factor alpha = 1 / (1 + 2^-d)

    @property
    def corners(self) -> int:
        """How many corners of simplices hold a point: rows of the table that is blurred, but for the last."""
        return len(self.splat.offsets) - 2

    def __call__(self, table: Tensor, transposed: bool = False) -> Tensor:
        """Filters the rows of ``table`` (points, channels); the transpose blurs in reverse order."""
        table = self.splat(table)
        for blur in reversed(self.blurs) if transposed else self.blurs:
            table = blur(table)
        return self.slice(table)

    def scaled(self, send: Tensor | None, receive: Tensor | None) -> "Lattice":
        """``diag(receive) K diag(send)`` at the cost of K alone: the factors (points,) go into the weights.

        Not to be transposed: the sender's factors belong to its splat.
        """
        splat, slice = self.splat, self.slice
        if send is not None:
            splat = replace(splat, weights=splat.weights * send.index_select(0, splat.indices))
        if receive is not None:
            weights = slice.weights.view(len(receive), -1) * receive.unsqueeze(1)
            slice = replace(slice, weights=weights.view(-1))
        return replace(self, splat=splat, slice=slice)


def sum_of(lattices: Sequence[Lattice]) -> Lattice:
    """The sum of the lattices' matrices as one: points read all their corners, of every lattice, at once.

    Args:
        lattices: of the same points, at least one. Their tables come to lie one after another.
    """
    if len(lattices) == 1:
        return lattices[0]
    starts = [0, *itertools.accumulate(len(one.splat.offsets) - 1 for one in lattices)]
    points = len(lattices[0].slice.offsets) - 1
    slices = [one.slice for one in lattices]
    indices = [(part.indices + start).view(points, -1) for part, start in zip(slices, starts, strict=False)]
    corner = torch.cat(indices, dim=1)
    return Lattice(
        splat=_one_below_the_other([one.splat for one in lattices], [0] * len(lattices)),
        blurs=tuple(
            _one_below_the_other(
                [one.blurs[axis] if axis < len(one.blurs) else _identity(one.blurs[0]) for one in lattices],
                starts,
            )
            for axis in range(max(len(one.blurs) for one in lattices))
        ),
        slice=_Gather(
            corner.view(-1),
            _offsets(points, corner.shape[1], corner),
            torch.cat([part.weights.view(points, -1) for part in slices], dim=1).view(-1),
            corner.shape[1],
        ),
    )


def _one_below_the_other(parts: Sequence[_Gather], starts: Sequence[int]) -> _Gather:
    """The rows of all parts; those of part i read from row ``starts[i]`` of the table on."""
    ends = [0, *itertools.accumulate(len(part.indices) for part in parts)]
    offsets = [part.offsets[:-1] + end for part, end in zip(parts, ends, strict=False)]
    return _Gather(
        torch.cat([part.indices + start for part, start in zip(parts, starts, strict=False)]),
        torch.cat([*offsets, parts[-1].offsets[-1:] + ends[-2]]),
        torch.cat([part.weights for part in parts]),
    )


def _identity(like: _Gather) -> _Gather:
    """Passes on each row of the table that ``like`` blurs."""
    rows = len(like.offsets) - 1
    offsets = _offsets(rows, 1, like.indices)
    return _Gather(offsets[:-1], offsets, torch.ones_like(like.weights[:rows]))


def build_lattice(features: Tensor, silent: int = 0) -> Lattice:
    """The lattice of features (b, d, n): one for the batch, in which images share no corner.

    Args:
        features: of all points.
        silent: How many points at the end, of one image alone, have corners and nothing else: they are not
            among the rows that are filtered.

    Raises:
        ValueError: A feature is beyond 1e12 bandwidths, where no float64 can place it in a simplex.
    """
    batch, dimensions, pixels = features.shape
    size = dimensions + 1
    base, rank, weights = _simplices(_accurate(features).transpose(0, 1).reshape(dimensions, -1))
    codes, steps = _corner_codes(base, rank, batch)
    ordered, order = _sorted(codes.mT.reshape(-1))  # entry p * size + k is corner k of point p
    new = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=new[1:])
    first = new.nonzero().flatten()
    corner = torch.empty_like(ordered, dtype=torch.int32)
    corner.scatter_(0, order, new.cumsum(0, dtype=torch.int32).sub_(1))
    points = batch * pixels - silent
    weights = weights.to(features.dtype).mT.reshape(-1)
    weights[points * size :] = 0
    alpha = 1 / (1 + 2.0**-dimensions)
    ends = F.pad(first.int(), (0, 2), value=len(ordered))
    return Lattice(
        splat=_Gather((order.int() // size).clamp_max_(points - 1), ends, weights[order]),
        blurs=_blurs(ordered[first], steps, weights.dtype),
        slice=_Gather(
            corner[: points * size], _offsets(points, size, corner), weights[: points * size] * alpha, size
        ),
    )


def _sorted(codes: Tensor) -> tuple[Tensor, Tensor]:
    """The codes in ascending order, and where each was."""
    place = (len(codes) - 1).bit_length()
    if codes.device.type != "cpu" or int(codes.max()) >= 2 ** (63 - place) or int(codes.min()) < 0:
        ordered, order = torch.sort(codes)
        return ordered, order
    # On a CPU numpy sorts bare numbers several times faster than torch sorts numbers with their places.
    both = (codes << place) | torch.arange(len(codes))
    both.numpy().sort()
    return both >> place, both & (2**place - 1)


def _offsets(bags: int, entries: int, like: Tensor) -> Tensor:
    return torch.arange(0, bags * entries + 1, entries, dtype=torch.int32, device=like.device)


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


def _blurs(codes: Tensor, steps: list[int], dtype: torch.dtype) -> tuple[_Gather, ...]:
    """``out_v = v + (left + right) / 2`` along each axis; a bag is (v, right, left).

    A neighbour that does not exist is the row after the last, which holds zeros and remains so.
    """
    count = len(codes)
    offsets = _offsets(count + 1, 3, codes)
    weights = torch.tensor([1, 0.5, 0.5], dtype=dtype, device=codes.device).repeat(count + 1)
    here = torch.arange(count + 1, dtype=torch.int32, device=codes.device)
    blurs = []
    for step in steps:
        wanted = codes + step
        if step == 1:  # the codes are sorted and distinct: only the next one can be it
            place = here[1:].clamp_max(count - 1)
        else:
            place = torch.searchsorted(codes, wanted, out_int32=True).clamp_max_(count - 1)
        right = torch.where(codes[place] == wanted, place, count)
        left = torch.full_like(here, count).scatter_(0, right.long(), here[:-1])
        left[count] = count
        indices = torch.stack([here, F.pad(right, (0, 1), value=count), left], dim=1)
        blurs.append(_Gather(indices.view(-1), offsets, weights, entries=3))
    return tuple(blurs)
