"""What every backbone is: from a normalized image to feature maps, the last at its output stride."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = [
    "AnyFeatureMap",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Backbone",
    "FeatureMap",
    "FreezableBatchNorm",
    "NormalizedImage",
    "scaled_channels",
]

#: RGB minus `Backbone.mean`, divided by `Backbone.std`; or of other channels, where the network is adapted.
NormalizedImage: TypeAlias = Float[Tensor, "b _ h w"]
FeatureMap: TypeAlias = Float[Tensor, "b c hs ws"]  #: a cell for every s-th pixel, starting with the first
AnyFeatureMap: TypeAlias = Float[Tensor, "b _ _ _"]  #: `FeatureMap` beside others of other sizes

RGB: TypeAlias = tuple[float, float, float]
#: Of images in 0..255, for torchvision's weights and most of timm's.
IMAGENET_MEAN: RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD: RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class FreezableBatchNorm(nn.Module):
    """A module whose batch normalization, wherever it is inside, can be fixed."""

    def __init__(self) -> None:
        super().__init__()
        self._batch_norm_frozen = False

    def freeze_batch_norm(self) -> None:
        """Batch normalization becomes a fixed scale and shift: statistics and affine parameters stay.

        As DeepLab v2 trained its ResNet-101, where the statistics come from ImageNet, and as the second stage
        of v3, where they come from the first. A network that was never trained has no statistics worth
        keeping.
        """
        self._batch_norm_frozen = True
        for layer in self._batch_norms():
            layer.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "FreezableBatchNorm":
        """`nn.Module.train`, except that frozen batch normalization stays in evaluation mode."""
        super().train(mode)
        if self._batch_norm_frozen:
            for layer in self._batch_norms():
                layer.eval()
        return self

    def _batch_norms(self) -> list[nn.Module]:
        return [layer for layer in self.modules() if isinstance(layer, _BatchNorm)]


class Backbone(FreezableBatchNorm, ABC):
    """Features at an output stride s: cell ``k`` sees the image around pixel ``s k``; 321 give 41 at 8.

    Attributes:
        out_channels: channels of the last feature map.
        low_channels: channels of the low-level features that `levels` gives, by their names.
        mean: what is subtracted from an RGB image in 0..255 before it comes here.
        std: what the difference is divided by.
    """

    out_channels: int
    low_channels: Mapping[str, int] = {}
    mean: RGB = IMAGENET_MEAN
    std: RGB = IMAGENET_STD

    @abstractmethod
    def forward(self, image: NormalizedImage) -> FeatureMap:
        """Features of a batch of normalized images."""

    def levels(self, image: NormalizedImage) -> dict[str, AnyFeatureMap]:
        """All feature maps of interest.

        Returns:
            ``"out"``, as of `forward`, and those that ``low_channels`` names: ``"conv2"`` at stride 4 and
            ``"conv3"`` at stride 8, the last before a stride (DeepLab v3+, section 4.1).
        """
        return {"out": self(image)}


def scaled_channels(channels: int, width: float) -> int:
    """``channels * width``, rounded to the nearest multiple of 8, at least 8; unchanged at width 1."""
    return channels if width == 1 else max(8, 8 * round(channels * width / 8))
