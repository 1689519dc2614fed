"""The recursive filter of the domain transform as scans: a program per image, channel and block of lines.

``y_i = (1 - w_i) x_i + w_i y_(i-1)`` composes: two neighboring steps ``y -> a y + b`` are one of the same
form. So a block of pixels is scanned at once, and its last result is carried into the next block.
"""

# A kernel's arguments are many, and have the types that its launch gives them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: PLR0917

import torch
import triton
import triton.language as tl
from torch import Tensor

from crfnet.kernels.gpu.launch import OPTIONS, check_floats, power_of_2

__all__ = ["recursive_filter", "recursive_filter_gradient"]

_LONGEST = 128  # pixels of a line that a program scans at once
_LINES = {0: 4, 1: 16}  # of a program: rows are read along the scan, columns across it


def recursive_filter(values: Tensor, weights: Tensor) -> Tensor:
    """Filter every channel along rows, then columns, once for each of k pairs of weights.

    Args:
        values: (b, l, h, w) float32, bfloat16 or float16; summed in float32.
        weights: (k, 2, b, h, w), the same types: of iteration k between each pixel and the one to its left,
            then the one above it; in [0, 1]. Those of the first column and the first row do not count.

    Raises:
        ValueError: a type is not taken.
    """
    check_floats(values=values, weights=weights)
    weights = weights.contiguous()
    for pair in weights:
        for axis, links in enumerate(pair):
            for back in (False, True):
                values = _pass(values.contiguous(), links, axis, back)
    return values


def recursive_filter_gradient(values: Tensor, weights: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `recursive_filter` with respect to values and weights.

    What each pass began with is computed again, so that the pass forward keeps nothing but its input.

    Args:
        values: see `recursive_filter`.
        weights: see `recursive_filter`.
        gradient: with respect to the result, like ``values``.

    Raises:
        ValueError: a type is not taken.
    """
    check_floats(values=values, weights=weights, gradient=gradient)
    values, weights, gradient = values.contiguous(), weights.contiguous(), gradient.contiguous()
    passes = [(k, axis, back) for k in range(len(weights)) for axis in (0, 1) for back in (False, True)]
    steps = [values]
    for k, axis, back in passes:
        steps.append(_pass(steps[-1], weights[k, axis], axis, back))
    of_weights = torch.zeros_like(weights, dtype=torch.float32)
    for k, axis, back in reversed(passes):
        after = steps.pop()
        gradient = _pass_gradient(
            steps[-1], after, weights[k, axis], gradient, of_weights[k, axis], axis, back
        )
    return gradient, of_weights.to(weights.dtype)


def _lines(shape: torch.Size, axis: int) -> tuple[int, int, int, int]:
    """How many lines, how long; from one line to the next, and along a line."""
    height, width = shape[-2:]
    return (height, width, width, 1) if axis == 0 else (width, height, 1, width)


def _blocks(lines: int, length: int, axis: int) -> dict[str, int]:
    return {
        "BLOCK_S": min(_LINES[axis], power_of_2(lines)),
        "BLOCK_T": min(_LONGEST, power_of_2(length)),
    }


def _pass(values: Tensor, links: Tensor, axis: int, back: bool) -> Tensor:
    out = torch.empty_like(values)
    lines, length, across, along = _lines(values.shape, axis)
    blocks = _blocks(lines, length, axis)
    if out.numel():
        grid = (values.shape[0] * values.shape[1], triton.cdiv(lines, blocks["BLOCK_S"]))
        with torch.cuda.device_of(values):
            _recursive_fwd_kernel[grid](
                out, values, links, values.shape[1], lines, length, across, along,
                BACK=back, **blocks, num_warps=4, **OPTIONS,
            )  # fmt: skip
    return out


def _pass_gradient(
    before: Tensor, after: Tensor, links: Tensor, gradient: Tensor, of_links: Tensor, axis: int, back: bool
) -> Tensor:
    out = torch.empty_like(gradient)
    lines, length, across, along = _lines(before.shape, axis)
    blocks = _blocks(lines, length, axis)
    if out.numel():
        # All channels in one program: their sum is the gradient of a weight.
        grid = (before.shape[0], triton.cdiv(lines, blocks["BLOCK_S"]))
        with torch.cuda.device_of(before):
            _recursive_bwd_kernel[grid](
                out, of_links, before, after, links, gradient, before.shape[1], lines, length, across, along,
                BACK=back, **blocks, num_warps=4, **OPTIONS,
            )  # fmt: skip
    return out


@triton.jit
def _one_after_the_other(a, b, later_a, later_b):
    return a * later_a, later_a * b + later_b


@triton.jit
def _places(step, line, lines, length, across, along, BACK: tl.constexpr):
    """The pixels of some steps of a pass, and whether they exist."""
    pixel = step
    if BACK:
        pixel = length - 1 - step
    inside = (line < lines)[:, None] & ((step >= 0) & (step < length))[None, :]
    return line[:, None] * across + pixel[None, :] * along, inside


@triton.jit(do_not_specialize=["labels", "lines", "length", "across", "along"])
def _recursive_fwd_kernel(
    out_ptr, x_ptr, w_ptr, labels, lines, length, across, along,
    BACK: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_T: tl.constexpr,
):  # fmt: skip
    plane = tl.program_id(0).to(tl.int64)
    line = tl.program_id(1) * BLOCK_S + tl.arange(0, BLOCK_S)
    pixels = lines.to(tl.int64) * length
    x_ptr += plane * pixels
    out_ptr += plane * pixels
    w_ptr += plane // labels * pixels
    link = 0
    if BACK:
        link = along
    carried = tl.zeros((BLOCK_S,), tl.float32)
    for start in range(0, length, BLOCK_T):
        step = start + tl.arange(0, BLOCK_T)
        place, inside = _places(step, line, lines, length, across, along, BACK)
        w = tl.load(w_ptr + place + link, mask=inside & (step > 0)[None, :], other=0).to(tl.float32)
        x = tl.load(x_ptr + place, mask=inside, other=0).to(tl.float32)
        a, b = tl.associative_scan((w, (1 - w) * x), 1, _one_after_the_other)
        y = b + a * carried[:, None]
        tl.store(out_ptr + place, y, mask=inside)
        carried = tl.sum(tl.where((tl.arange(0, BLOCK_T) == BLOCK_T - 1)[None, :], y, 0.0), axis=1)


@triton.jit(do_not_specialize=["labels", "lines", "length", "across", "along"])
def _recursive_bwd_kernel(
    grad_x_ptr, grad_w_ptr, x_ptr, y_ptr, w_ptr, grad_ptr, labels, lines, length, across, along,
    BACK: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_T: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(0).to(tl.int64)
    line = tl.program_id(1) * BLOCK_S + tl.arange(0, BLOCK_S)
    pixels = lines.to(tl.int64) * length
    w_ptr += image * pixels
    grad_w_ptr += image * pixels
    link, previous = 0, -along
    if BACK:
        link, previous = along, along
    for label in range(labels):
        plane = (image * labels + label) * pixels
        carried = tl.zeros((BLOCK_S,), tl.float32)
        for start in range(0, length, BLOCK_T):  # the last step first
            step = length - 1 - start - tl.arange(0, BLOCK_T)
            place, inside = _places(step, line, lines, length, across, along, BACK)
            has_previous = inside & (step > 0)[None, :]
            w = tl.load(w_ptr + place + link, mask=has_previous, other=0).to(tl.float32)
            # The weight of the step after: how much of its gradient comes here. There, at its own pixel.
            later = inside & (step < length - 1)[None, :]
            w_later = tl.load(w_ptr + place + link - previous, mask=later, other=0).to(tl.float32)
            g = tl.load(grad_ptr + plane + place, mask=inside, other=0).to(tl.float32)
            a, b = tl.associative_scan((w_later, g), 1, _one_after_the_other)
            g = b + a * carried[:, None]
            tl.store(grad_x_ptr + plane + place, (1 - w) * g, mask=inside)
            x = tl.load(x_ptr + plane + place, mask=inside, other=0).to(tl.float32)
            y = tl.load(y_ptr + plane + place + previous, mask=has_previous, other=0).to(tl.float32)
            so_far = tl.load(grad_w_ptr + place + link, mask=has_previous, other=0)
            tl.store(grad_w_ptr + place + link, so_far + (y - x) * g, mask=has_previous)
            carried = tl.sum(tl.where((tl.arange(0, BLOCK_T) == BLOCK_T - 1)[None, :], g, 0.0), axis=1)
