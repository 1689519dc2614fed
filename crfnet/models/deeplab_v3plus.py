"""DeepLab v3+ (Chen et al., ECCV 2018): v3's encoder and a decoder to stride 4."""

from crfnet.backbones.backbone import NormalizedImage, scaled_channels
from crfnet.errors import InputError
from crfnet.models.config import ModelConfig
from crfnet.models.decoder import Decoder
from crfnet.models.deeplab_v3 import encoder_aspp
from crfnet.models.layers import classifier
from crfnet.models.strided import StridedNetwork
from crfnet.shapes import Scores

__all__ = ["DeepLabV3Plus"]

#: The levels of ``decoder_features``, coarse to fine.
LEVELS = {"conv2": ("conv2",), "conv2_conv3": ("conv3", "conv2")}


class DeepLabV3Plus(StridedNetwork):
    """A backbone at output stride 8, 16 or 32, ASPP, decoder, a 1x1 classifier; logits at stride 4.

    Args:
        config: the network.
        num_classes: at least 2.

    Raises:
        InputError: the backbone or its weights are not to be had, not at that output stride, or it has no
            low-level features for the decoder.
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__(config, num_classes)
        levels = LEVELS[config.decoder_features]
        if missing := [level for level in levels if level not in self.backbone.low_channels]:
            raise InputError(
                f"model.backbone is {config.backbone!r}, which has no {' and '.join(missing)} for the decoder"
            )
        self.aspp, channels = encoder_aspp(config, self.backbone.out_channels)
        self.decoder = Decoder(
            channels,
            {level: self.backbone.low_channels[level] for level in levels},
            reduce=scaled_channels(config.decoder_reduce, config.width),
            widths=[scaled_channels(width, config.width) for width in config.decoder_channels],
            kernel=config.decoder_kernel,
            separable=config.separable,
            align_corners=config.align_corners,
        )
        self.classifier = classifier(self.decoder.out_channels, num_classes)
        self.set_modes()

    def forward(self, image: NormalizedImage) -> Scores:
        """Logits at stride 4 of a batch of normalized images."""
        levels = self.backbone.levels(image)
        return self.classifier(self.decoder(self.aspp(levels["out"]), levels))  # type: ignore[no-any-return]
