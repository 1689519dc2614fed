"""What every DeepLab is: a backbone and a head, from a normalized image to logits."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import nn

from crfnet.backbones.backbone import Backbone, FreezableBatchNorm, NormalizedImage
from crfnet.shapes import Scores

__all__ = ["Network"]


class Network(FreezableBatchNorm, ABC):
    """A backbone and what stands behind it.

    Attributes:
        backbone: knows its normalization (``mean`` and ``std``).
    """

    backbone: Backbone

    @abstractmethod
    def forward(self, image: NormalizedImage) -> Scores:
        """Logits of a batch of normalized images."""

    @abstractmethod
    def head_parameters(self) -> Iterable[nn.Parameter]:
        """Those of its head; all others count as backbone."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The trainable parameters, each in one group, for DeepLab's learning-rate multipliers.

        ``backbone_weight``, ``backbone_bias``, ``head_weight``, ``head_bias``. The scale of batch
        normalization is a weight and its shift a bias; frozen parameters are in no group.
        """
        head = {id(parameter) for parameter in self.head_parameters()}
        groups: dict[str, list[nn.Parameter]] = {
            f"{part}_{kind}": [] for part in ("backbone", "head") for kind in ("weight", "bias")
        }
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                part = "head" if id(parameter) in head else "backbone"
                kind = "bias" if name.endswith(".bias") else "weight"
                groups[f"{part}_{kind}"].append(parameter)
        return groups
