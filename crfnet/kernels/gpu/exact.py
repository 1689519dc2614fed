"""The Gaussian filter over pairs of tiles, in the manner of flash attention: no kernel value leaves the chip.

One program sums over the tiles near one tile of rows: distances by subtraction, one exponential per pair, and
weights times values on the matrix units, where a float32 is the sum of two TF32 and products keep three of
their four terms ("tf32x3": 22 bits or so; plain TF32 keeps 11). It is split here, by cutting bits off:
Triton's own "tf32x3" also looks after infinities, which takes a quarter of all instructions of the loop.
"""

# A kernel's arguments are many, and have the types that its launch gives them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: PLR0917

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from crfnet.kernels.gpu.launch import OPTIONS, channel_block, check_floats, power_of_2

__all__ = ["TilePairs", "filter_values", "grad_features"]


class TilePairs(NamedTuple):
    """The points of a batch, image by image, in tiles of p, 16, 32, 64 or 128; and which are near which."""

    points: Tensor  #: (tiles, d, p) float32, contiguous: the features of each tile's points
    slots: Tensor  #: (tiles, p) int32, each point's pixel in its image; -1 for a point that only fills up
    starts: Tensor  #: (tiles + 1,) int64
    columns: Tensor  #: (pairs,) int32, near tile r are columns[starts[r] : starts[r + 1]]; symmetric
    schedule: Tensor  #: (tiles,) all tiles in the order in which they are begun: long lists first


def filter_values(values: Tensor, pairs: TilePairs, precision: str = "tf32x3") -> Tensor:
    """``out_i = sum over j in tiles near i's of exp(-|f_i - f_j|^2 / 2) v_j``.

    Args:
        values: (b, l, n) float32, bfloat16 or float16, finite, in any layout; summed in float32.
        pairs: of all images; every pixel has one slot.
        precision: of products, "tf32x3" or "ieee" (plain float32, without matrix units).

    Returns:
        (b, l, n) like values, in their layout.

    Raises:
        ValueError: a type is not taken.
    """
    check_floats(values=values)
    batch, labels, _ = values.shape
    tiles, dimensions, size = pairs.points.shape
    out = torch.empty_like(values)
    if not out.numel():
        return out
    table = _table(values, pairs)
    block = min(table.shape[1], 64)
    with torch.cuda.device_of(values):
        _exact_fwd_kernel[tiles, table.shape[1] // block](
            out, table, *pairs, tiles // batch, labels, *out.stride(),
            D=dimensions, SIZE=size, CHANNELS=table.shape[1], BLOCK_N=min(size, 32), BLOCK_C=block,
            PRECISION=precision,
            num_warps=8 if size > 64 else 4, num_stages=2, **OPTIONS,
        )  # fmt: skip
    return out


def grad_features(grad: Tensor, values: Tensor, pairs: TilePairs, precision: str = "tf32x3") -> Tensor:
    """``-sum over j in tiles near i's of K_ij (f_i - f_j) (g_i . v_j + v_i . g_j)``: (b, d, n) float32.

    Args:
        grad: (b, l, n), the gradient g of `filter_values`' result.
        values: (b, l, n).
        pairs: as they were there.
        precision: as there.

    Raises:
        ValueError: a type is not taken.
    """
    check_floats(grad=grad, values=values)
    batch, _, pixels = values.shape
    tiles, dimensions, size = pairs.points.shape
    out = pairs.points.new_empty(batch, dimensions, pixels)
    if not values.numel():
        return out.zero_()
    left, right = _table(grad, pairs), _table(values, pairs)
    channels = left.shape[1]
    with torch.cuda.device_of(values):
        _exact_bwd_kernel[tiles, triton.cdiv(dimensions, 16)](
            out, left, right, *pairs, tiles // batch, pixels,
            D=dimensions, SIZE=size, CHANNELS=channels, BLOCK_N=min(size, 64), BLOCK_C=min(channels, 32),
            STEPS=min(dimensions, 16), BLOCK_D=min(power_of_2(dimensions), 16), PRECISION=precision,
            num_warps=8 if size > 64 else 4, num_stages=2, **OPTIONS,
        )  # fmt: skip
    return out


def _table(values: Tensor, pairs: TilePairs) -> Tensor:
    """Values in the tiles' order (tiles p, channels): float32, labels side by side and filled up with 0."""
    batch, labels, _ = values.shape
    (tiles, size), block = pairs.slots.shape, channel_block(labels, 16, 64)
    table = values.new_empty(tiles * size, triton.cdiv(labels, block) * block, dtype=torch.float32)
    with torch.cuda.device_of(values):
        _table_kernel[tiles, table.shape[1] // block](
            table, values, pairs.slots, tiles // batch, labels, *values.stride(),
            SIZE=size, CHANNELS=table.shape[1], BLOCK_C=block, num_warps=4, **OPTIONS,
        )  # fmt: skip
    return table


@triton.jit(do_not_specialize=["tiles", "labels"])
def _table_kernel(
    table_ptr, values_ptr, slots_ptr, tiles, labels, stride_b, stride_l, stride_n,
    SIZE: tl.constexpr, CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """One tile of so many in an image."""
    tile = tl.program_id(0).to(tl.int64)
    place = tile * SIZE + tl.arange(0, SIZE)
    channel = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)).to(tl.int64)
    slot = tl.load(slots_ptr + place).to(tl.int64)
    at = tile // tiles * stride_b + slot[:, None] * stride_n + channel[None, :] * stride_l
    inside = (slot >= 0)[:, None] & (channel < labels)[None, :]
    value = tl.load(values_ptr + at, mask=inside, other=0).to(tl.float32)
    tl.store(table_ptr + place[:, None] * CHANNELS + channel[None, :], value)


@triton.jit
def _upper(x, WAY: tl.constexpr):
    """The first 10 of the 23 stored bits: a TF32 number, and what is left is one but for its last bits.

    Three ways of saying the same, which end as the same instruction; `_dot` says what they are for.
    """
    if WAY == 0:
        bits = x.to(tl.int32, bitcast=True) & -8192
    elif WAY == 1:
        bits = x.to(tl.int32, bitcast=True) >> 13 << 13
    else:
        bits = x.to(tl.uint32, bitcast=True) >> 13 << 13
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _dot(a, b, total, PRECISION: tl.constexpr, COMPUTED: tl.constexpr):
    """``total + a b``, smallest terms first. COMPUTED is 1 if ``a`` took much computing, 0 if it was loaded.

    Where matrix units take a value twice, Triton 3.8 computes it again, with all that led to it: distances
    and exponentials. So the upper bits of an ``a`` that took much are said in another way at each use.
    """
    if PRECISION == "tf32x3":
        b_upper = _upper(b, 0)
        b_lower = b - b_upper
        a_lower, a_upper, a_again = a - _upper(a, 0), _upper(a, COMPUTED), _upper(a, 2 * COMPUTED)
        total = tl.dot(a_lower, b_upper, total, input_precision="tf32")
        total = tl.dot(a_upper, b_lower, total, input_precision="tf32")
        total = tl.dot(a_again, b_upper, total, input_precision="tf32")
    else:
        total = tl.dot(a, b, total, input_precision=PRECISION)
    return total


@triton.jit
def _square_step(square, x_ptr, y_ptr):
    difference = tl.load(x_ptr)[:, None] - tl.load(y_ptr)[None, :]
    return square + difference * difference


@triton.jit
def _kernel_values(
    x_ptr, y_ptr, D: tl.constexpr, SIZE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """K between the first ROWS points from ``x_ptr`` on and the first COLUMNS from ``y_ptr`` on."""
    x_ptr += tl.arange(0, ROWS)
    y_ptr += tl.arange(0, COLUMNS)
    square = tl.zeros((ROWS, COLUMNS), tl.float32)
    if D <= 16:
        for k in tl.static_range(D):
            square = _square_step(square, x_ptr + k * SIZE, y_ptr + k * SIZE)
    else:
        for k in range(D):
            square = _square_step(square, x_ptr + k * SIZE, y_ptr + k * SIZE)
    return tl.exp2(square * -0.7213475204444817)  # log2(e) / 2


@triton.jit(do_not_specialize=["tiles", "labels"])
def _exact_fwd_kernel(
    out_ptr, table_ptr, points_ptr, slots_ptr, starts_ptr, columns_ptr, schedule_ptr, tiles, labels,
    stride_b, stride_l, stride_n, D: tl.constexpr, SIZE: tl.constexpr, CHANNELS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One tile of rows, BLOCK_C channels."""
    row = tl.load(schedule_ptr + tl.program_id(0)).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    member = tl.arange(0, BLOCK_N)[:, None] * CHANNELS + channel[None, :]
    x_ptr = points_ptr + row * (D * SIZE)
    total = tl.zeros((SIZE, BLOCK_C), tl.float32)
    for entry in range(tl.load(starts_ptr + row), tl.load(starts_ptr + row + 1)):
        column = tl.load(columns_ptr + entry).to(tl.int64)
        for part in tl.static_range(SIZE // BLOCK_N):
            y_ptr = points_ptr + column * (D * SIZE) + part * BLOCK_N
            kernel = _kernel_values(x_ptr, y_ptr, D, SIZE, SIZE, BLOCK_N)
            value = tl.load(table_ptr + (column * SIZE + part * BLOCK_N) * CHANNELS + member)
            total = _dot(kernel, value, total, PRECISION, 1)
    slot = tl.load(slots_ptr + row * SIZE + tl.arange(0, SIZE)).to(tl.int64)
    at = row // tiles * stride_b + slot[:, None] * stride_n + channel.to(tl.int64)[None, :] * stride_l
    tl.store(out_ptr + at, total, mask=(slot >= 0)[:, None] & (channel < labels)[None, :])


@triton.jit(do_not_specialize=["tiles", "pixels"])
def _exact_bwd_kernel(
    out_ptr, left_ptr, right_ptr, points_ptr, slots_ptr, starts_ptr, columns_ptr, schedule_ptr, tiles, pixels,
    D: tl.constexpr, SIZE: tl.constexpr, CHANNELS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
    STEPS: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One tile of rows, STEPS of the features. The left table holds g, the right one v."""
    row = tl.load(schedule_ptr + tl.program_id(0)).to(tl.int64)
    first = tl.program_id(1) * STEPS
    feature, channel = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_C)
    x_ptr = points_ptr + row * (D * SIZE)
    mine = (row * SIZE + tl.arange(0, SIZE))[:, None] * CHANNELS + channel[None, :]
    member = tl.arange(0, BLOCK_N)[None, :] * CHANNELS + channel[:, None]
    total = tl.zeros((SIZE, BLOCK_D), tl.float32)
    for entry in range(tl.load(starts_ptr + row), tl.load(starts_ptr + row + 1)):
        column = tl.load(columns_ptr + entry).to(tl.int64)
        for part in tl.static_range(SIZE // BLOCK_N):
            theirs = (column * SIZE + part * BLOCK_N) * CHANNELS + member
            weight = tl.zeros((SIZE, BLOCK_N), tl.float32)
            for c in range(0, CHANNELS, BLOCK_C):
                g, v = tl.load(left_ptr + mine + c), tl.load(right_ptr + mine + c)
                weight = _dot(g, tl.load(right_ptr + theirs + c), weight, PRECISION, 0)
                weight = _dot(v, tl.load(left_ptr + theirs + c), weight, PRECISION, 0)
            y_ptr = points_ptr + column * (D * SIZE) + part * BLOCK_N
            weight *= _kernel_values(x_ptr, y_ptr, D, SIZE, SIZE, BLOCK_N)
            for k in tl.static_range(STEPS):
                this = tl.minimum(first + k, D - 1) * SIZE  # those beyond the last are not stored
                x = tl.load(x_ptr + this + tl.arange(0, SIZE))
                y = tl.load(y_ptr + this + tl.arange(0, BLOCK_N))
                pull = tl.sum(weight * (y[None, :] - x[:, None]), axis=1)
                total += tl.where(feature[None, :] == k, pull[:, None], 0.0)
    slot = tl.load(slots_ptr + row * SIZE + tl.arange(0, SIZE)).to(tl.int64)
    dimension = first + feature
    at = (row // tiles * D + dimension)[None, :] * pixels + slot[:, None]
    known = (dimension < D) & (feature < STEPS)
    tl.store(out_ptr + at, total, mask=(slot >= 0)[:, None] & known[None, :])
