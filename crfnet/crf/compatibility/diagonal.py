"""A diagonal label compatibility, learned: how strongly each label attracts itself."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crfnet.crf.compatibility.contract import Compatibility, Initial, initial_value
from crfnet.shapes import Values

__all__ = ["DiagonalCompatibility"]


class DiagonalCompatibility(Compatibility):
    """``penalty = d * messages``, that is ``mu = diag(d)``, with a free vector d (l,), at first -1.

    Negative entries reward equal labels; d = -1 gives the marginals of Potts, whose ``(1 - I) m`` is ``-m``
    and a constant per pixel. Krahenbuhl & Koltun's 2013 code (and so pydensecrf) has it as one-dimensional
    ``compat``.

    Args:
        num_classes: number of labels l.
        learnable: whether gradients reach d.
        initial: d (l,) to start from, penalties.

    Raises:
        InputError: ``initial`` has another shape or is not finite.
    """

    def __init__(self, num_classes: int, *, learnable: bool = True, initial: Initial | None = None) -> None:
        super().__init__(num_classes, learnable=learnable)
        d = -torch.ones(num_classes) if initial is None else initial
        self.d = nn.Parameter(initial_value(self, d, (num_classes,)), requires_grad=learnable)

    def forward(self, messages: Values) -> Values:
        """``d * messages``; see `Compatibility.forward`."""
        return self.d.to(messages.dtype).unsqueeze(1) * messages

    def matrix(self) -> Float[Tensor, "l l"]:
        """``diag(d)``."""
        return torch.diag(self.d)
