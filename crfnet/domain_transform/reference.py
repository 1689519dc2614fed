"""The domain transform in plain torch, a pixel after another: what its kernels are compared with."""

import torch
from torch import Tensor

from crfnet.shapes import Logits, NeighborWeights

__all__ = ["recursive_filter"]


def recursive_filter(values: Logits, weights: NeighborWeights) -> Logits:
    """Filter along rows, then columns, once for each of k pairs of weights; every gradient by autograd.

    ``y_i = (1 - w_i) x_i + w_i y_(i-1)`` (Gastal & Oliveira 2011, eq. 21; Chen et al. 2016, eq. 1), then back
    with the same weight between the same neighbors.

    Args:
        values: any channels.
        weights: in [0, 1]; those of the first column and the first row do not count.
    """
    for across, down in weights.unbind(0):
        values = _sweep(values, across.unsqueeze(1))
        values = _sweep(values.mT, down.unsqueeze(1).mT).mT
    return values


def _sweep(values: Tensor, weights: Tensor) -> Tensor:
    x, w = values.unbind(-1), weights.unbind(-1)
    forth = [x[0]]
    for i in range(1, len(x)):
        forth.append((1 - w[i]) * x[i] + w[i] * forth[-1])
    back = [forth[-1]]
    for i in range(len(x) - 2, -1, -1):
        back.append((1 - w[i + 1]) * forth[i] + w[i + 1] * back[-1])
    return torch.stack(back[::-1], dim=-1)
