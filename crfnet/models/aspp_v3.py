"""Atrous spatial pyramid pooling as in DeepLab v3: branches to features, concatenated and projected."""

from collections.abc import Sequence

import torch
from torch import nn

from crfnet.backbones.backbone import AnyFeatureMap, FeatureMap
from crfnet.models.layers import convolution

__all__ = ["ASPP", "rates_at"]

#: Output stride that the rates of a configuration are meant for.
RATES_STRIDE = 16


def rates_at(rates: Sequence[int], output_stride: int) -> list[int]:
    """The rates that reach as many pixels at ``output_stride`` as ``rates`` at output stride 16.

    Doubled at 8 (DeepLab v3, section 3.3). Halved at 32, of which the papers do not speak; the multiply-adds
    that they publish (v3+, table 3) are those of halved rates.
    """
    return [rate * RATES_STRIDE // output_stride for rate in rates]


class ASPP(nn.Module):
    """A 1x1 convolution, 3x3 ones at several rates, the mean over the image; then a 1x1 over all of them.

    Every convolution has batch normalization and ReLU (DeepLab v3, section 3.3 and Fig. 5).

    Args:
        channels: of the features.
        out: channels of every branch and of the result.
        rates: dilations of the 3x3 convolutions.
        image_pooling: with the branch of the image's mean.
        separable: the 3x3 convolutions are depthwise separable (DeepLab v3+, section 3.1).
        dropout: probability behind the projection.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        rates: Sequence[int],
        *,
        image_pooling: bool,
        separable: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        branches = [convolution(channels, out, 3, rate, separable=separable) for rate in rates]
        self.branches = nn.ModuleList([convolution(channels, out, 1), *branches])
        self.image_pooling = convolution(channels, out, 1) if image_pooling else None
        count = len(self.branches) + image_pooling
        self.project = convolution(count * out, out, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: FeatureMap) -> AnyFeatureMap:
        """Features of the same size.

        Raises:
            ValueError: training on a batch of one image, whose image-level branch has no statistics.
        """
        outputs = [branch(features) for branch in self.branches]
        if self.image_pooling is not None:
            norm = self.image_pooling.get_submodule("bn")  # one that synchronizes may have images elsewhere
            if isinstance(norm, nn.BatchNorm2d) and norm.training and len(features) == 1:
                raise ValueError(
                    "image: a batch of 1 in training, must be at least 2 for the batch normalization of the "
                    "image-level branch (or batch_norm: frozen, or image_pooling: false)"
                )
            mean = self.image_pooling(features.mean((2, 3), keepdim=True))
            outputs.append(mean.expand(-1, -1, *features.shape[2:]))
        return self.dropout(self.project(torch.cat(outputs, 1)))  # type: ignore[no-any-return]
