"""The permutohedral lattice without a hash table: everything is sort, search and weighted gather-sums.

Adams, Baek & Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral Lattice". The derivation
is in ``crf/README.md``; the same lattice as readable loops is `crfnet.crf.reference.permutohedral_matrix`.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crfnet.crf.filters.contract import require_finite
from crfnet.crf.filters.permutohedral.gather_sum import GatherSum
from crfnet.crf.filters.permutohedral.simplices import corner_codes, simplices
from crfnet.crf.filters.true_indices import places_of

__all__ = ["Lattice", "build_lattice", "sum_of"]

_FARTHEST = 1e12  # bandwidths
_MOST = 2**31  # entries of one gather-sum: their indices are int32


@dataclass(frozen=True)
class Lattice:
    """The lattice of one batch of points: ``alpha S^T B_d .. B_0 S`` as gather-sums."""

    splat: GatherSum  #: its last row has no entries: the corner that stands for those that do not exist
    blurs: tuple[GatherSum, ...]  #: one per lattice axis
    slice: GatherSum  #: with the factor alpha = 1 / (1 + 2^-d)

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
        slice=GatherSum(
            corner.view(-1),
            _offsets(points, corner.shape[1], corner),
            torch.cat([part.weights.view(points, -1) for part in slices], dim=1).view(-1),
            corner.shape[1],
        ),
    )


def _one_below_the_other(parts: Sequence[GatherSum], starts: Sequence[int]) -> GatherSum:
    """The rows of all parts; those of part i read from row ``starts[i]`` of the table on."""
    ends = [0, *itertools.accumulate(len(part.indices) for part in parts)]
    offsets = [part.offsets[:-1] + end for part, end in zip(parts, ends, strict=False)]
    return GatherSum(
        torch.cat([part.indices + start for part, start in zip(parts, starts, strict=False)]),
        torch.cat([*offsets, parts[-1].offsets[-1:] + ends[-2]]),
        torch.cat([part.weights for part in parts]),
    )


def _identity(like: GatherSum) -> GatherSum:
    """Passes on each row of the table that ``like`` blurs."""
    rows = len(like.offsets) - 1
    offsets = _offsets(rows, 1, like.indices)
    return GatherSum(offsets[:-1], offsets, torch.ones_like(like.weights[:rows]))


def build_lattice(features: Tensor, silent: int = 0) -> Lattice:
    """The lattice of features (b, d, n): one for the batch, in which images share no corner.

    On a GPU it waits for the device once: for the number of corners, and with it the farthest feature.

    Args:
        features: of all points.
        silent: How many points at the end, of one image alone, have corners and nothing else: they are not
            among the rows that are filtered.

    Raises:
        ValueError: A feature is not finite, or beyond 1e12 bandwidths, where no float64 can place it in a
            simplex; or there are 2^31 corners of simplices, each counted for every point.
    """
    batch, dimensions, pixels = features.shape
    size = dimensions + 1
    _check_room(batch * pixels * size)
    placed, farthest = _placed(features)
    base, rank, weights = simplices(placed.transpose(0, 1).reshape(dimensions, -1))
    codes, steps = corner_codes(base, rank, batch)
    del base, rank  # here and below: what is not needed any more would be most of the memory
    codes = codes.mT.reshape(-1)  # entry p * size + k is corner k of point p
    ordered, order = _sorted(codes)
    del codes
    new = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=new[1:])
    number = new.cumsum(0, dtype=torch.int32).sub_(1)
    first = _first_entries(new, number, farthest)
    corner = torch.empty_like(number).scatter_(0, order, number)
    del new, number
    points = batch * pixels - silent
    weights = weights.to(features.dtype).mT.reshape(-1)
    weights[points * size :] = 0
    alpha = 1 / (1 + 2.0**-dimensions)
    ends = F.pad(first.int(), (0, 2), value=len(ordered))
    codes = ordered.index_select(0, first)
    del ordered, first
    point = order.int().div_(size, rounding_mode="floor").clamp_max_(points - 1)
    splat = GatherSum(point, ends, weights.index_select(0, order))
    del order
    return Lattice(
        splat=splat,
        blurs=_blurs(codes, steps, weights.dtype),
        slice=GatherSum(
            corner[: points * size], _offsets(points, size, corner), weights[: points * size] * alpha, size
        ),
    )


def _waits(device: torch.device) -> bool:
    """Whether to ask for a number means to wait until the device has done all that it was given."""
    return device.type != "cpu"


def _placed(features: Tensor) -> tuple[Tensor, Tensor]:
    """The features in a precision that places them, and how far the farthest of them is from 0.

    Far from 0 a float32 does not say where in its simplex a point is: float64 there, and at once where the
    distance is not known yet. There, what will be refused is brought into range meanwhile.
    """
    low, high = features.aminmax()
    farthest = torch.maximum(-low, high)
    if _waits(features.device):
        return features.double().nan_to_num_(0.0).clamp_(-_FARTHEST, _FARTHEST), farthest
    _check_distance(float(farthest))
    return features.double() if farthest > 2**13 else features, farthest


def _first_entries(new: Tensor, number: Tensor, farthest: Tensor) -> Tensor:
    """Where in the sorted codes each corner comes first: where ``new`` is True, ``number + 1`` times."""
    if not _waits(new.device):
        return new.nonzero().flatten()
    last, distance = torch.stack([number[-1].double(), farthest.double()]).tolist()
    _check_distance(distance)
    return places_of(new, int(last) + 1)


def _check_distance(farthest: float) -> None:
    require_finite(math.isfinite(farthest))
    if farthest > _FARTHEST:
        raise ValueError(f"features reach {farthest:.3g} bandwidths; the lattice takes up to {_FARTHEST:.0e}")


def _check_room(entries: int) -> None:
    if entries >= _MOST:
        raise ValueError(f"features make {entries} entries of one table; the lattice takes fewer than 2^31")


def _sorted(codes: Tensor) -> tuple[Tensor, Tensor]:
    """The codes in ascending order, and where each was; equal ones stay in their order."""
    place = (len(codes) - 1).bit_length()
    if _waits(codes.device) or int(codes.max()) >= 2 ** (63 - place) or int(codes.min()) < 0:
        ordered, order = torch.sort(codes, stable=True)
        return ordered, order
    # On a CPU numpy sorts bare numbers several times faster than torch sorts numbers with their places.
    both = codes << place
    both |= torch.arange(len(codes), device=codes.device)
    both.numpy().sort()
    order = both & (2**place - 1)
    both >>= place
    return both, order


def _offsets(bags: int, entries: int, like: Tensor) -> Tensor:
    return torch.arange(0, bags * entries + 1, entries, dtype=torch.int32, device=like.device)


def _blurs(codes: Tensor, steps: Tensor, dtype: torch.dtype) -> tuple[GatherSum, ...]:
    """``out_v = v + (left + right) / 2`` along each axis; a bag is (v, right, left).

    A neighbor that does not exist is the row after the last, which holds zeros and remains so.
    """
    count = len(codes)
    _check_room(3 * (count + 1))
    # All axes at once: few launches on a GPU. One after another: little memory.
    if _waits(codes.device):
        indices = list(_neighbors(codes, steps))
    else:
        indices = [_neighbors_merged(codes, int(step)) for step in steps]
    weights = torch.full((count + 1, 3), 0.5, dtype=dtype, device=codes.device)
    weights[:, 0] = 1
    offsets = _offsets(count + 1, 3, codes)
    return tuple(GatherSum(one.view(-1), offsets, weights.view(-1), entries=3) for one in indices)


def _neighbors(codes: Tensor, steps: Tensor) -> Tensor:
    """Of every corner itself, its right and its left neighbor along each axis, (axes, corners + 1, 3)."""
    count, axes = len(codes), len(steps)
    wanted = codes + steps.unsqueeze(1)
    place = torch.searchsorted(codes, wanted, out_int32=True).clamp_max_(count - 1)
    here = torch.arange(count + 1, dtype=torch.int32, device=codes.device)
    right = torch.where(codes[place] == wanted, place, count)
    left = torch.full((axes, count + 1), count, dtype=torch.int32, device=codes.device)
    left.scatter_(1, right.long(), here[:-1].expand(axes, -1))
    left[:, count] = count
    return torch.stack([here.expand(axes, -1), F.pad(right, (0, 1), value=count), left], dim=2)


def _neighbors_merged(codes: Tensor, step: int) -> Tensor:
    """The same along one axis, on a CPU; numpy's stable sort merges two sorted runs faster than a search."""
    count = len(codes)
    both = torch.cat([codes, codes + step]).numpy()
    order = both.argsort(kind="stable")
    both = both.take(order)
    # No code comes twice in a run: two equal ones are a corner and, after it, one that has it on its right.
    pair = np.flatnonzero(both[1:] == both[:-1])
    right, corner = order.take(pair), order.take(pair + 1) - count
    found = np.full((count + 1, 3), count, np.int32)
    found[:, 0] = np.arange(count + 1)
    found[corner, 1] = right
    found[right, 2] = corner
    return torch.from_numpy(found)
