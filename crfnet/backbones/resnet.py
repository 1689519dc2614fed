"""ResNet-18, -50 and -101 at output stride 8; names of the parameters as in torchvision."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.backbones.backbone import Backbone, FeatureMap, NormalizedImage, scaled_channels
from crfnet.backbones.weights import imagenet_state

__all__ = ["ResNet", "resnet18", "resnet50", "resnet101"]

StrideOn = Literal["1x1", "3x3"]

#: Channels, stride, dilation before the stage's stride would have come, dilation after it.
STAGES = ((64, 1, 1, 1), (128, 2, 1, 1), (256, 1, 1, 2), (512, 1, 2, 4))


class ResNet(Backbone):
    """He et al. 2016, with dilation 2 and 4 for the strides of stages 3 and 4 (DeepLab v2, section 3.1).

    At every fourth cell the features are those of the strided network: a layer that carried a stride keeps
    the dilation from before it, and what follows is dilated. The max-pool rounds up, as in Caffe.

    Args:
        block: the residual block.
        depths: blocks per stage.
        width: multiplier of the channels, for small runs.
        stride_on: the convolution that carries a stage's stride: ``"3x3"`` as torchvision and its weights,
            ``"1x1"`` as the MSRA networks that DeepLab v2 was built on. Without effect on basic blocks.
    """

    def __init__(
        self,
        block: "type[BasicBlock] | type[Bottleneck]",
        depths: Sequence[int],
        *,
        width: float = 1.0,
        stride_on: StrideOn = "3x3",
    ) -> None:
        super().__init__()
        channels = scaled_channels(64, width)
        self.conv1 = nn.Conv2d(3, channels, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
        stages = []
        for depth, (planes, stride, before, dilation) in zip(depths, STAGES, strict=True):
            planes = scaled_channels(planes, width)
            first = block(channels, planes, stride, before, dilation, stride_on)
            channels = planes * block.expansion
            rest = [block(channels, planes, 1, dilation, dilation, stride_on) for _ in range(1, depth)]
            stages.append(nn.Sequential(first, *rest))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.out_channels = channels
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: NormalizedImage) -> FeatureMap:
        """The output of the last residual block."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(image))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[no-any-return]


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


def resnet18(*, width: float = 1.0, pretrained: bool = False) -> ResNet:
    """ResNet-18; ``pretrained`` starts from torchvision's ImageNet weights and needs width 1."""
    return _with_weights(ResNet(BasicBlock, (2, 2, 2, 2), width=width), "resnet18", pretrained)


def resnet50(*, width: float = 1.0, pretrained: bool = False) -> ResNet:
    """ResNet-50; ``pretrained`` starts from torchvision's ImageNet weights and needs width 1."""
    return _with_weights(ResNet(Bottleneck, (3, 4, 6, 3), width=width), "resnet50", pretrained)


def resnet101(*, width: float = 1.0, pretrained: bool = False) -> ResNet:
    """ResNet-101; ``pretrained`` starts from torchvision's ImageNet weights and needs width 1."""
    return _with_weights(ResNet(Bottleneck, (3, 4, 23, 3), width=width), "resnet101", pretrained)


def _with_weights(network: ResNet, name: str, pretrained: bool) -> ResNet:
    if pretrained:
        state = imagenet_state(name)
        network.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})
    return network
