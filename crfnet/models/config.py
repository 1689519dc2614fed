"""Which network: the section ``model:`` of a configuration file."""

import re
from dataclasses import dataclass, fields

from crfnet.backbones import RESNETS, MobileNetV2Options, ResNetOptions, VGGOptions
from crfnet.config.variants import check_choices, name_of, variant
from crfnet.errors import InputError, require
from crfnet.models.deeplab_v1 import DeepLabV1Config
from crfnet.models.deeplab_v2 import DeepLabV2Config
from crfnet.models.deeplab_v3 import DeepLabV3Config
from crfnet.models.deeplab_v3plus import DeepLabV3PlusConfig
from crfnet.models.network import CommonConfig, VariantConfig

__all__ = ["VARIANTS", "ModelConfig"]

#: A variant is a file with its network and its configuration, and a line here.
VARIANTS: dict[str, type[VariantConfig]] = {
    "deeplab_v1": DeepLabV1Config,
    "deeplab_v2": DeepLabV2Config,
    "deeplab_v3": DeepLabV3Config,
    "deeplab_v3plus": DeepLabV3PlusConfig,
}


@dataclass(frozen=True)
class ModelConfig(CommonConfig):
    """A segmentation network; the section ``model:`` of a configuration file.

    Attributes:
        variant: the published network that is followed, of `VARIANTS`, or its name; its own parameters are in
            the section of that name.
        backbone: vgg16, resnet18, resnet50, resnet101, mobilenet_v2 (TensorFlow's), efficientnet_lite0 to 4,
            timm:<name> for a network of timm; and for published weights aligned_xception,
            mobilenet_v3_large, mobilenet_v2_vainf and mobilenet_v2_jfzhang95.
        resnet: of the backbones resnet18, resnet50 and resnet101.
        vgg: of the backbone vgg16.
        mobilenet_v2: of the backbone mobilenet_v2.
        width: multiplier of the channels, for small runs; 1 with ImageNet weights and for timm.
        weights: what the backbone starts from.
        backbone_weights: a file that it starts from instead: .pth, .pt or .safetensors, with the names of
            torchvision, timm or efficientnet-lite-pytorch, or a checkpoint of this library. All its weights
            must be there; the classifier behind them is not needed but for fc6 and fc7 of v1 and v2.
        preprocessing: what the network sees: the backbone's own (of ImageNet weights), ImageNet's mean and
            standard deviation in RGB, minus Caffe's mean in BGR, or TensorFlow's RGB / 127.5 - 1.
        batch_norm: frozen keeps statistics and affine parameters as they are, as published for v2 (meant for
            ImageNet weights) and for the second stage of v3; sync takes the statistics over all processes.
        align_corners: geometry of the resize of scores to image size. True, as DeepLab's release, puts
            score i on pixel ``stride * i``, which is what these networks see; false puts the scores in the
            middle of equal parts; stretch puts the first and the last on the first and last pixel, as
            jfzhang95/pytorch-deeplab-xception, which differs from true off sizes of ``stride * i + 1``.

    Raises:
        InputError: a value that is not allowed, or a combination that cannot be built.
    """

    variant: VariantConfig | str = variant(VARIANTS, "deeplab_v2")

    def __post_init__(self) -> None:
        check_choices(self, "model.")
        own, name = self.build_variant(), self.variant_name
        aligned = self.align_corners in (True, False, "stretch")
        require("model.align_corners", self.align_corners, aligned, "true, false or stretch")
        synchronizes = self.batch_norm != "sync" or own.synchronizes
        require("model.batch_norm", self.batch_norm, synchronizes, f"train or frozen ({name})")
        for options, default, names in (
            ("resnet", ResNetOptions(), tuple(RESNETS)),
            ("vgg", VGGOptions(), ("vgg16",)),
            ("mobilenet_v2", MobileNetV2Options(), ("mobilenet_v2",)),
        ):
            value = getattr(self, options)
            allowed = f"left out for the backbone {self.backbone}"
            require(f"model.{options}", value, self.backbone in names or value == default, allowed)
        try:
            own.check(self)
        except InputError as error:
            key = re.split(r"\W", str(error))[0]
            owned = any(field.name == key for field in fields(own))  # type: ignore[arg-type]
            raise InputError(f"model.{f'{name}.' if owned else ''}{error}") from None

    @property
    def variant_name(self) -> str:
        """The name in `VARIANTS`."""
        return name_of(VARIANTS, self.variant)

    def build_variant(self) -> VariantConfig:
        """The variant; an instance, even if a name was given."""
        assert isinstance(self.variant, VariantConfig)
        return self.variant
