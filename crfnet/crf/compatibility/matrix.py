"""A full label compatibility matrix, learned, as CRF-as-RNN has it."""

import torch
from torch import nn

from crfnet.crf.compatibility.contract import Compatibility
from crfnet.shapes import Values

__all__ = ["MatrixCompatibility"]


class MatrixCompatibility(Compatibility):
    """``penalty = mu @ messages`` with a free penalty matrix ``mu`` (l, l), at first Potts ``1 - I``.

    ``mu[l, k]`` is what label l pays for messages of label k: positive repels, negative attracts. It is not
    symmetrised and not tied to Potts. CRF-as-RNN's PyTorch port *adds* ``C @ messages`` with ``C = +I`` at
    first (take ``mu = -C``), its Caffe code subtracts ``C = -I`` (take ``mu = C``); ``mu = -I`` gives the
    same marginals as ``1 - I``.

    Zheng et al. 2015, section 4 (compatibility transform).
    """

    def __init__(self, num_classes: int, *, learnable: bool = True) -> None:
        super().__init__(num_classes, learnable=learnable)
        self.mu = nn.Parameter(1.0 - torch.eye(num_classes), requires_grad=learnable)

    def forward(self, messages: Values) -> Values:
        """``mu @ messages``; see `Compatibility.forward`."""
        return self.mu.to(messages.dtype) @ messages
