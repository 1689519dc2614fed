"""The decoder of DeepLab v3+: encoder features joined with low-level ones at their finer stride."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from crfnet.backbones.backbone import AnyFeatureMap
from crfnet.models.layers import convolution
from crfnet.resize import AlignCorners, resize_logits

__all__ = ["Decoder"]


class Decoder(nn.Module):
    """For each level, coarse to fine: resize to it, join with its reduced features, convolve.

    Chen et al. 2018 (ECCV), section 3.1, and the choices of tables 1 and 2. Concatenated are the encoder's
    features first, then the low-level ones.

    Args:
        channels: of the encoder's features.
        low_channels: channels of the low-level features by level, the coarsest level first.
        reduce: channels that a 1x1 convolution reduces each level to.
        widths: output channels of the convolutions behind each concatenation.
        kernel: size of those convolutions, 1 or 3.
        separable: those convolutions are depthwise separable.
        align_corners: geometry of the resize; see `resize_logits`.
    """

    def __init__(
        self,
        channels: int,
        low_channels: Mapping[str, int],
        *,
        reduce: int,
        widths: Sequence[int],
        kernel: int,
        separable: bool,
        align_corners: AlignCorners,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.reduce, self.refine = nn.ModuleDict(), nn.ModuleDict()
        for level, low in low_channels.items():
            self.reduce[level] = convolution(low, reduce, 1)
            layers, inputs = [], channels + reduce
            for width in widths:
                layers.append(convolution(inputs, width, kernel, separable=separable))
                inputs = width
            self.refine[level] = nn.Sequential(*layers)
            channels = inputs
        self.out_channels = channels

    def forward(self, features: AnyFeatureMap, levels: Mapping[str, AnyFeatureMap]) -> AnyFeatureMap:
        """Features at the stride of the finest level."""
        for level, refine in self.refine.items():
            low = self.reduce[level](levels[level])
            size = (low.shape[2], low.shape[3])
            resized = resize_logits(features, size, align_corners=self.align_corners).to(low.dtype)
            features = refine(torch.cat([resized, low], 1))
        return features
