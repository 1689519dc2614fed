"""Potts: two different labels cost 1, equal labels nothing."""

import torch
from jaxtyping import Float
from torch import Tensor

from crfnet.crf.compatibility.contract import Compatibility, Initial
from crfnet.errors import InputError
from crfnet.shapes import Values

__all__ = ["PottsCompatibility"]


class PottsCompatibility(Compatibility):
    """``penalty = -messages``: the Potts penalty ``mu = 1 - I`` up to a constant per pixel.

    ``(1 - I) m = sum_l' m_l' - m``, and the sum is the same for every label of a pixel, so the softmax does
    not see it. Nothing to learn and nothing to set: how much unequal labels cost is the kernel's weight.

    Krahenbuhl & Koltun 2011, section 2.

    Raises:
        InputError: ``initial`` is given.
    """

    def __init__(self, num_classes: int, *, learnable: bool = True, initial: Initial | None = None) -> None:
        super().__init__(num_classes, learnable=learnable)
        if initial is not None:
            raise InputError("PottsCompatibility: initial is given, must be None (Potts is fixed at 1 - I)")

    def forward(self, messages: Values) -> Values:
        """``mu @ messages`` up to a per-pixel constant; see `Compatibility.forward`."""
        return -messages if torch.is_grad_enabled() else messages.neg_()

    def matrix(self) -> Float[Tensor, "l l"]:
        """``1 - I``."""
        return 1 - torch.eye(self.num_classes)
