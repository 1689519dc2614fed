"""Where points are in the permutohedral lattice: simplices, barycentric weights, and codes of corners.

Adams, Baek & Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", section 3. No
step waits for a device.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["corner_codes", "simplices"]

_CODE_LIMIT = 2**62  # codes of corners and of their neighbors stay below it: no overflow of int64


def simplices(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
    for i in range(dimensions):
        larger = (rest[i] < rest[i + 1 :]).view(torch.int8)
        rank[i] += larger.sum(0, dtype=small)
        rank[i + 1 :] -= larger
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


def corner_codes(base: Tensor, rank: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Codes of the corners of each point (d+1, points), and what a step along each lattice axis adds (d+1,).

    Step i adds 1 to every coordinate of a corner x and takes d+1 off x_i. So the integers c_j = (x_j -
    x_(j+1)) / (d+1), which determine x, change by constants (c_i by -1, c_(i-1) by 1), and a code that is
    linear in them changes by one number; along the last axis by 1. c_0 holds the first feature alone and
    stands for most: with positions first, corners that are near one another in memory are near in the image,
    and caches work.
    """
    size, points = base.shape
    digits = (base[:-1] - base[1:]).long()  # of corner 0
    low, high = digits.aminmax(dim=1, keepdim=True)
    strides = _strides((high - low).flatten(), batch)  # of the image, then of each digit
    between = F.pad(strides[1:], (1, 1))
    steps = between[:-1] - between[1:]
    # From corner k to k+1 the coordinate of rank d-k takes its step.
    step_of_rank = torch.empty_like(rank, dtype=torch.int64)
    step_of_rank.scatter_(0, rank.long(), steps.unsqueeze(1).expand(-1, points))
    codes = torch.empty_like(step_of_rank)
    codes[0] = ((digits - low + 2) * strides[1:].unsqueeze(1)).sum(0)
    codes[0].view(batch, -1).add_(torch.arange(batch, device=base.device).unsqueeze(1) * strides[0])
    for k in range(size - 1):
        torch.add(codes[k], step_of_rank[size - 1 - k], out=codes[k + 1])
    return codes, steps


def _strides(extents: Tensor, batch: int) -> Tensor:
    """Weights of (image, digit 0, .., digit d-1) in a code; the last is 1.

    A digit varies by 1 either way over the corners of a simplex and by 1 more over their neighbors.
    """
    radices = extents + 5
    strides = F.pad(radices.flip(0).cumprod(0).flip(0), (0, 1), value=1)
    # Too far apart for 63 bits: the code becomes a linear hash modulo 2^64, with random strides. Two corners
    # get the same code with probability 2^-62 or so; any two of a million corners, with probability 1e-6.
    generator = torch.Generator("cpu").manual_seed(0)
    chance = torch.randint(-(2**61), 2**61, (len(extents),), generator=generator, device="cpu")
    hashed = F.pad(chance.to(extents.device, non_blocking=True), (0, 1), value=1)
    return torch.where(radices.double().prod() * batch <= _CODE_LIMIT, strides, hashed)
