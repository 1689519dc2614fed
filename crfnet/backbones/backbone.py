"""What every backbone is: a network from a normalised image to a feature map at output stride 8."""

from abc import ABC, abstractmethod
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Backbone", "FeatureMap", "NormalizedImage", "scaled_channels"]

NormalizedImage: TypeAlias = Float[Tensor, "b 3 h w"]  #: RGB minus `Backbone.mean`, divided by `Backbone.std`
FeatureMap: TypeAlias = Float[Tensor, "b c hs ws"]  #: every eighth pixel, starting with the first

RGB: TypeAlias = tuple[float, float, float]
#: Of images in 0..255, for torchvision's weights and most of timm's.
IMAGENET_MEAN: RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD: RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class Backbone(nn.Module, ABC):
    """Features at output stride 8: 321 pixels give 41 cells, cell ``k`` sees the image around pixel ``8 k``.

    Attributes:
        out_channels: channels of the feature map.
        mean: what is subtracted from an RGB image in 0..255 before it comes here.
        std: what the difference is divided by.
    """

    out_channels: int
    mean: RGB = IMAGENET_MEAN
    std: RGB = IMAGENET_STD

    def __init__(self) -> None:
        super().__init__()
        self._batch_norm_frozen = False

    @abstractmethod
    def forward(self, image: NormalizedImage) -> FeatureMap:
        """Features of a batch of normalised images."""

    def freeze_batch_norm(self) -> None:
        """Batch normalisation becomes a fixed scale and shift: statistics and affine parameters stay.

        As DeepLab v2 trained its ResNet-101, where the statistics come from ImageNet. A network that was
        never trained has no statistics worth keeping.
        """
        self._batch_norm_frozen = True
        for layer in self._batch_norms():
            layer.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        """`nn.Module.train`, except that frozen batch normalisation stays in evaluation mode."""
        super().train(mode)
        if self._batch_norm_frozen:
            for layer in self._batch_norms():
                layer.eval()
        return self

    def _batch_norms(self) -> list[nn.Module]:
        return [layer for layer in self.modules() if isinstance(layer, _BatchNorm)]


def scaled_channels(channels: int, width: float) -> int:
    """``channels * width``, rounded to the nearest multiple of 8, at least 8; unchanged at width 1."""
    return channels if width == 1 else max(8, 8 * round(channels * width / 8))
