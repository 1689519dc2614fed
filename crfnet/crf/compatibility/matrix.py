"""A full label compatibility matrix, learned, as CRF-as-RNN has it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crfnet.crf.compatibility.contract import Compatibility, Initial, initial_value

__all__ = ["MatrixCompatibility"]


class MatrixCompatibility(Compatibility):
    """``penalty = mu @ messages`` with a free penalty matrix ``mu`` (l, l), at first Potts ``1 - I``.

    ``mu[l, k]`` is what label l pays for messages of label k. It is not symmetrized and not tied to Potts.
    CRF-as-RNN's PyTorch port *adds* ``C @ messages`` with ``C = +I`` at first (take ``mu = -C``), its Caffe
    code subtracts ``C = -I`` (take ``mu = C``); ``mu = -I`` gives the same marginals as ``1 - I``.

    Zheng et al. 2015, section 4 (compatibility transform).

    Args:
        num_classes: number of labels l.
        learnable: whether gradients reach mu.
        initial: mu (l, l) to start from, penalties.

    Raises:
        InputError: ``initial`` has another shape or is not finite.
    """

    def __init__(self, num_classes: int, *, learnable: bool = True, initial: Initial | None = None) -> None:
        super().__init__(num_classes, learnable=learnable)
        mu = 1 - torch.eye(num_classes) if initial is None else initial
        self.mu = nn.Parameter(initial_value(self, mu, (num_classes, num_classes)), requires_grad=learnable)

    def matrix(self) -> Float[Tensor, "l l"]:
        """The parameter mu."""
        return self.mu
