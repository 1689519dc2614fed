"""Networks of inverted residual units: what MobileNetV2 and EfficientNet-Lite share."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from crfnet.backbones.backbone import AnyFeatureMap, Backbone, FeatureMap, NormalizedImage

__all__ = ["InvertedResidualNetwork", "Stage", "make_divisible"]

#: Low-level features by their strides.
LEVELS = {4: "conv2", 8: "conv3"}


class Stage(NamedTuple):
    """Units of the same kind in a row.

    Attributes:
        units: how many.
        channels: of their output.
        expand: times the channels of the input are those between its convolutions; 1 for no expansion.
        kernel: of the depthwise convolutions.
        stride: of the first unit.
    """

    units: int
    channels: int
    expand: int
    kernel: int
    stride: int


class InvertedResidualNetwork(Backbone):
    """A stem of stride 2 and stages of units, 1x1 - depthwise - 1x1, with ReLU6; the names are timm's.

    From the stage whose stride would exceed the output stride on, strides are 1 and convolutions dilated: the
    first unit of the stage by what was reached before it, the others by that times the dropped stride (as in
    TensorFlow's DeepLab, whose ``SAME`` padding this is at sizes of 32 k + 1 pixels; at others cell ``k``
    still lies on pixel ``s k``).

    Args:
        stem: channels of the first convolution.
        stages: see `Stage`.
        output_stride: 8, 16 or 32 pixels from one cell to the next.
        eps: of batch normalization.
    """

    def __init__(self, stem: int, stages: Sequence[Stage], *, output_stride: int, eps: float) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, stem, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem, eps=eps)
        self.act1 = nn.ReLU6(inplace=True)
        self.blocks = nn.ModuleList()
        self.low_channels: dict[str, int] = {}
        self._low: dict[int, str] = {}
        channels, reached, rate = stem, 2, 1
        for number, stage in enumerate(stages):
            level = LEVELS.get(reached)
            if stage.stride > 1 and level is not None and level not in self.low_channels:
                self._low[number - 1], self.low_channels[level] = level, channels  # the last before a stride
            stride, dilation = stage.stride, rate
            if reached * stride > output_stride:
                stride, rate = 1, rate * stride
            reached *= stride
            units = nn.ModuleList()
            for _ in range(stage.units):
                units.append(_Unit(channels, stage, stride=stride, dilation=dilation, eps=eps))
                channels, stride, dilation = stage.channels, 1, rate
            self.blocks.append(units)
        self.out_channels = channels
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: NormalizedImage) -> FeatureMap:
        """The output of the last unit."""
        return self.levels(image)["out"]

    def levels(self, image: NormalizedImage) -> dict[str, AnyFeatureMap]:
        """The outputs of the last units of stride 4 (``conv2``) and 8 (``conv3``), and of all (``out``)."""
        x: Tensor = self.act1(self.bn1(self.conv_stem(image)))
        outputs: dict[str, Tensor] = {}
        for number, units in enumerate(self.blocks):
            for unit in units:  # type: ignore[attr-defined]
                x = unit(x)
            if number in self._low:
                outputs[self._low[number]] = x
        return outputs | {"out": x}


class _Unit(nn.Module):
    """1x1 to more channels, depthwise, 1x1 to the output's; the last is linear. Added to the input if it can.

    Without expansion, the layers are called as in timm's `DepthwiseSeparableConv`, else as in its
    `InvertedResidual`.
    """

    def __init__(self, channels: int, stage: Stage, *, stride: int, dilation: int, eps: float) -> None:
        super().__init__()
        out = stage.channels
        hidden = make_divisible(channels * stage.expand) if stage.expand > 1 else channels
        self.adds_input = stride == 1 and channels == out
        self.expands = stage.expand > 1
        padding = dilation * (stage.kernel // 2)
        depthwise = nn.Conv2d(
            hidden, hidden, stage.kernel, stride, padding, dilation, groups=hidden, bias=False
        )
        if self.expands:
            self.conv_pw = nn.Conv2d(channels, hidden, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(hidden, eps=eps)
            self.conv_dw = depthwise
            self.bn2 = nn.BatchNorm2d(hidden, eps=eps)
            self.conv_pwl = nn.Conv2d(hidden, out, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(out, eps=eps)
        else:
            self.conv_dw = depthwise
            self.bn1 = nn.BatchNorm2d(hidden, eps=eps)
            self.conv_pw = nn.Conv2d(hidden, out, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(out, eps=eps)
        self.act = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Not rectified."""
        if self.expands:
            hidden = self.act(self.bn2(self.conv_dw(self.act(self.bn1(self.conv_pw(x))))))
            residual: Tensor = self.bn3(self.conv_pwl(hidden))
        else:
            residual = self.bn2(self.conv_pw(self.act(self.bn1(self.conv_dw(x)))))
        return x + residual if self.adds_input else residual


def make_divisible(channels: float | int, divisor: int = 8) -> int:
    """Channels rounded to a multiple of ``divisor``, never below 0.9 of them (as in the MobileNets)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
