"""EfficientNet-Lite0 to 4: EfficientNet without squeeze-and-excitation, with ReLU6."""

import math

from crfnet.backbones.inverted_residual import InvertedResidualNetwork, Stage, make_divisible
from crfnet.errors import InputError

__all__ = ["EfficientNetLite"]

#: Lite0's; of the others the channels and units are multiplied, but not the stem nor the units of either end.
STAGES = (
    Stage(1, 16, 1, 3, 1),
    Stage(2, 24, 6, 3, 2),
    Stage(2, 40, 6, 5, 2),
    Stage(3, 80, 6, 3, 2),
    Stage(3, 112, 6, 5, 1),
    Stage(4, 192, 6, 5, 2),
    Stage(1, 320, 6, 3, 1),
)
STEM = 32
#: Multipliers of channels and units of Lite0 to Lite4.
MULTIPLIERS = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))


class EfficientNetLite(InvertedResidualNetwork):
    """TensorFlow's EfficientNet-Lite up to its 320 channels (times its multiplier); timm's names.

    Its weights see ``(RGB - 127) / 128``.

    Args:
        variant: 0 to 4.
        width: multiplier of all channels, for small runs.
        pretrained: there are no weights of torchvision; give a file (``backbone_weights``).
        output_stride: 8, 16 or 32 pixels from one cell to the next.

    Raises:
        InputError: ``pretrained``.
    """

    mean = (127.0, 127.0, 127.0)
    std = (128.0, 128.0, 128.0)

    def __init__(
        self, variant: int, *, width: float = 1.0, pretrained: bool = False, output_stride: int = 16
    ) -> None:
        if pretrained:
            raise InputError(
                f"backbone efficientnet_lite{variant}: torchvision has no weights of it; use "
                "backbone_weights: FILE, and weights: none"
            )
        channels, units = MULTIPLIERS[variant]
        last = len(STAGES) - 1
        stages = [
            stage._replace(
                channels=make_divisible(stage.channels * channels * width),
                units=stage.units if number in (0, last) else math.ceil(stage.units * units),
            )
            for number, stage in enumerate(STAGES)
        ]
        super().__init__(make_divisible(STEM * width), stages, output_stride=output_stride, eps=1e-3)
