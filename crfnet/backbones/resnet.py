"""ResNet-18, -50 and -101 at output stride 8, 16 or 32; names of the parameters as in torchvision."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.backbones.backbone import AnyFeatureMap, Backbone, FeatureMap, NormalizedImage, scaled_channels
from crfnet.backbones.weights import imagenet_state
from crfnet.config.variants import check_choices

__all__ = ["MultiGrid", "ResNet", "ResNetOptions", "StrideOn", "resnet18", "resnet50", "resnet101"]

StrideOn = Literal["1x1", "3x3"]
MultiGrid = tuple[int, int, int]

PLANES = (64, 128, 256, 512)  #: channels of the 3x3 convolutions of the four stages


@dataclass(frozen=True)
class ResNetOptions:
    """Which of the published ResNets.

    Attributes:
        stride_on: the convolution that carries a stride, 3x3 as in torchvision or 1x1 as in the MSRA networks
            of DeepLab v2's release.
        ceil_mode: the max-pool rounds sizes up, as in Caffe, not down as in torchvision; they differ where
            the image's size is a multiple of 4.
        dilate_first_unit: the convolution that a dilation saves from its stride is dilated as the rest of its
            stage is, as in jfzhang95/pytorch-deeplab-xception; else it keeps the dilation from before, as in
            torchvision, and the features are those of the strided network. A 1x1 convolution has no dilation,
            so with stride_on 1x1 all 3x3 ones of a stage are dilated either way.
    """

    stride_on: StrideOn = "3x3"
    ceil_mode: bool = True
    dilate_first_unit: bool = False

    def __post_init__(self) -> None:
        check_choices(self, "")


class _Geometry(NamedTuple):
    """Of a stage: its stride, the dilation before its own stride would have come, and the one after it."""

    stride: int
    before: int
    dilation: int


def stage_geometry(stages: int, output_stride: int) -> list[_Geometry]:
    """Strides and dilations of that many stages: once the output stride is reached, dilation replaces stride.

    Every stage but the first has stride 2, behind a stem of stride 4 (DeepLab v3, section 3).
    """
    geometry, reached, dilation = [_Geometry(1, 1, 1)], 4, 1
    for _ in range(1, stages):
        if reached < output_stride:
            reached *= 2
            geometry.append(_Geometry(2, dilation, dilation))
        else:
            geometry.append(_Geometry(1, dilation, 2 * dilation))
            dilation *= 2
    return geometry


class ResNet(Backbone):
    """He et al. 2016, with dilation for the strides beyond the output stride (DeepLab v2, section 3.1).

    Without multi-grid the features at every second, fourth, ... cell are those of the strided network: a
    layer that carried a stride keeps the dilation from before it, and what follows is dilated.

    Args:
        block: the residual block.
        depths: blocks per stage.
        width: multiplier of the channels, for small runs.
        options: which of the published ones; basic blocks have no 1x1 convolution to carry a stride.
        output_stride: 8, 16 or 32 pixels from one cell to the next.
        multi_grid: unit rates of the units of stage 4 and later, which are multiplied by the stage's dilation
            (DeepLab v3, section 3.2.1: unit rates 1, 2, 4 and output stride 16 give the rates 2, 4, 8). One
            for each unit of stage 4.
        extra_blocks: repetitions of stage 4 behind it, ``layer5`` to ``layer7``, each with dilation for a
            stride of 2 (block5 to block7 of DeepLab v3, section 3.2). They start at random.

    Raises:
        ValueError: ``multi_grid`` has not one rate for each unit of stage 4.
    """

    def __init__(
        self,
        block: "type[BasicBlock] | type[Bottleneck]",
        depths: Sequence[int],
        *,
        width: float = 1.0,
        options: ResNetOptions | None = None,
        output_stride: int = 8,
        multi_grid: MultiGrid | None = None,
        extra_blocks: int = 0,
    ) -> None:
        super().__init__()
        options = options or ResNetOptions()
        if multi_grid is not None and depths[3] != len(multi_grid):
            raise ValueError(f"multi_grid: {len(multi_grid)} unit rates, but stage 4 has {depths[3]} units")
        channels = scaled_channels(64, width)
        self.conv1 = nn.Conv2d(3, channels, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=options.ceil_mode)
        depths = [*depths, *[depths[-1]] * extra_blocks]
        self.stages = [f"layer{number}" for number in range(1, len(depths) + 1)]
        low_channels = []
        for number, (stride, before, dilation) in enumerate(stage_geometry(len(depths), output_stride)):
            planes = scaled_channels(PLANES[min(number, 3)], width)
            first = dilation if options.dilate_first_unit else before
            rates = [(first, dilation)] + [(dilation, dilation)] * (depths[number] - 1)
            if multi_grid is not None and number >= 3:
                rates = [(dilation * unit, dilation * unit) for unit in multi_grid]
            units: list[nn.Module] = []
            for pair in rates:
                units.append(block(channels, planes, 1 if units else stride, *pair, options.stride_on))
                channels = planes * block.expansion
            self.add_module(self.stages[number], nn.Sequential(*units))
            low_channels.append(channels)
        self.out_channels = channels
        self.low_channels = {"conv2": low_channels[0], "conv3": low_channels[1]}
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: NormalizedImage) -> FeatureMap:
        """The output of the last residual block."""
        return self.levels(image)["out"]

    def levels(self, image: NormalizedImage) -> dict[str, AnyFeatureMap]:
        """The outputs of stage 1 (``conv2``, stride 4), 2 (``conv3``, stride 8) and the last (``out``)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(image))))
        outputs = []
        for stage in self.stages:
            x = getattr(self, stage)(x)
            outputs.append(x)
        return {"conv2": outputs[0], "conv3": outputs[1], "out": x}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the first carries the stride."""

    expansion = 1

    def __init__(
        self, channels: int, planes: int, stride: int, before: int, dilation: int, stride_on: StrideOn
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(channels, planes, stride, before)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv3x3(planes, planes, 1, dilation)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(channels, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Residual plus shortcut, rectified."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; ``stride_on`` names the one that carries the stride."""

    expansion = 4

    def __init__(
        self, channels: int, planes: int, stride: int, before: int, dilation: int, stride_on: StrideOn
    ) -> None:
        super().__init__()
        stride1, stride3, dilation3 = {"1x1": (stride, 1, dilation), "3x3": (1, stride, before)}[stride_on]
        self.conv1 = nn.Conv2d(channels, planes, 1, stride1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv3x3(planes, planes, stride3, dilation3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.downsample = _shortcut(channels, planes * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Residual plus shortcut, rectified."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


def _conv3x3(channels: int, out: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, stride, padding=dilation, dilation=dilation, bias=False)


def _shortcut(channels: int, out: int, stride: int) -> nn.Sequential | None:
    """A projection where the shape changes, else the identity."""
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


def resnet18(*, width: float = 1.0, pretrained: bool = False, **geometry: Any) -> ResNet:
    """ResNet-18; ``pretrained`` starts from torchvision's ImageNet weights and needs width 1."""
    return _with_weights(ResNet(BasicBlock, (2, 2, 2, 2), width=width, **geometry), "resnet18", pretrained)


def resnet50(*, width: float = 1.0, pretrained: bool = False, **geometry: Any) -> ResNet:
    """ResNet-50; ``pretrained`` starts from torchvision's ImageNet weights and needs width 1."""
    return _with_weights(ResNet(Bottleneck, (3, 4, 6, 3), width=width, **geometry), "resnet50", pretrained)


def resnet101(*, width: float = 1.0, pretrained: bool = False, **geometry: Any) -> ResNet:
    """ResNet-101; ``pretrained`` starts from torchvision's ImageNet weights and needs width 1."""
    return _with_weights(ResNet(Bottleneck, (3, 4, 23, 3), width=width, **geometry), "resnet101", pretrained)


def _with_weights(network: ResNet, name: str, pretrained: bool) -> ResNet:
    if pretrained:
        state = {key: value for key, value in imagenet_state(name).items() if not key.startswith("fc.")}
        repeated = tuple(f"{stage}." for stage in network.stages[4:])
        rest = {key: value for key, value in network.state_dict().items() if key.startswith(repeated)}
        network.load_state_dict(state | rest)
    return network
