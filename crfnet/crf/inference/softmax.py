"""Softmax over the labels of a pixel, (b, n, l), in whichever order they lie in memory."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["log_softmax", "softmax"]

_Table = Float[Tensor, "b n l"]

# On a CPU torch takes rows shorter than 16 one number at a time, and short rows not much faster: the steps
# below take a third to three quarters of its time.
_SHORT = 64
_PART = 1 << 12  # pixels at a time where no whole table is to be made
_SMALLEST = 1e-20  # sums above it lose no digit of any marginal above 1e-18


def softmax(logits: _Table, out: _Table | None = None) -> _Table:
    """``exp(x) / sum exp(x)`` over the last axis; in the memory of ``out``, if given, without gradient."""
    if _planar(logits):
        x = logits.mT
        return (x.softmax(1) if out is None else torch.softmax(x, 1, out=out.mT)).mT
    if out is None:
        return logits.softmax(2)
    if not _short(logits):
        return torch.softmax(logits, 2, out=out)
    total = torch.exp(logits, out=out).sum(2, keepdim=True)
    low, high = total.aminmax()
    if not (low > _SMALLEST and high < math.inf):  # far from 0: the largest of each row has to come off
        torch.sub(logits, logits.amax(2, keepdim=True), out=out)
        total = out.exp_().sum(2, keepdim=True)
    return out.div_(total)


def log_softmax(logits: _Table, out: _Table | None = None) -> _Table:
    """``x - log sum exp(x)`` over the last axis; in the memory of ``out``, which may be ``logits`` itself."""
    if out is not None:
        size = _PART if _short(logits) else logits.shape[1]
        for part, place in zip(logits.split(size, 1), out.split(size, 1), strict=True):
            place.copy_(log_softmax(part))
        return out
    if _planar(logits):
        return logits.mT.log_softmax(1).mT
    if torch.is_grad_enabled() or not _short(logits):
        return logits.log_softmax(2)
    shifted = logits - logits.amax(2, keepdim=True)
    return shifted.sub_(shifted.exp().sum(2, keepdim=True).log_())


def _planar(logits: Tensor) -> bool:
    """The pixels of a label lie side by side instead, and torch takes them eight at a time."""
    return logits.device.type == "cpu" and logits.mT.is_contiguous()


def _short(logits: Tensor) -> bool:
    return logits.shape[2] < _SHORT and logits.device.type == "cpu"
