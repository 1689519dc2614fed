"""Which network: its configuration and what is allowed in it."""

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from crfnet.backbones import check_backbone
from crfnet.errors import InputError

__all__ = ["ModelConfig"]


@dataclass(frozen=True)
class ModelConfig:
    """A segmentation network; the section ``model:`` of a configuration file.

    Attributes:
        variant: the published network that is followed.
        backbone: vgg16, resnet18, resnet50, resnet101, or timm:<name> for a network of timm.
        head: one branch of rate 12 (large_fov), or four of rates 2, 4, 8, 12 (aspp_s) or 6, 12, 18, 24
            (aspp_l).
        width: multiplier of the channels, for small runs; 1 with ImageNet weights and for timm.
        weights: what the backbone starts from.
        batch_norm: frozen keeps statistics and affine parameters as they are, as published; meant for
            ImageNet weights.
        dropout: probability after fc6 and fc7, which only a head on vgg16 has.
        align_corners: geometry of the resize of scores to image size. True, as DeepLab's release, puts
        score i on
            pixel 8 i, which is what these networks see; false puts the scores in the middle of equal parts.

    Raises:
        InputError: a value that is not allowed, or a combination that cannot be built.
    """

    variant: Literal["deeplab_v2"] = "deeplab_v2"
    backbone: str = "resnet101"
    head: Literal["large_fov", "aspp_s", "aspp_l"] = "aspp_l"
    width: float = 1.0
    weights: Literal["none", "imagenet"] = "none"
    batch_norm: Literal["train", "frozen"] = "train"
    dropout: float = 0.5
    align_corners: bool = True

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(ModelConfig).items():
            allowed, value = get_args(hint), getattr(self, name)
            if allowed and value not in allowed:
                raise InputError(f"model.{name} is {value!r}, must be one of {', '.join(allowed)}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"model.dropout is {self.dropout}, must be in [0, 1)")
        try:
            check_backbone(self.backbone, width=self.width, pretrained=self.weights == "imagenet")
        except InputError as error:
            raise InputError(f"model.{error}") from None
