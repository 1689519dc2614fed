"""Sparsemax: the point of the probability simplex nearest to a vector; a softmax with exact zeros."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from crfnet.shapes import Values

__all__ = ["sparsemax"]


def sparsemax(scores: Values) -> Values:
    """``argmin_p |p - z|^2`` over the simplex, for the labels z of every pixel (Martins & Astudillo 2016).

    ``p = max(z - tau, 0)`` with the threshold tau for which p sums to 1. The gradient is exact: with S the
    labels of positive probability, ``dz_l = g_l - mean_S g`` on S and 0 elsewhere. Where a label just
    touches 0 the function has a kink, and the label counts as outside S. Any order of derivative.

    Args:
        scores: finite; a per-pixel constant changes nothing.
    """
    p: Tensor = _Sparsemax.apply(scores)
    return p


class _Sparsemax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, scores: Tensor) -> Tensor:
        scores = scores - scores.amax(1, keepdim=True)  # small numbers where it matters, near the largest
        falling = scores.sort(1, descending=True).values
        over = falling.cumsum(1) - 1  # k tau_k, if the k largest were the support
        count = torch.arange(1, scores.shape[1] + 1, device=scores.device, dtype=scores.dtype).view(-1, 1)
        size = (count * falling > over).sum(1, keepdim=True)
        tau = over.gather(1, size - 1) / size
        p = (scores - tau).clamp_min(0)
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        (p,) = ctx.saved_tensors  # type: ignore[attr-defined]
        support = (p > 0).to(grad.dtype)
        mean = (grad * support).sum(1, keepdim=True) / support.sum(1, keepdim=True)
        grad_scores: Tensor = (grad - mean) * support
        return grad_scores
