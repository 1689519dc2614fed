"""Softmax over the labels of a pixel where they lie side by side in memory: (b, n, l)."""

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
    if torch.is_grad_enabled() or not _short(logits):
        return logits.log_softmax(2)
    shifted = logits - logits.amax(2, keepdim=True)
    return shifted.sub_(shifted.exp().sum(2, keepdim=True).log_())


def _short(logits: Tensor) -> bool:
    return logits.shape[2] < _SHORT and logits.device.type == "cpu"
