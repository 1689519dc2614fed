"""What a label compatibility promises."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn

from crfnet.errors import InputError
from crfnet.shapes import Values

__all__ = ["Compatibility", "Initial", "initial_value"]

Initial: TypeAlias = Tensor | npt.NDArray[Any] | Sequence[Any]  #: numbers to start from: anything array-like


class Compatibility(nn.Module, ABC):
    """mu(l, l'), what messages of label l' cost label l; ``Class(num_classes, learnable=..., initial=...)``.

    mu is a penalty and is subtracted from the logits: positive entries repel, negative ones attract.

    Args:
        num_classes: number of labels l.
        learnable: whether gradients reach mu.
        initial: what mu starts from; None for Potts, up to a constant per pixel.
    """

    def __init__(self, num_classes: int, *, learnable: bool = True, initial: Initial | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(self, messages: Values) -> Values:
        """The penalty ``mu @ messages``, in nats: what inference subtracts from the logits.

        A per-pixel constant (the same for all labels) may be left out: the softmax does not see it. Without
        gradients the result may take the memory of ``messages``.
        """
        return self.penalty(messages)

    @abstractmethod
    def matrix(self) -> Float[Tensor, "l l"]:
        """The penalties mu (l, l): row l is what label l pays. Differentiable in what is learned."""

    def penalty(self, messages: Values) -> Values:
        """``mu @ messages`` in full: `forward` with the constant per pixel, which energies do see."""
        return self.matrix().to(messages) @ messages


def initial_value(owner: Compatibility, initial: Initial, shape: tuple[int, ...]) -> Tensor:
    """A copy of ``initial`` in the default precision.

    Raises:
        InputError: its shape is another, or a number is not finite.
    """
    value = torch.as_tensor(initial).detach().to(dtype=torch.get_default_dtype(), copy=True)
    name = type(owner).__name__
    if value.shape != shape:
        raise InputError(f"{name}: initial has shape {tuple(value.shape)}, must be {shape}")
    if not value.isfinite().all():
        raise InputError(f"{name}: initial holds NaN or infinity, must be finite")
    return value
