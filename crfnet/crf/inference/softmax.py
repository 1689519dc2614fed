"""Softmax over the labels of a pixel where they lie side by side in memory: (b, n, l)."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["log_softmax", "softmax"]

_Table = Float[Tensor, "b n l"]

# torch takes rows shorter than this one number at a time on a CPU: three times slower than the steps below.
_SHORT = 16


def softmax(logits: _Table, out: _Table | None = None) -> _Table:
    """``exp(x) / sum exp(x)`` over the last axis; in the memory of ``out``, if given, without gradient."""
    if out is None:
        return logits.softmax(2)
    if not _short(logits):
        return torch.softmax(logits, 2, out=out)
    torch.sub(logits, logits.amax(2, keepdim=True), out=out)
    return out.exp_().div_(out.sum(2, keepdim=True))


def log_softmax(logits: _Table) -> _Table:
    """``x - log sum exp(x)`` over the last axis."""
    if torch.is_grad_enabled() or not _short(logits):
        return logits.log_softmax(2)
    shifted = logits - logits.amax(2, keepdim=True)
    return shifted.sub_(shifted.exp().sum(2, keepdim=True).log_())


def _short(logits: Tensor) -> bool:
    return logits.shape[2] < _SHORT and logits.device.type == "cpu"
