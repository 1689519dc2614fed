"""DeepLab v1 (Chen et al., ICLR 2015): VGG-16 with fc6 of four sizes, and multi-scale features (MSc)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.backbones.backbone import NormalizedImage, scaled_channels
from crfnet.backbones.vgg import VGG16, decimated_fc
from crfnet.config.variants import check_choices
from crfnet.errors import require
from crfnet.models.aspp_v2 import fc_branch
from crfnet.models.network import CommonConfig, Network, VariantConfig
from crfnet.resize import resize_logits
from crfnet.shapes import StridedLogits

__all__ = ["FC6", "DeepLabV1", "DeepLabV1Config", "MscBranch"]

MSC_CHANNELS = 128


class _FC6(NamedTuple):
    kernel: int
    rate: int
    channels: int


#: fc6 of the models of table 2; their fields of view are 224, 128, 224 and 224 pixels.
FC6 = {
    "7x7": _FC6(7, 4, 4096),
    "4x4": _FC6(4, 4, 4096),
    "4x4_r8": _FC6(4, 8, 4096),
    "large_fov": _FC6(3, 12, 1024),
}


@dataclass(frozen=True)
class DeepLabV1Config(VariantConfig):
    """DeepLab v1, on vgg16.

    Attributes:
        head: fc6 of 7x7 and rate 4 (7x7), of 4x4 and rate 4 (4x4) or 8 (4x4_r8), of 3x3 and rate 12
            (large_fov).
        multi_scale_features: MSc, classifiers on the image and the first four pools, too. All but the
            classifiers is fixed: start from a trained plain model.
        dropout: probability after fc6 and fc7, in [0, 1).
    """

    head: Literal["7x7", "4x4", "4x4_r8", "large_fov"] = "large_fov"
    multi_scale_features: bool = False
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_choices(self, "")
        require("dropout", self.dropout, 0 <= self.dropout < 1, "in [0, 1)")

    def build(self, common: CommonConfig, num_classes: int) -> "DeepLabV1":
        """The network."""
        return DeepLabV1(self, common, num_classes)

    def check(self, common: CommonConfig) -> None:
        """Refuse other backbones, and pools that move the maps of MSc."""
        require("backbone", common.backbone, common.backbone == "vgg16", "vgg16 (deeplab_v1)")
        pools = common.vgg.pools
        aligned = not self.multi_scale_features or pools == "3x3"
        allowed = "3x3 with multi_scale_features, whose maps must lie on each other"
        require("vgg.pools", pools, aligned, allowed)
        super().check(common)


class DeepLabV1(Network):
    """VGG-16 at output stride 8, fc6, fc7 and fc8 as convolutions; logits at stride 8.

    LargeFOV has an average pool before fc6, as its prototxt. With ImageNet weights fc6 and fc7 start from
    VGG's classifier, decimated. With ``multi_scale_features`` the image and the first four max-pools have
    classifiers of their own, whose scores are added (section 4.3; adding scores is one classifier on the
    concatenated features). Then, as released, trunk, fc6 and fc7 are fixed, only the classifiers learn; and
    in evaluation mode every classifier runs at the full resolution of its map, for logits at stride 1.

    Args:
        config: its own part of the configuration.
        common: what all networks are told.
        num_classes: at least 2.

    Raises:
        InputError: the backbone's weights are not to be had.
    """

    backbone: VGG16

    def __init__(self, config: DeepLabV1Config, common: CommonConfig, num_classes: int) -> None:
        super().__init__()
        self.backbone = common.backbone_at(8).build()  # type: ignore[assignment]  # `check` allows no other
        kernel, rate, channels = FC6[config.head]
        pools_again = config.head == "large_fov"
        self.pool5a = nn.AvgPool2d(3, 1, padding=1) if pools_again else nn.Identity()
        fc_channels = scaled_channels(channels, common.width)
        self.head = fc_branch(
            self.backbone.out_channels, fc_channels, num_classes, rate, config.dropout, kernel=kernel
        )
        if (classifier := common.vgg_classifier()) is not None:
            fc = decimated_fc(classifier, kernel=kernel, every=4096 // channels)
            fc8 = {key: value for key, value in self.head.state_dict().items() if key.startswith("fc8.")}
            self.head.load_state_dict(fc | fc8)
        self.msc = nn.ModuleList()
        if config.multi_scale_features:
            self._add_branches(common.width, config.dropout, num_classes)

    def forward(self, image: NormalizedImage) -> StridedLogits:
        """Logits at stride 8 of a batch of normalized images; of MSc in evaluation mode at stride 1."""
        if not self.msc:
            return self.head(self.pool5a(self.backbone(image)))  # type: ignore[no-any-return]
        *maps, last = self.backbone.pooled(image)
        dense = not self.training
        scores = [self.head(self.pool5a(last))]
        scores += [branch(x, dense=dense) for branch, x in zip(self.msc, [image, *maps[:4]], strict=True)]
        size = (image.shape[2], image.shape[3])
        if dense:
            scores = [resize_logits(part, size, align_corners=True) for part in scores]
        # Where a size is not 8 k + 1, pools look beyond the image and strided convolutions do not.
        height, width = (min(part.shape[axis] for part in scores) for axis in (2, 3))
        return torch.stack([part[..., :height, :width] for part in scores]).sum(0)

    def head_parameters(self) -> Iterable[nn.Parameter]:
        """The classifiers, fc8, alone, as in the released prototxts."""
        layers = [self.head.fc8, *(branch.fc8 for branch in self.msc)]
        return (weight for layer in layers for weight in layer.parameters())  # type: ignore[union-attr]

    def _add_branches(self, width: float, dropout: float, num_classes: int) -> None:
        self.requires_grad_(False)
        self.head.fc8.requires_grad_(True)
        channels = [3, *(scaled_channels(full, width) for full in (64, 128, 256, 512))]
        for inputs, stride in zip(channels, (8, 4, 2, 1, 1), strict=True):
            self.msc.append(MscBranch(inputs, width, num_classes, stride, dropout))


class MscBranch(nn.Module):
    """3x3, 1x1 and the classifier on a map of the trunk (DeepLab v1, section 4.3; prototxt ``DeepLab-MSc``).

    Args:
        channels: of the map.
        width: multiplier of its own 128 channels.
        num_classes: of the scores.
        stride: from the map to stride 8.
        dropout: probability after either convolution.
    """

    def __init__(self, channels: int, width: float, num_classes: int, stride: int, dropout: float) -> None:
        super().__init__()
        hidden = scaled_channels(MSC_CHANNELS, width)
        self.conv = nn.Conv2d(channels, hidden, 3, stride, padding=1)
        self.fc = nn.Conv2d(hidden, hidden, 1)
        self.fc8 = nn.Conv2d(hidden, num_classes, 1)
        self.dropout = nn.Dropout(dropout)
        for layer, std in ((self.conv, 0.001), (self.fc, 0.001), (self.fc8, 0.01)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, *, dense: bool) -> StridedLogits:
        """Scores at stride 8; ``dense``: at every position of ``x``, with the same weights."""
        stride = 1 if dense else self.conv.stride
        x = F.conv2d(x, self.conv.weight, self.conv.bias, stride, padding=1)
        x = self.dropout(F.relu(x))
        return self.fc8(self.dropout(F.relu(self.fc(x))))  # type: ignore[no-any-return]
