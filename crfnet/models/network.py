"""What every DeepLab is: a backbone and a head, from a normalized image to logits; and what all are told."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from torch import Tensor, nn

from crfnet.backbones import RESNETS, BackboneConfig, MobileNetV2Options, ResNetOptions, VGGOptions
from crfnet.backbones.backbone import Backbone, FreezableBatchNorm, NormalizedImage
from crfnet.backbones.resnet import MultiGrid
from crfnet.backbones.weights import imagenet_state
from crfnet.backbones.weights_file import read_classifier
from crfnet.config.variants import section
from crfnet.resize import AlignCorners
from crfnet.shapes import StridedLogits

__all__ = ["CommonConfig", "Network", "OutputStride", "VariantConfig"]

OutputStride = Literal[8, 16, 32]
Common = TypeVar("Common", bound="CommonConfig")


class VariantConfig(ABC):
    """What one DeepLab is told beside `CommonConfig`: a frozen dataclass, which builds its network.

    Its fields are the keys of its section in a configuration file, its docstring explains them there.
    """

    synchronizes: ClassVar[bool] = False  #: can take statistics of batches over all processes

    @abstractmethod
    def build(self, common: "CommonConfig", num_classes: int) -> "Network":
        """The network."""

    def output_strides(self) -> set[int]:
        """Those that the backbone will have."""
        return {8}

    def backbone_at(self, common: "CommonConfig", output_stride: int) -> BackboneConfig:
        """The backbone for one of them."""
        return common.backbone_at(output_stride)

    def check(self, common: "CommonConfig") -> None:
        """Refuse combinations with what all networks are told, by an `InputError`."""
        for stride in sorted(self.output_strides()):
            self.backbone_at(common, stride)


@dataclass(frozen=True)
class CommonConfig:
    """What every network is told; `ModelConfig` explains the fields."""

    variant: VariantConfig | str
    backbone: str = "resnet101"
    resnet: ResNetOptions = section(ResNetOptions, "backbone", tuple(RESNETS))
    vgg: VGGOptions = section(VGGOptions, "backbone", ("vgg16",))
    mobilenet_v2: MobileNetV2Options = section(MobileNetV2Options, "backbone", ("mobilenet_v2",))
    width: float = 1.0
    weights: Literal["none", "imagenet"] = "none"
    backbone_weights: Path | None = None
    preprocessing: Literal["backbone", "imagenet", "caffe", "tensorflow"] = "backbone"
    batch_norm: Literal["train", "frozen", "sync"] = "train"
    align_corners: AlignCorners = True

    def backbone_at(
        self, output_stride: int, *, multi_grid: MultiGrid | None = None, extra_blocks: int = 0
    ) -> BackboneConfig:
        """The backbone for that output stride; ``multi_grid`` and ``extra_blocks``: see `BackboneConfig`."""
        return BackboneConfig(
            self.backbone,
            width=self.width,
            pretrained=self.weights == "imagenet",
            weights_file=self.backbone_weights,
            output_stride=output_stride,
            multi_grid=multi_grid,
            extra_blocks=extra_blocks,
            resnet=self.resnet,
            vgg=self.vgg,
            mobilenet_v2=self.mobilenet_v2,
        )

    def without_weights(self: "Common") -> "Common":
        """The same network from random weights, which a checkpoint then replaces."""
        return replace(self, weights="none", backbone_weights=None)

    def vgg_classifier(self) -> dict[str, Tensor] | None:
        """VGG-16's fully connected layers that fc6 and fc7 start from; None where they start at random."""
        if self.backbone_weights is not None:
            return read_classifier(self.backbone_weights)
        return imagenet_state("vgg16") if self.weights == "imagenet" else None


class Network(FreezableBatchNorm, ABC):
    """A backbone and what stands behind it.

    Attributes:
        backbone: knows its normalization (``mean`` and ``std``).
    """

    backbone: Backbone

    @abstractmethod
    def forward(self, image: NormalizedImage) -> StridedLogits:
        """Logits of a batch of normalized images."""

    @abstractmethod
    def head_parameters(self) -> Iterable[nn.Parameter]:
        """Those of its head; all others count as backbone."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The trainable parameters, each in one group, for DeepLab's learning-rate multipliers.

        ``backbone_weight``, ``backbone_bias``, ``head_weight``, ``head_bias``. The scale of batch
        normalization is a weight and its shift a bias; frozen parameters are in no group.
        """
        head = {id(parameter) for parameter in self.head_parameters()}
        groups: dict[str, list[nn.Parameter]] = {
            f"{part}_{kind}": [] for part in ("backbone", "head") for kind in ("weight", "bias")
        }
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                part = "head" if id(parameter) in head else "backbone"
                kind = "bias" if name.endswith(".bias") else "weight"
                groups[f"{part}_{kind}"].append(parameter)
        return groups
