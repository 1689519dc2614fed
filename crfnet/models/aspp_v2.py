"""Atrous spatial pyramid pooling as in DeepLab v2: dilated branches, each to class scores, summed."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from crfnet.backbones.backbone import FeatureMap
from crfnet.shapes import StridedLogits

__all__ = ["SummedBranches", "convolution_branch", "fc_branch"]


class SummedBranches(nn.Module):
    """``scores = sum_r branch_r(features)`` (DeepLab v2, section 4.1.2 and Fig. 7).

    Args:
        branches: each ends with the convolution to the classes, its `classifier`.
    """

    def __init__(self, branches: Sequence[nn.Sequential]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, features: FeatureMap) -> StridedLogits:
        """Class scores at the stride of the features."""
        first, *others = self.branches
        scores = first(features)
        for branch in others:
            scores = scores + branch(features)
        return scores  # type: ignore[no-any-return]

    def classifiers(self) -> list[nn.Conv2d]:
        """The last convolution of every branch, which new classes replace."""
        return [branch[-1] for branch in self.branches]  # type: ignore[index]


def convolution_branch(channels: int, num_classes: int, rate: int) -> nn.Sequential:
    """One 3x3 convolution of dilation ``rate`` straight to the classes: the branch on a ResNet."""
    return nn.Sequential(OrderedDict(fc8=_classifier(channels, num_classes, 3, rate)))


def fc_branch(
    channels: int, fc_channels: int, num_classes: int, rate: int, dropout: float, *, kernel: int = 3
) -> nn.Sequential:
    """fc6 (3x3, dilation ``rate``), fc7 and fc8 (1x1): the branch on VGG-16, with no ReLU after fc8."""
    fc6 = nn.Conv2d(channels, fc_channels, kernel, padding=rate * (kernel - 1) // 2, dilation=rate)
    fc7 = nn.Conv2d(fc_channels, fc_channels, 1)
    for layer in (fc6, fc7):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(
        OrderedDict(
            fc6=fc6,
            relu6=nn.ReLU(inplace=True),
            drop6=nn.Dropout(dropout),
            fc7=fc7,
            relu7=nn.ReLU(inplace=True),
            drop7=nn.Dropout(dropout),
            fc8=_classifier(fc_channels, num_classes, 1, 1),
        )
    )


def _classifier(channels: int, num_classes: int, size: int, rate: int) -> nn.Conv2d:
    """A convolution to class scores that start near 0: weights N(0, 0.01^2), bias 0."""
    layer = nn.Conv2d(channels, num_classes, size, padding=rate * (size // 2), dilation=rate)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
