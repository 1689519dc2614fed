"""A symmetric label compatibility matrix, learned."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crfnet.crf.compatibility.contract import Compatibility, Initial, initial_value

__all__ = ["SymmetricCompatibility"]


class SymmetricCompatibility(Compatibility):
    """``penalty = mu @ messages`` with ``mu = (A + A^T) / 2`` of a free matrix A, at first Potts ``1 - I``.

    With scalar weights and a symmetric kernel the update then belongs to an energy, which a free mu does not
    have. Krahenbuhl & Koltun's 2013 code (and so pydensecrf) symmetrizes a matrix in the same way.

    Args:
        num_classes: number of labels l.
        learnable: whether gradients reach mu.
        initial: A (l, l) to start from, penalties; symmetrized if it is not.

    Raises:
        InputError: ``initial`` has another shape or is not finite.
    """

    def __init__(self, num_classes: int, *, learnable: bool = True, initial: Initial | None = None) -> None:
        super().__init__(num_classes, learnable=learnable)
        free = 1 - torch.eye(num_classes) if initial is None else initial
        self.free = nn.Parameter(
            initial_value(self, free, (num_classes, num_classes)), requires_grad=learnable
        )

    def matrix(self) -> Float[Tensor, "l l"]:
        """``(A + A^T) / 2``."""
        return (self.free + self.free.mT) / 2
