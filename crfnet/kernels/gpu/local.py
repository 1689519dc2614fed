"""The Gaussian filter cut off to a window: a program per block of pixels, neighbors read where they are."""

# A kernel's arguments are many, and have the types that its launch gives them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: PLR0917

import torch
import triton
import triton.language as tl
from torch import Tensor

from crfnet.kernels.gpu.launch import OPTIONS, channel_block, check_floats, power_of_2

__all__ = ["filter_values", "grad_features"]


def filter_values(values: Tensor, features: Tensor, radius: int) -> Tensor:
    """``out_i = sum over j in the window around i of exp(-|f_i - f_j|^2 / 2) v_j``.

    Args:
        values: (b, l, *grid) with 1 to 3 axes, float32, bfloat16 or float16; summed in float32.
        features: (b, d, *grid), the same types; differences are float32.
        radius: of the window, pixels along each axis, >= 0.

    Returns:
        (b, l, *grid) like values.

    Raises:
        ValueError: a type is not taken.
    """
    check_floats(values=values, features=features)
    grid = values.shape[2:]
    values, features = values.flatten(2), features.flatten(2).contiguous()
    out = torch.empty_like(values)
    if out.numel():
        block, at_once = channel_block(values.shape[1], 1, 32), 32
        blocks = triton.cdiv(values.shape[2], at_once)
        with torch.cuda.device_of(values):
            _local_fwd_kernel[blocks * len(values), triton.cdiv(values.shape[1], block)](
                out, values, features, blocks, values.shape[1], *_window(grid, radius),
                *values.stride(), *out.stride(),
                D=features.shape[1], BLOCK_N=at_once, BLOCK_C=block, num_warps=4, **OPTIONS,
            )  # fmt: skip
    return out.view(*out.shape[:2], *grid)


def grad_features(grad: Tensor, values: Tensor, features: Tensor, radius: int) -> Tensor:
    """``-sum over j in i's window of K_ij (f_i - f_j) (g_i . v_j + v_i . g_j)``: (b, d, *grid) float32.

    Args:
        grad: (b, l, *grid), the gradient g of `filter_values`' result.
        values: (b, l, *grid).
        features: (b, d, *grid).
        radius: as there.

    Raises:
        ValueError: a type is not taken.
    """
    check_floats(grad=grad, values=values, features=features)
    grid = values.shape[2:]
    grad, values, features = (x.flatten(2).contiguous() for x in (grad, values, features))
    out = torch.empty_like(features, dtype=torch.float32)
    if not values.numel():
        out.zero_()
    else:
        dimensions, at_once = features.shape[1], 32
        blocks = triton.cdiv(values.shape[2], at_once)
        block_d = min(power_of_2(dimensions), 16)
        with torch.cuda.device_of(values):
            _local_bwd_kernel[blocks * len(values), triton.cdiv(dimensions, block_d)](
                out, grad, values, features, blocks, values.shape[1], *_window(grid, radius),
                D=dimensions, BLOCK_N=at_once, BLOCK_C=channel_block(values.shape[1], 1, 16),
                BLOCK_D=block_d, num_warps=4, **OPTIONS,
            )  # fmt: skip
    return out.view(*out.shape[:2], *grid)


def _window(grid: torch.Size, radius: int) -> list[int]:
    """Sizes of three axes, and how far the window goes along each."""
    sizes = [1] * (3 - len(grid)) + list(grid)
    return [*sizes, *(min(radius, size - 1) for size in sizes)]


_SIZES = ["blocks", "labels", "planes", "rows", "columns", "reach_p", "reach_r", "reach_c"]


@triton.jit
def _neighbors(shift, pixel, inside, planes, rows, columns, reach_p, reach_r, reach_c):
    """Where shift number ``shift`` of the window leads from each pixel, and whether that is in the grid."""
    wide = 2 * reach_c + 1
    high = 2 * reach_r + 1
    by_c = shift % wide - reach_c
    by_r = shift // wide % high - reach_r
    by_p = shift // (wide * high) - reach_p
    column = pixel % columns + by_c
    row = pixel // columns % rows + by_r
    plane = pixel // columns // rows + by_p
    inside = inside & (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    return (plane * rows + row) * columns + column, inside & (plane >= 0) & (plane < planes)


@triton.jit
def _kernel_values(features_ptr, here, there, known, pixels, D: tl.constexpr):
    """K between each pixel and its neighbor; 0 where that is not known."""
    square = tl.zeros_like(here).to(tl.float32)
    for k in range(D):
        x = tl.load(features_ptr + k * pixels + here, mask=known, other=0).to(tl.float32)
        y = tl.load(features_ptr + k * pixels + there, mask=known, other=0).to(tl.float32)
        square += (x - y) * (x - y)
    return tl.where(known, tl.exp2(square * -0.7213475204444817), 0.0)  # log2(e) / 2


@triton.jit(do_not_specialize=_SIZES)
def _local_fwd_kernel(
    out_ptr, values_ptr, features_ptr, blocks, labels, planes, rows, columns, reach_p, reach_r, reach_c,
    stride_b, stride_l, stride_n, out_stride_b, out_stride_l, out_stride_n,
    D: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    image = (tl.program_id(0) // blocks).to(tl.int64)
    pixel = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    label = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)).to(tl.int64)
    pixels = planes.to(tl.int64) * rows * columns
    features_ptr += image * D * pixels
    values_ptr += image * stride_b
    mine = (label < labels)[:, None]
    total = tl.zeros((BLOCK_C, BLOCK_N), tl.float32)
    for shift in range((2 * reach_p + 1) * (2 * reach_r + 1) * (2 * reach_c + 1)):
        there, known = _neighbors(
            shift, pixel, pixel < pixels, planes, rows, columns, reach_p, reach_r, reach_c
        )
        kernel = _kernel_values(features_ptr, pixel, there, known, pixels, D)
        place = label[:, None] * stride_l + there[None, :] * stride_n
        value = tl.load(values_ptr + place, mask=mine & known[None, :], other=0)
        total += kernel[None, :] * value.to(tl.float32)
    place = image * out_stride_b + label[:, None] * out_stride_l + pixel[None, :] * out_stride_n
    tl.store(out_ptr + place, total, mask=mine & (pixel < pixels)[None, :])


@triton.jit(do_not_specialize=_SIZES)
def _local_bwd_kernel(
    out_ptr, grad_ptr, values_ptr, features_ptr, blocks, labels,
    planes, rows, columns, reach_p, reach_r, reach_c,
    D: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    image = (tl.program_id(0) // blocks).to(tl.int64)
    pixel = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    label = tl.arange(0, BLOCK_C).to(tl.int64)
    feature = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)).to(tl.int64)
    pixels = planes.to(tl.int64) * rows * columns
    features_ptr += image * D * pixels
    out_ptr += image * D * pixels
    grad_ptr += image * labels * pixels
    values_ptr += image * labels * pixels
    inside = pixel < pixels
    mine = (feature < D)[:, None] & inside[None, :]
    x = tl.load(features_ptr + feature[:, None] * pixels + pixel[None, :], mask=mine, other=0).to(tl.float32)
    total = tl.zeros((BLOCK_D, BLOCK_N), tl.float32)
    for shift in range((2 * reach_p + 1) * (2 * reach_r + 1) * (2 * reach_c + 1)):
        there, known = _neighbors(shift, pixel, inside, planes, rows, columns, reach_p, reach_r, reach_c)
        product = tl.zeros((BLOCK_N,), tl.float32)
        for c in range(0, labels, BLOCK_C):
            read = (c + label < labels)[:, None] & known[None, :]
            here = (c + label)[:, None] * pixels + pixel[None, :]
            other = (c + label)[:, None] * pixels + there[None, :]
            g = tl.load(grad_ptr + here, mask=read, other=0).to(tl.float32)
            v = tl.load(values_ptr + here, mask=read, other=0).to(tl.float32)
            g_there = tl.load(grad_ptr + other, mask=read, other=0).to(tl.float32)
            v_there = tl.load(values_ptr + other, mask=read, other=0).to(tl.float32)
            product += tl.sum(g * v_there + v * g_there, axis=0)
        weight = product * _kernel_values(features_ptr, pixel, there, known, pixels, D)
        place = feature[:, None] * pixels + there[None, :]
        y = tl.load(features_ptr + place, mask=(feature < D)[:, None] & known[None, :], other=0)
        total += weight[None, :] * (y.to(tl.float32) - x)
    tl.store(out_ptr + feature[:, None] * pixels + pixel[None, :], total, mask=mine)
