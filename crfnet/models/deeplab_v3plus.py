"""DeepLab v3+ (Chen et al., ECCV 2018): v3's encoder and a decoder to stride 4."""

from dataclasses import dataclass
from typing import Literal

from crfnet.backbones.backbone import NormalizedImage, scaled_channels
from crfnet.errors import InputError
from crfnet.models.decoder import Decoder
from crfnet.models.deeplab_v3 import encoder_aspp
from crfnet.models.layers import classifier
from crfnet.models.network import CommonConfig
from crfnet.models.strided import StridedConfig, StridedNetwork
from crfnet.shapes import StridedLogits

__all__ = ["DeepLabV3Plus", "DeepLabV3PlusConfig"]

#: The levels of ``decoder_features``, coarse to fine.
LEVELS = {"conv2": ("conv2",), "conv2_conv3": ("conv3", "conv2")}


@dataclass(frozen=True)
class DeepLabV3PlusConfig(StridedConfig):
    """DeepLab v3+.

    Attributes:
        output_stride: pixels from one cell of the encoder's features to the next.
        eval_output_stride: the same in evaluation mode, with the same weights; null for output_stride.
        multi_grid: unit rates of the three 3x3 convolutions of block4, times the block's own rate ([1, 2, 4]
            as published). Null leaves the rates that compute the strided network densely. For resnet50 and
            resnet101.
        rates: dilations of ASPP's 3x3 convolutions at output stride 16; twice as large at 8, half at 32. None
            ([]) in TensorFlow's mobile networks: ASPP is a 1x1 convolution and the image-level branch.
        image_pooling: ASPP's image-level branch.
        separable: the 3x3 convolutions of ASPP and decoder are depthwise separable.
        dropout: probability after the projection of ASPP, in [0, 1): 0.1 in DeepLab's release.
        batch_norm_momentum: share of a batch in the running statistics, 0.0003 as published (decay 0.9997).
        decoder_features: the low-level features that the decoder takes, of stride 4 (conv2) or of strides 8
            and 4 (conv2_conv3).
        decoder_reduce: channels that a 1x1 convolution reduces low-level features to, >= 1.
        decoder_channels: channels of each convolution behind a concatenation, at least one number >= 1.
        decoder_kernel: their size.
    """

    decoder_features: Literal["conv2", "conv2_conv3"] = "conv2"
    decoder_reduce: int = 48
    decoder_channels: tuple[int, ...] = (256, 256)
    decoder_kernel: Literal[1, 3] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("decoder_reduce", self.decoder_reduce >= 1, ">= 1")
        channels = self.decoder_channels
        self._require("decoder_channels", bool(channels) and min(channels) >= 1, "at least one number >= 1")

    def build(self, common: CommonConfig, num_classes: int) -> "DeepLabV3Plus":
        """The network."""
        return DeepLabV3Plus(self, common, num_classes)


class DeepLabV3Plus(StridedNetwork):
    """A backbone at output stride 8, 16 or 32, ASPP, decoder, a 1x1 classifier; logits at stride 4.

    Args:
        config: its own part of the configuration.
        common: what all networks are told.
        num_classes: at least 2.

    Raises:
        InputError: the backbone or its weights are not to be had, not at that output stride, or it has no
            low-level features for the decoder.
    """

    def __init__(self, config: DeepLabV3PlusConfig, common: CommonConfig, num_classes: int) -> None:
        super().__init__(config, common, num_classes)
        levels = LEVELS[config.decoder_features]
        if missing := [level for level in levels if level not in self.backbone.low_channels]:
            raise InputError(
                f"model.backbone is {common.backbone!r}, which has no {' and '.join(missing)} for the decoder"
            )
        self.aspp, channels = encoder_aspp(config, self.backbone.out_channels, common.width)
        self.decoder = Decoder(
            channels,
            {level: self.backbone.low_channels[level] for level in levels},
            reduce=scaled_channels(config.decoder_reduce, common.width),
            widths=[scaled_channels(width, common.width) for width in config.decoder_channels],
            kernel=config.decoder_kernel,
            separable=config.separable,
            align_corners=common.align_corners,
        )
        self.classifier = classifier(self.decoder.out_channels, num_classes)
        self.set_modes()

    def forward(self, image: NormalizedImage) -> StridedLogits:
        """Logits at stride 4 of a batch of normalized images."""
        levels = self.backbone.levels(image)
        return self.classifier(self.decoder(self.aspp(levels["out"]), levels))  # type: ignore[no-any-return]
