"""What a label compatibility promises."""

from abc import ABC, abstractmethod

from torch import nn

from crfnet.shapes import Values

__all__ = ["Compatibility"]


class Compatibility(nn.Module, ABC):
    """mu(l, l'), what messages of label l' cost label l; built as ``Class(num_classes, learnable=...)``."""

    def __init__(self, num_classes: int, *, learnable: bool = True) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, messages: Values) -> Values:
        """The penalty ``mu @ messages``, in nats: what inference subtracts from the logits.

        A per-pixel constant (the same for all labels) may be left out: the softmax does not see it.
        """
