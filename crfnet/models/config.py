"""Which network: its configuration, and what each variant takes of it."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from crfnet.backbones import RESNETS, BackboneConfig
from crfnet.backbones.resnet import StrideOn
from crfnet.backbones.vgg import Pools
from crfnet.errors import InputError

__all__ = ["FIELDS", "HEADS", "ModelConfig", "OutputStride"]

OutputStride = Literal[8, 16, 32]

_RESNET = {"stride_on", "ceil_mode"}
_ENCODER = {
    *_RESNET,
    "output_stride",
    "eval_output_stride",
    "multi_grid",
    "rates",
    "image_pooling",
    "separable",
    "dropout",
    "batch_norm_momentum",
}
_DECODER = {"decoder_features", "decoder_reduce", "decoder_channels", "decoder_kernel"}
#: Blocks behind block4, by the name of the last one in cascade (DeepLab v3, section 3.2).
EXTRA_BLOCKS = {"none": 0, "block4": 0, "block5": 1, "block6": 2, "block7": 3}
#: The fields that a variant takes, beside those that all of them take; the others keep their defaults.
FIELDS = {
    "deeplab_v1": {"head", "dropout", "vgg_pools", "multi_scale_features"},
    "deeplab_v2": {"head", "dropout", "multi_scale", *_RESNET},
    "deeplab_v3": {*_ENCODER, "cascade", "extra_convolution"},
    "deeplab_v3plus": {*_ENCODER, *_DECODER},
}
_COMMON = {"variant", "backbone", "width", "weights", "preprocessing", "batch_norm", "align_corners"}
#: Allowed values of ``head``, for the variants that take it.
HEADS = {
    "deeplab_v1": ("7x7", "4x4", "4x4_r8", "large_fov"),
    "deeplab_v2": ("large_fov", "aspp_s", "aspp_l"),
}


@dataclass(frozen=True)
class ModelConfig:
    """A segmentation network; the section ``model:`` of a configuration file.

    Attributes:
        variant: the published network that is followed.
        backbone: vgg16, resnet18, resnet50, resnet101, timm:<name> for a network of timm; and for published
            weights aligned_xception, mobilenet_v3_large, mobilenet_v2_vainf and mobilenet_v2_jfzhang95.
        head: of v1: fc6 of 7x7 and rate 4 (7x7), of 4x4 and rate 4 (4x4) or 8 (4x4_r8), of 3x3 and rate 12
            (large_fov). Of v2: one branch of rate 12 (large_fov), or four of rates 2, 4, 8, 12 (aspp_s) or 6,
            12, 18, 24 (aspp_l).
        width: multiplier of the channels, for small runs; 1 with ImageNet weights and for timm.
        weights: what the backbone starts from.
        preprocessing: what the network sees: the backbone's own (of ImageNet weights), ImageNet's mean and
            standard deviation in RGB, or minus Caffe's mean in BGR.
        stride_on: of ResNets: the convolution that carries a stride, 3x3 as in torchvision or 1x1 as in the
            MSRA networks of DeepLab v2's release.
        ceil_mode: of ResNets: the max-pool rounds sizes up, as in Caffe, not down as in torchvision.
        batch_norm: frozen keeps statistics and affine parameters as they are, as published for v2 (meant for
            ImageNet weights) and for the second stage of v3; sync takes the statistics over all processes.
        batch_norm_momentum: of v3 and v3+: share of a batch in the running statistics, 0.0003 as published
            (decay 0.9997).
        vgg_pools: of v1: 3x3 as in all published models from MSc and LargeFOV on, 2x2 as in the first (crop
            306 instead of 321).
        multi_scale_features: of v1: MSc, classifiers on the image and the first four pools, too. All but the
            classifiers is fixed: start from a trained plain model.
        multi_scale: of v2: the image at scales 1, 0.75 and 0.5, fused by the largest score; four losses.
        dropout: probability after fc6 and fc7, which of v2 only a head on vgg16 has; of v3 and v3+ after the
            projection of ASPP (0.1 in DeepLab's release, 0.5 in torchvision).
        align_corners: geometry of the resize of scores to image size. True, as DeepLab's release, puts
            score i on pixel ``stride * i``, which is what these networks see; false puts the scores in the
            middle of equal parts.
        output_stride: of v3 and v3+: pixels from one cell of the last features to the next.
        eval_output_stride: of v3 and v3+: the same in evaluation mode, with the same weights; null for
            output_stride.
        multi_grid: of v3 and v3+: unit rates of the three 3x3 convolutions of block4, and of each block
            behind it, times the block's own rate ([1, 2, 4] as published). Null leaves the rates that compute
            the strided network densely. For resnet50 and resnet101.
        cascade: of v3: the last of the blocks in cascade, with the classifier directly on it; none for ASPP.
        rates: of v3 and v3+: dilations of ASPP's 3x3 convolutions at output stride 16; twice as large at 8,
            half at 32.
        image_pooling: of v3 and v3+: ASPP's image-level branch.
        extra_convolution: of v3: a 3x3 convolution between ASPP and classifier, which torchvision has.
        separable: of v3 and v3+: the 3x3 convolutions of ASPP and decoder are depthwise separable.
        decoder_features: of v3+: the low-level features that the decoder takes, of stride 4 (conv2) or of
            strides 8 and 4 (conv2_conv3).
        decoder_reduce: of v3+: channels that a 1x1 convolution reduces low-level features to.
        decoder_channels: of v3+: channels of each convolution behind a concatenation.
        decoder_kernel: of v3+: their size.

    Raises:
        InputError: a value that is not allowed, or a combination that cannot be built.
    """

    variant: Literal["deeplab_v1", "deeplab_v2", "deeplab_v3", "deeplab_v3plus"] = "deeplab_v2"
    backbone: str = "resnet101"
    head: Literal["7x7", "4x4", "4x4_r8", "large_fov", "aspp_s", "aspp_l"] = "aspp_l"
    width: float = 1.0
    weights: Literal["none", "imagenet"] = "none"
    preprocessing: Literal["backbone", "imagenet", "caffe"] = "backbone"
    stride_on: StrideOn = "3x3"
    ceil_mode: bool = True
    batch_norm: Literal["train", "frozen", "sync"] = "train"
    batch_norm_momentum: float = 0.1
    vgg_pools: Pools = "3x3"
    multi_scale_features: bool = False
    multi_scale: bool = False
    dropout: float = 0.5
    align_corners: bool = True
    output_stride: OutputStride = 16
    eval_output_stride: OutputStride | None = None
    multi_grid: tuple[int, int, int] | None = None
    cascade: Literal["none", "block4", "block5", "block6", "block7"] = "none"
    rates: tuple[int, ...] = (6, 12, 18)
    image_pooling: bool = True
    extra_convolution: bool = False
    separable: bool = False
    decoder_features: Literal["conv2", "conv2_conv3"] = "conv2"
    decoder_reduce: int = 48
    decoder_channels: tuple[int, ...] = (256, 256)
    decoder_kernel: Literal[1, 3] = 3

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(ModelConfig).items():
            allowed, value = get_args(hint), getattr(self, name)
            if get_origin(hint) is Literal and value not in allowed:
                raise InputError(f"model.{name} is {value!r}, must be one of {', '.join(map(str, allowed))}")
        self._check_fields_of_variant()
        self._check_numbers()
        strides: list[OutputStride] = [8]
        if "output_stride" in FIELDS[self.variant]:
            strides = [self.output_stride, self.eval_output_stride or self.output_stride]
        for stride in strides:
            try:
                self.backbone_at(stride)
            except InputError as error:
                raise InputError(f"model.{error}") from None

    def backbone_at(self, output_stride: int) -> BackboneConfig:
        """The backbone for that output stride."""
        return BackboneConfig(
            self.backbone,
            width=self.width,
            pretrained=self.weights == "imagenet",
            output_stride=output_stride,
            multi_grid=self.multi_grid,
            extra_blocks=EXTRA_BLOCKS[self.cascade],
            stride_on=self.stride_on,
            ceil_mode=self.ceil_mode,
        )

    def _check_fields_of_variant(self) -> None:
        """A field that the variant does not take keeps its default, so that nothing is asked for in vain."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in _COMMON | FIELDS[self.variant] and value != field.default:
                takers = ", ".join(name for name, fields in FIELDS.items() if field.name in fields)
                given = f"model.{field.name} is {value!r}"
                raise InputError(f"{given}, but {self.variant} has no such choice; it is of {takers}")
        synchronizes = self.batch_norm != "sync" or "batch_norm_momentum" in FIELDS[self.variant]
        self._require("batch_norm", synchronizes, f"train or frozen ({self.variant})")
        self._require(
            "backbone", self.variant != "deeplab_v1" or self.backbone == "vgg16", "vgg16 (deeplab_v1)"
        )
        resnet = self.backbone in RESNETS
        self._require("stride_on", resnet or self.stride_on == "3x3", f"3x3 for {self.backbone}")
        self._require("ceil_mode", resnet or self.ceil_mode, f"true for {self.backbone}")
        aligned = not (self.multi_scale_features and self.vgg_pools == "2x2")
        self._require(
            "vgg_pools", aligned, "3x3 with multi_scale_features, whose maps must lie on each other"
        )
        heads = HEADS.get(self.variant)
        if heads and self.head not in heads:
            allowed = f"{', '.join(heads)} ({self.variant})"
            raise InputError(f"model.head is {self.head!r}, must be one of {allowed}")

    def _check_numbers(self) -> None:
        self._require("dropout", 0 <= self.dropout < 1, "in [0, 1)")
        self._require("batch_norm_momentum", 0 < self.batch_norm_momentum <= 1, "in (0, 1]")
        self._require("eval_output_stride", self.eval_output_stride in (None, 8, 16, 32), "8, 16, 32 or null")
        self._require("multi_grid", all(rate >= 1 for rate in self.multi_grid or ()), "three rates >= 1")
        even = 32 in (self.output_stride, self.eval_output_stride)
        allowed = "at least one rate >= 1, even ones for output stride 32"
        self._require(
            "rates", bool(self.rates) and all(r >= 1 and not (even and r % 2) for r in self.rates), allowed
        )
        cascade_alone = self.cascade == "none" or (
            self.rates == ModelConfig.rates
            and self.image_pooling
            and not self.separable
            and not self.extra_convolution
        )
        self._require(
            "cascade", cascade_alone, "none with the fields of ASPP changed, which a cascade has not"
        )
        self._require("decoder_reduce", self.decoder_reduce >= 1, ">= 1")
        channels = self.decoder_channels
        self._require("decoder_channels", bool(channels) and min(channels) >= 1, "at least one number >= 1")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise InputError(f"model.{name} is {getattr(self, name)!r}, must be {allowed}")
