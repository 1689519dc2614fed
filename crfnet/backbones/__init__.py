"""Networks from a normalized image to features at output stride 8, 16 or 32."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from crfnet.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone
from crfnet.backbones.efficientnet_lite import EfficientNetLite
from crfnet.backbones.mobilenet import MobileNetV2, MobileNetV3Large
from crfnet.backbones.mobilenet_v2 import MobileNetV2Options, TensorFlowMobileNetV2
from crfnet.backbones.resnet import MultiGrid, ResNetOptions, resnet18, resnet50, resnet101
from crfnet.backbones.timm import TimmBackbone
from crfnet.backbones.vgg import VGG16, VGGOptions
from crfnet.backbones.weights_file import load_weights_file
from crfnet.backbones.xception import AlignedXception
from crfnet.errors import InputError, require

__all__ = [
    "BACKBONES",
    "STRIDES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Backbone",
    "BackboneConfig",
    "MobileNetV2Options",
    "ResNetOptions",
    "VGGOptions",
    "build_backbone",
]

#: Those that DeepLab v2 to v3+ were built on; they take every field of `BackboneConfig` but the name.
RESNETS: dict[str, Callable[..., Backbone]] = {
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet101": resnet101,
}
#: All by name; they take ``width`` and ``pretrained``, and ``output_stride`` unless `STRIDES` has but one.
BACKBONES: dict[str, Callable[..., Backbone]] = {
    "vgg16": VGG16,
    **RESNETS,
    "aligned_xception": AlignedXception,
    "mobilenet_v3_large": MobileNetV3Large,
    "mobilenet_v2": TensorFlowMobileNetV2,
    "mobilenet_v2_vainf": partial(MobileNetV2, by="vainf"),
    "mobilenet_v2_jfzhang95": partial(MobileNetV2, by="jfzhang95"),
    **{f"efficientnet_lite{variant}": partial(EfficientNetLite, variant) for variant in range(5)},
}
#: The output strides of those that do not have all.
STRIDES = {"vgg16": (8,), "aligned_xception": (8, 16), "mobilenet_v3_large": (16,)}
TIMM = "timm:"


@dataclass(frozen=True)
class BackboneConfig:
    """Which backbone, and of what geometry.

    Attributes:
        name: a key of `BACKBONES`, or ``timm:`` and the name of a network of timm.
        width: multiplier of the channels, rounded to multiples of 8; not for timm.
        pretrained: start from ImageNet weights; needs width 1.
        weights_file: start from the weights in a file instead; see `load_weights_file`.
        output_stride: 8, 16 or 32 pixels from one cell of the features to the next; see `STRIDES`.
        multi_grid: unit rates of the three units of block4 and later blocks; resnet50 and resnet101 alone.
        extra_blocks: number of repetitions of block4 behind it; for ResNets alone.
        resnet: without effect on other backbones.
        vgg: without effect on other backbones.
        mobilenet_v2: without effect on other backbones.

    Raises:
        InputError: an unknown name, or a width or output stride that the network cannot have, as far as it
            can be told without building anything.
    """

    name: str
    width: float = 1.0
    pretrained: bool = False
    weights_file: Path | None = None
    output_stride: int = 8
    multi_grid: MultiGrid | None = None
    extra_blocks: int = 0
    resnet: ResNetOptions = field(default_factory=ResNetOptions)
    vgg: VGGOptions = field(default_factory=VGGOptions)
    mobilenet_v2: MobileNetV2Options = field(default_factory=MobileNetV2Options)

    def __post_init__(self) -> None:
        name, width = self.name, self.width
        if name not in BACKBONES and not name.startswith(TIMM):
            raise InputError(f"backbone is {name!r}, must be one of {', '.join(BACKBONES)}, {TIMM}<name>")
        if not 0 < width <= 16:
            raise InputError(f"width is {width}, must be in (0, 16]")
        if width != 1 and name.startswith(TIMM):
            raise InputError(f"width is {width}, must be 1 for a network of timm ({name})")
        if width != 1 and self.pretrained:
            raise InputError(f"width is {width}, must be 1 for ImageNet weights (or use weights: none)")
        multiplier = self.mobilenet_v2.depth_multiplier
        allowed = "1 for ImageNet weights (or use weights: none)"
        require("mobilenet_v2.depth_multiplier", multiplier, multiplier == 1 or not self.pretrained, allowed)
        allowed = "left out with weights: imagenet"
        require(
            "backbone_weights", str(self.weights_file), not self.weights_file or not self.pretrained, allowed
        )
        if name in STRIDES and self.output_stride not in STRIDES[name]:
            allowed = " or ".join(map(str, STRIDES[name]))
            raise InputError(f"output_stride is {self.output_stride}, must be {allowed} for {name}")
        if self.multi_grid is not None and name not in ("resnet50", "resnet101"):
            raise InputError(
                f"multi_grid is {self.multi_grid}, must be null for {name} (resnet50 and resnet101 have it)"
            )
        if self.extra_blocks and name not in RESNETS:
            raise InputError(f"cascade: {name} has no block4 to repeat, must be one of {', '.join(RESNETS)}")

    def build(self) -> Backbone:
        """The backbone.

        Raises:
            InputError: timm cannot build it, or its weights are not to be had.
        """
        backbone = self._build()
        if self.weights_file is not None:
            repeated = tuple(f"layer{number}." for number in range(5, 5 + self.extra_blocks))  # of a ResNet
            load_weights_file(backbone, self.weights_file, repeated)
        return backbone

    def _build(self) -> Backbone:
        name = self.name
        plain: dict[str, Any] = {"width": self.width, "pretrained": self.pretrained}
        if name in RESNETS:
            geometry = {"multi_grid": self.multi_grid, "extra_blocks": self.extra_blocks}
            return RESNETS[name](**plain, output_stride=self.output_stride, **geometry, options=self.resnet)
        if name == "vgg16":
            return VGG16(**plain, pools=self.vgg.pools)
        strided = {} if len(STRIDES.get(name, ())) == 1 else {"output_stride": self.output_stride}
        if name.startswith(TIMM):
            return TimmBackbone(name.removeprefix(TIMM), pretrained=self.pretrained, **strided)
        options = asdict(self.mobilenet_v2) if name == "mobilenet_v2" else {}
        return BACKBONES[name](**plain, **strided, **options)


def build_backbone(name: str, **choices: Any) -> Backbone:
    """The backbone of that name; the choices are the fields of `BackboneConfig`, as are the errors."""
    return BackboneConfig(name, **choices).build()
