"""MobileNetV2 as TensorFlow's DeepLab has it; `crfnet.backbones.mobilenet` has those of PyTorch DeepLabs."""

from dataclasses import dataclass
from typing import Literal

from crfnet.backbones.inverted_residual import InvertedResidualNetwork, Stage, make_divisible
from crfnet.backbones.weights import imagenet_state
from crfnet.backbones.weights_file import load_weights
from crfnet.config.variants import check_choices
from crfnet.errors import require

__all__ = ["MobileNetV2Options", "TensorFlowMobileNetV2", "stage_channels"]

STAGES = (
    Stage(1, 16, 1, 3, 1),
    Stage(2, 24, 6, 3, 2),
    Stage(3, 32, 6, 3, 2),
    Stage(4, 64, 6, 3, 2),
    Stage(3, 96, 6, 3, 1),
    Stage(3, 160, 6, 3, 2),
    Stage(1, 320, 6, 3, 1),
)
STEM = 32


@dataclass(frozen=True)
class MobileNetV2Options:
    """Which MobileNetV2.

    Attributes:
        depth_multiplier: of its channels, in (0, 16]: 0.35, 0.5, 0.75, 1, 1.3 and 1.4 are published. Unlike
            ``width``, it leaves the head as it is.
        divisible_by: what channels are rounded to multiples of: 8, or 1 as in TensorFlow's DeepLab with
            another multiplier than 1.
    """

    depth_multiplier: float = 1.0
    divisible_by: Literal[1, 8] = 8

    def __post_init__(self) -> None:
        check_choices(self, "mobilenet_v2.")
        multiplier = self.depth_multiplier
        require("mobilenet_v2.depth_multiplier", multiplier, 0 < multiplier <= 16, "in (0, 16]")


class TensorFlowMobileNetV2(InvertedResidualNetwork):
    """Sandler et al. 2018 up to its 320 channels, dilated as in TensorFlow's DeepLab; timm's names.

    Args:
        width: multiplier of all channels, for small runs.
        pretrained: start from torchvision's ImageNet weights; needs width and multiplier 1.
        output_stride: 8, 16 or 32 pixels from one cell to the next.
        depth_multiplier: as of `MobileNetV2Options`.
        divisible_by: as of `MobileNetV2Options`.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        pretrained: bool = False,
        output_stride: int = 16,
        depth_multiplier: float = 1.0,
        divisible_by: int = 8,
    ) -> None:
        multiplier = depth_multiplier * width
        stem, *channels = stage_channels(multiplier, divisible_by)
        stages = [stage._replace(channels=c) for stage, c in zip(STAGES, channels, strict=True)]
        # Folded into the weights of TF-Lite's files; torchvision's were trained with this one.
        super().__init__(stem, stages, output_stride=output_stride, eps=1e-5)
        if pretrained:
            load_weights(self, imagenet_state("mobilenet_v2"), "ImageNet weights of mobilenet_v2")


def stage_channels(multiplier: float, divisible_by: int) -> list[int]:
    """Channels of the first convolution and of the output of every stage."""
    channels = (STEM, *(stage.channels for stage in STAGES))
    return [make_divisible(number * multiplier, divisible_by) for number in channels]
