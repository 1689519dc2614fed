"""DeepLab v3 (Chen et al. 2017): atrous blocks in cascade, or ASPP with image-level features."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from crfnet.backbones import BackboneConfig
from crfnet.backbones.backbone import NormalizedImage, scaled_channels
from crfnet.models.aspp_v3 import ASPP, rates_at
from crfnet.models.layers import classifier, convolution
from crfnet.models.network import CommonConfig
from crfnet.models.strided import StridedConfig, StridedNetwork
from crfnet.shapes import StridedLogits

__all__ = ["DeepLabV3", "DeepLabV3Config", "encoder_aspp"]

#: Blocks behind block4, by the name of the last one in cascade (section 3.2).
EXTRA_BLOCKS = {"none": 0, "block4": 0, "block5": 1, "block6": 2, "block7": 3}


@dataclass(frozen=True)
class DeepLabV3Config(StridedConfig):
    """DeepLab v3.

    Attributes:
        output_stride: pixels from one cell of the last features to the next.
        eval_output_stride: the same in evaluation mode, with the same weights; null for output_stride.
        multi_grid: unit rates of the three 3x3 convolutions of block4, and of each block behind it, times
            the block's own rate ([1, 2, 4] as published). Null leaves the rates that compute the strided
            network densely. For resnet50 and resnet101.
        rates: dilations of ASPP's 3x3 convolutions at output stride 16; twice as large at 8, half at 32. None
            ([]) in TensorFlow's mobile networks: ASPP is a 1x1 convolution and the image-level branch.
        image_pooling: ASPP's image-level branch.
        separable: the 3x3 convolutions of ASPP are depthwise separable.
        dropout: probability after the projection of ASPP, in [0, 1): 0.1 in DeepLab's release, 0.5 in
            torchvision.
        batch_norm_momentum: share of a batch in the running statistics, 0.0003 as published (decay 0.9997).
        cascade: the last of the blocks in cascade, with the classifier directly on it; none for ASPP.
        extra_convolution: a 3x3 convolution between ASPP and classifier, which torchvision has.
    """

    cascade: Literal["none", "block4", "block5", "block6", "block7"] = "none"
    extra_convolution: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        plain = self.rates == DeepLabV3Config.rates and self.image_pooling
        plain &= not self.separable and not self.extra_convolution
        allowed = "none with the fields of ASPP changed, which a cascade has not"
        self._require("cascade", self.cascade == "none" or plain, allowed)

    def build(self, common: CommonConfig, num_classes: int) -> "DeepLabV3":
        """The network."""
        return DeepLabV3(self, common, num_classes)

    def backbone_at(self, common: CommonConfig, output_stride: int) -> BackboneConfig:
        """The backbone for that output stride, with the blocks of the cascade."""
        extra = EXTRA_BLOCKS[self.cascade]
        return common.backbone_at(output_stride, multi_grid=self.multi_grid, extra_blocks=extra)


class DeepLabV3(StridedNetwork):
    """A backbone, ASPP or further blocks, a 1x1 classifier; logits at output stride 8, 16 or 32.

    Section 3.3 and Fig. 5 (ASPP), section 3.2 and Fig. 3 (cascade: the classifier is on the last block).

    Args:
        config: its own part of the configuration.
        common: what all networks are told.
        num_classes: at least 2.

    Raises:
        InputError: the backbone or its weights are not to be had, or not at that output stride.
    """

    def __init__(self, config: DeepLabV3Config, common: CommonConfig, num_classes: int) -> None:
        super().__init__(config, common, num_classes)
        channels = self.backbone.out_channels
        self.aspp: nn.Module = nn.Identity()
        self.extra: nn.Module = nn.Identity()
        if config.cascade == "none":
            self.aspp, channels = encoder_aspp(config, channels, common.width)
        if config.extra_convolution:
            self.extra = convolution(channels, channels, 3, separable=config.separable)
        self.classifier = classifier(channels, num_classes)
        self.set_modes()

    def forward(self, image: NormalizedImage) -> StridedLogits:
        """Logits at the output stride of a batch of normalized images."""
        return self.classifier(self.extra(self.aspp(self.backbone(image))))  # type: ignore[no-any-return]


def encoder_aspp(config: StridedConfig, channels: int, width: float) -> tuple[ASPP, int]:
    """ASPP behind a backbone of that many channels, and the channels of its result: 256 times ``width``."""
    out = scaled_channels(256, width)
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
