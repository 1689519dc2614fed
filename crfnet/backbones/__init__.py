"""Networks from a normalised image to features at output stride 8, 16 or 32."""

from functools import partial
from typing import Protocol

from crfnet.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone
from crfnet.backbones.mobilenet import MobileNetV2, MobileNetV3Large
from crfnet.backbones.resnet import StrideOn, resnet18, resnet50, resnet101
from crfnet.backbones.timm import TimmBackbone
from crfnet.backbones.vgg import VGG16
from crfnet.backbones.xception import AlignedXception
from crfnet.errors import InputError

__all__ = [
    "BACKBONES",
    "STRIDES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Backbone",
    "build_backbone",
    "check_backbone",
]


class BackboneFactory(Protocol):
    """Builds a backbone of the given channel multiplier, from ImageNet weights or at random."""

    def __call__(self, *, width: float = 1.0, pretrained: bool = False) -> Backbone:
        """Build it."""


class StridedFactory(Protocol):
    """A `BackboneFactory` that gives every output stride, multi-grid and blocks behind block4."""

    def __call__(
        self,
        *,
        width: float = 1.0,
        pretrained: bool = False,
        output_stride: int = 8,
        multi_grid: tuple[int, int, int] | None = None,
        extra_blocks: int = 0,
        stride_on: StrideOn = "3x3",
        ceil_mode: bool = True,
    ) -> Backbone:
        """Build it."""


#: Those that DeepLab v2 to v3+ were built on.
RESNETS: dict[str, StridedFactory] = {"resnet18": resnet18, "resnet50": resnet50, "resnet101": resnet101}
#: All by name.
BACKBONES: dict[str, BackboneFactory] = {
    "vgg16": VGG16,
    **RESNETS,
    "aligned_xception": AlignedXception,
    "mobilenet_v3_large": MobileNetV3Large,
    "mobilenet_v2_vainf": MobileNetV2,
    "mobilenet_v2_jfzhang95": MobileNetV2,
}
#: The output strides of those that do not have all.
STRIDES = {"vgg16": (8,), "aligned_xception": (8, 16), "mobilenet_v3_large": (16,)}
TIMM = "timm:"


def check_backbone(
    name: str,
    *,
    width: float,
    pretrained: bool,
    output_stride: int = 8,
    multi_grid: tuple[int, int, int] | None = None,
    extra_blocks: int = 0,
) -> None:
    """Raise the `InputError` of `build_backbone`, as far as it can be told without building anything."""
    if name not in BACKBONES and not name.startswith(TIMM):
        raise InputError(f"backbone is {name!r}, must be one of {', '.join(BACKBONES)}, {TIMM}<name>")
    if not 0 < width <= 16:
        raise InputError(f"width is {width}, must be in (0, 16]")
    if width != 1 and name.startswith(TIMM):
        raise InputError(f"width is {width}, must be 1 for a network of timm ({name})")
    if width != 1 and pretrained:
        raise InputError(f"width is {width}, must be 1 for ImageNet weights (or use weights: none)")
    if output_stride not in STRIDES.get(name, (output_stride,)):
        raise InputError(
            f"output_stride is {output_stride}, must be {' or '.join(map(str, STRIDES[name]))} for {name}"
        )
    if multi_grid is not None and name not in ("resnet50", "resnet101"):
        raise InputError(
            f"multi_grid is {multi_grid}, must be null for {name} (resnet50 and resnet101 have it)"
        )
    if extra_blocks and name not in RESNETS:
        raise InputError(f"cascade: {name} has no block4 to repeat, must be one of {', '.join(RESNETS)}")


def build_backbone(
    name: str,
    *,
    width: float = 1.0,
    pretrained: bool = False,
    output_stride: int = 8,
    multi_grid: tuple[int, int, int] | None = None,
    extra_blocks: int = 0,
    stride_on: StrideOn = "3x3",
    ceil_mode: bool = True,
) -> Backbone:
    """The backbone of that name.

    Args:
        name: a key of `BACKBONES`, or ``timm:`` and the name of a network of timm.
        width: multiplier of the channels, rounded to multiples of 8; not for timm.
        pretrained: start from ImageNet weights; needs width 1.
        output_stride: 8, 16 or 32 pixels from one cell of the features to the next; see `STRIDES`.
        multi_grid: unit rates of the three units of block4 and later blocks; resnet50 and resnet101 alone.
        extra_blocks: number of repetitions of block4 behind it; for ResNets alone.
        stride_on: see `ResNet`; without effect on other backbones.
        ceil_mode: see `ResNet`; without effect on other backbones.

    Raises:
        InputError: an unknown name, a width or output stride that the network cannot have, or weights that
            are not to be had.
    """
    check_backbone(
        name,
        width=width,
        pretrained=pretrained,
        output_stride=output_stride,
        multi_grid=multi_grid,
        extra_blocks=extra_blocks,
    )
    if name.startswith(TIMM):
        return TimmBackbone(name.removeprefix(TIMM), pretrained=pretrained, output_stride=output_stride)
    build = BACKBONES[name]
    if name in RESNETS:
        geometry = {
            "output_stride": output_stride,
            "multi_grid": multi_grid,
            "extra_blocks": extra_blocks,
            "stride_on": stride_on,
            "ceil_mode": ceil_mode,
        }
        build = partial(RESNETS[name], **geometry)  # type: ignore[arg-type]
    if name == "aligned_xception":
        build = partial(AlignedXception, output_stride=output_stride)
    if name.startswith("mobilenet_v2_"):
        by = name.removeprefix("mobilenet_v2_")
        build = partial(MobileNetV2, output_stride=output_stride, by=by)  # type: ignore[arg-type]
    return build(width=width, pretrained=pretrained)
