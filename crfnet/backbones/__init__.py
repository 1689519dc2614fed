"""Networks from a normalised image to features at output stride 8."""

from typing import Protocol

from crfnet.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone
from crfnet.backbones.resnet import resnet18, resnet50, resnet101
from crfnet.backbones.timm import TimmBackbone
from crfnet.backbones.vgg import VGG16
from crfnet.errors import InputError

__all__ = ["BACKBONES", "IMAGENET_MEAN", "IMAGENET_STD", "Backbone", "build_backbone", "check_backbone"]


class BackboneFactory(Protocol):
    """Builds a backbone of the given channel multiplier, from ImageNet weights or at random."""

    def __call__(self, *, width: float = 1.0, pretrained: bool = False) -> Backbone:
        """Build it."""


BACKBONES: dict[str, BackboneFactory] = {
    "vgg16": VGG16,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet101": resnet101,
}
TIMM = "timm:"


def check_backbone(name: str, *, width: float, pretrained: bool) -> None:
    """Raise the `InputError` of `build_backbone`, as far as it can be told without building anything."""
    if name not in BACKBONES and not name.startswith(TIMM):
        raise InputError(f"backbone is {name!r}, must be one of {', '.join(BACKBONES)}, {TIMM}<name>")
    if not 0 < width <= 16:
        raise InputError(f"width is {width}, must be in (0, 16]")
    if width != 1 and name.startswith(TIMM):
        raise InputError(f"width is {width}, must be 1 for a network of timm ({name})")
    if width != 1 and pretrained:
        raise InputError(f"width is {width}, must be 1 for ImageNet weights (or use weights: none)")


def build_backbone(name: str, *, width: float = 1.0, pretrained: bool = False) -> Backbone:
    """The backbone of that name.

    Args:
        name: a key of `BACKBONES`, or ``timm:`` and the name of a network of timm.
        width: multiplier of the channels, rounded to multiples of 8; not for timm.
        pretrained: start from ImageNet weights; needs width 1.

    Raises:
        InputError: an unknown name, a width that the network cannot have, or weights that are not to be had.
    """
    check_backbone(name, width=width, pretrained=pretrained)
    if name.startswith(TIMM):
        return TimmBackbone(name.removeprefix(TIMM), pretrained=pretrained)
    return BACKBONES[name](width=width, pretrained=pretrained)
