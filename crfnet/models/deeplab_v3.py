"""DeepLab v3 (Chen et al. 2017): atrous blocks in cascade, or ASPP with image-level features."""

from torch import nn

from crfnet.backbones.backbone import NormalizedImage, scaled_channels
from crfnet.models.aspp_v3 import ASPP, rates_at
from crfnet.models.config import ModelConfig
from crfnet.models.layers import classifier, convolution
from crfnet.models.strided import StridedNetwork
from crfnet.shapes import Scores

__all__ = ["DeepLabV3", "encoder_aspp"]


class DeepLabV3(StridedNetwork):
    """A backbone, ASPP or further blocks, a 1x1 classifier; logits at output stride 8, 16 or 32.

    Section 3.3 and Fig. 5 (ASPP), section 3.2 and Fig. 3 (cascade: the classifier is on the last block).

    Args:
        config: the network.
        num_classes: at least 2.

    Raises:
        InputError: the backbone or its weights are not to be had, or not at that output stride.
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__(config, num_classes)
        channels = self.backbone.out_channels
        self.aspp: nn.Module = nn.Identity()
        self.extra: nn.Module = nn.Identity()
        if config.cascade == "none":
            self.aspp, channels = encoder_aspp(config, channels)
        if config.extra_convolution:
            self.extra = convolution(channels, channels, 3, separable=config.separable)
        self.classifier = classifier(channels, num_classes)
        self.set_modes()

    def forward(self, image: NormalizedImage) -> Scores:
        """Logits at the output stride of a batch of normalized images."""
        return self.classifier(self.extra(self.aspp(self.backbone(image))))  # type: ignore[no-any-return]


def encoder_aspp(config: ModelConfig, channels: int) -> tuple[ASPP, int]:
    """ASPP behind a backbone of that many channels, and the channels of its result: 256 times ``width``."""
    out = scaled_channels(256, config.width)
    rates = rates_at(config.rates, config.output_stride)
    aspp = ASPP(
        channels,
        out,
        rates,
        image_pooling=config.image_pooling,
        separable=config.separable,
        dropout=config.dropout,
    )
    return aspp, out
