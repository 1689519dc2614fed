"""The mean-field update of a table: unary plus messages, and the softmax over labels, in one pass."""

# A kernel's arguments are many, and have the types that its launch gives them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: PLR0917

import torch
import triton
import triton.language as tl
from torch import Tensor

from crfnet.kernels.gpu.launch import OPTIONS, check_floats, power_of_2

__all__ = ["mean_field_update"]

_WIDEST = 1024  # labels that a program holds at once; more are read twice


def mean_field_update(
    unary: Tensor, message: Tensor, scale: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """``softmax over labels of (unary_i + scale_i message_i)``, any number of labels.

    Args:
        unary: (n, l) logits, float32, bfloat16 or float16; computed in float32.
        message: (n, l).
        scale: (n,) one factor per row, such as w / row sum; None for 1.
        out: (n, l) contiguous where the result goes, may be ``message`` or ``unary``; None for fresh memory.

    Returns:
        ``out``; the unary's type.

    Raises:
        ValueError: a tensor's type is not taken, or ``out`` is not contiguous.
    """
    check_floats(unary=unary, message=message)
    unary, message = unary.contiguous(), message.contiguous()
    out = torch.empty_like(unary) if out is None else out
    if not out.is_contiguous() or out.shape != unary.shape:
        raise ValueError(f"out is {tuple(out.shape)} with strides {out.stride()}; it has to be like unary")
    rows, labels = unary.shape
    if not out.numel():
        return out
    block = min(power_of_2(labels), _WIDEST)
    at_once = max(1, 2048 // block) if labels <= _WIDEST else 1
    with torch.cuda.device_of(unary):
        _mean_field_update_kernel[(triton.cdiv(rows, at_once),)](
            out, unary, message, unary if scale is None else scale.contiguous(), rows, labels,
            SCALED=scale is not None, ONE_BLOCK=labels <= block, BLOCK_R=at_once, BLOCK_L=block,
            num_warps=4, **OPTIONS,
        )  # fmt: skip
    return out


@triton.jit
def _logits(unary_ptr, message_ptr, scale, row, label, inside, labels):
    """(rows, labels) of logits in units of log 2; -inf outside."""
    place = row[:, None] * labels + label[None, :]
    unary = tl.load(unary_ptr + place, mask=inside, other=-float("inf")).to(tl.float32)
    message = tl.load(message_ptr + place, mask=inside, other=0).to(tl.float32)
    return (unary + scale[:, None] * message) * 1.4426950408889634


@triton.jit(do_not_specialize=["rows"])
def _mean_field_update_kernel(
    out_ptr, unary_ptr, message_ptr, scale_ptr, rows, labels,
    SCALED: tl.constexpr, ONE_BLOCK: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    scale = tl.full((BLOCK_R,), 1.0, tl.float32)
    if SCALED:
        scale = tl.load(scale_ptr + row, mask=row < rows, other=0).to(tl.float32)
    label = tl.arange(0, BLOCK_L)
    if ONE_BLOCK:
        inside = (row < rows)[:, None] & (label < labels)[None, :]
        logits = _logits(unary_ptr, message_ptr, scale, row, label, inside, labels)
        logits = tl.where((row < rows)[:, None], logits, 0.0)
        weights = tl.exp2(logits - tl.max(logits, axis=1)[:, None])
        q = weights / tl.sum(weights, axis=1)[:, None]
        tl.store(out_ptr + row[:, None] * labels + label[None, :], q, mask=inside)
    else:
        largest = tl.full((BLOCK_R,), -3e38, tl.float32)  # finite: labels of -inf may come first
        total = tl.zeros((BLOCK_R,), tl.float32)
        for start in range(0, labels, BLOCK_L):
            inside = (row < rows)[:, None] & (start + label < labels)[None, :]
            logits = _logits(unary_ptr, message_ptr, scale, row, start + label, inside, labels)
            larger = tl.maximum(largest, tl.max(logits, axis=1))
            total = total * tl.exp2(largest - larger) + tl.sum(tl.exp2(logits - larger[:, None]), axis=1)
            largest = larger
        for start in range(0, labels, BLOCK_L):
            inside = (row < rows)[:, None] & (start + label < labels)[None, :]
            logits = _logits(unary_ptr, message_ptr, scale, row, start + label, inside, labels)
            q = tl.exp2(logits - largest[:, None]) / total[:, None]
            tl.store(out_ptr + row[:, None] * labels + (start + label)[None, :], q, mask=inside)
