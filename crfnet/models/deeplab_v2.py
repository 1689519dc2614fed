"""DeepLab v2 (Chen et al., TPAMI 2018): LargeFOV (also v1's), ASPP-S and ASPP-L, on one scale or on three."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from crfnet.backbones.backbone import NormalizedImage, scaled_channels
from crfnet.backbones.vgg import VGG16, decimated_fc
from crfnet.config.variants import check_choices
from crfnet.errors import require
from crfnet.models.aspp_v2 import SummedBranches, convolution_branch, fc_branch
from crfnet.models.multi_scale import ScaledBy, fused_by_max
from crfnet.models.network import CommonConfig, Network, VariantConfig
from crfnet.shapes import LogitMap, StridedLogits

__all__ = ["RATES", "DeepLabV2", "DeepLabV2Config"]

#: Dilations of the branches (DeepLab v2, sections 4.1.1 and 4.1.2).
RATES = {"large_fov": (12,), "aspp_s": (2, 4, 8, 12), "aspp_l": (6, 12, 18, 24)}


@dataclass(frozen=True)
class DeepLabV2Config(VariantConfig):
    """DeepLab v2.

    Attributes:
        head: one branch of rate 12 (large_fov), or four of rates 2, 4, 8, 12 (aspp_s) or 6, 12, 18, 24
            (aspp_l).
        multi_scale: the image at scales 1, 0.75 and 0.5, fused by the largest score; four losses.
        scaled_by: with multi_scale and without aligned corners, how the smaller images are made at sizes that
            a scale does not divide: size stretches the image over the whole number of pixels that is left, as
            PyTorch did before 1.6 and so in the published figures of kazuto1011/deeplab-pytorch; factor
            shrinks by the scale itself and leaves the rest of the last pixel out, as PyTorch runs that code
            today.
        rates: other dilations of the branches than those of the head, one or more; null for those.
        dropout: probability after fc6 and fc7, which only a head on vgg16 has, in [0, 1).
    """

    head: Literal["large_fov", "aspp_s", "aspp_l"] = "aspp_l"
    multi_scale: bool = False
    scaled_by: ScaledBy = "size"
    rates: tuple[int, ...] | None = None
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_choices(self, "")
        require("dropout", self.dropout, 0 <= self.dropout < 1, "in [0, 1)")
        good = self.rates is None or (bool(self.rates) and all(rate >= 1 for rate in self.rates))
        require("rates", self.rates, good, "null or at least one rate >= 1")

    def build(self, common: CommonConfig, num_classes: int) -> "DeepLabV2":
        """The network."""
        return DeepLabV2(self, common, num_classes)


class DeepLabV2(Network):
    """A backbone at output stride 8 and summed dilated branches; logits at stride 8.

    On VGG-16 the branches are fc6 - fc7 - fc8 of 1024 channels (times ``width``), and LargeFOV has an average
    pool before them, as its prototxt. On every other backbone they are single 3x3 convolutions. With ImageNet
    weights fc6 and fc7 of all branches start from VGG's decimated classifier. With ``multi_scale`` the same
    weights see the image at scales 1, 0.75 and 0.5, and the largest score counts, in training and in
    evaluation.

    Args:
        config: its own part of the configuration.
        common: what all networks are told.
        num_classes: at least 2.

    Raises:
        InputError: the backbone or its weights are not to be had.
    """

    def __init__(self, config: DeepLabV2Config, common: CommonConfig, num_classes: int) -> None:
        super().__init__()
        self.backbone = common.backbone_at(8).build()
        channels, rates = self.backbone.out_channels, config.rates or RATES[config.head]
        self.pool5a: nn.Module = nn.Identity()
        if isinstance(self.backbone, VGG16):
            if config.head == "large_fov":
                self.pool5a = nn.AvgPool2d(3, 1, padding=1)
            fc_channels = scaled_channels(1024, common.width)
            branches = [fc_branch(channels, fc_channels, num_classes, rate, config.dropout) for rate in rates]
        else:
            branches = [convolution_branch(channels, num_classes, rate) for rate in rates]
        self.head = SummedBranches(branches)
        if isinstance(self.backbone, VGG16) and (classifier := common.vgg_classifier()) is not None:
            self._start_from_classifier(classifier)
        self.multi_scale, self.scaled_by = config.multi_scale, config.scaled_by
        self.align_corners = common.align_corners
        if common.batch_norm == "frozen":
            self.backbone.freeze_batch_norm()

    def forward(self, image: NormalizedImage) -> StridedLogits:
        """Logits at stride 8 of a batch of normalized images."""
        return self.all_logits(image)[0]

    def all_logits(self, image: NormalizedImage) -> list[LogitMap]:
        """The logits and whatever else a training loss is taken of: see `fused_by_max`."""
        if self.multi_scale:
            return fused_by_max(
                self._one_scale, image, align_corners=self.align_corners, scaled_by=self.scaled_by
            )
        return [self._one_scale(image)]

    def _one_scale(self, image: NormalizedImage) -> LogitMap:
        return self.head(self.pool5a(self.backbone(image)))  # type: ignore[no-any-return]

    def head_parameters(self) -> Iterable[nn.Parameter]:
        """The convolutions to the classes alone, as in the released prototxts: not fc6 and fc7."""
        return (weight for layer in self.head.classifiers() for weight in layer.parameters())

    def _start_from_classifier(self, classifier: Mapping[str, Tensor]) -> None:
        state = decimated_fc(classifier)
        for branch in self.head.branches:
            rest = {f"fc8.{key}": value for key, value in branch.fc8.state_dict().items()}  # type: ignore[union-attr]
            branch.load_state_dict(state | rest)
