"""What DeepLab v3 and v3+ share: modes of batch normalization, and the choice of the output stride."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from crfnet.backbones import BackboneConfig
from crfnet.config.variants import check_choices
from crfnet.errors import InputError, require
from crfnet.models.network import CommonConfig, Network, OutputStride, VariantConfig

__all__ = ["StridedConfig", "StridedNetwork"]

#: Of every convolution by name: what the output stride decides about it.
_Geometry = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class StridedConfig(VariantConfig):
    """What DeepLab v3 and v3+ have in common; they explain the fields."""

    output_stride: OutputStride = 16
    eval_output_stride: OutputStride | None = None
    multi_grid: tuple[int, int, int] | None = None
    rates: tuple[int, ...] = (6, 12, 18)
    image_pooling: bool = True
    separable: bool = False
    dropout: float = 0.5
    batch_norm_momentum: float = 0.1
    synchronizes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_choices(self, "")
        self._require("dropout", 0 <= self.dropout < 1, "in [0, 1)")
        self._require("batch_norm_momentum", 0 < self.batch_norm_momentum <= 1, "in (0, 1]")
        self._require("eval_output_stride", self.eval_output_stride in (None, 8, 16, 32), "8, 16, 32 or null")
        self._require("multi_grid", all(rate >= 1 for rate in self.multi_grid or ()), "three rates >= 1")
        even = 32 in (self.output_stride, self.eval_output_stride)
        good = all(r >= 1 and not (even and r % 2) for r in self.rates)
        self._require("rates", good, "rates >= 1, even ones for output stride 32")

    def backbone_at(self, common: CommonConfig, output_stride: int) -> BackboneConfig:
        """The backbone for that output stride."""
        return common.backbone_at(output_stride, multi_grid=self.multi_grid)

    def output_strides(self) -> set[int]:
        """That of training and that of evaluation."""
        return {self.output_stride, self.eval_output_stride or self.output_stride}

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        require(name, getattr(self, name), holds, allowed)


class StridedNetwork(Network):
    """A network whose output stride is chosen, for training and for evaluation.

    A subclass builds the rest and then calls `set_modes`.

    Attributes:
        output_stride: pixels from one cell of the backbone's features to the next, in the mode it is in.

    Args:
        config: its own part of the configuration.
        common: what all networks are told.
        num_classes: at least 2.
    """

    def __init__(self, config: StridedConfig, common: CommonConfig, num_classes: int) -> None:
        super().__init__()
        self.config, self.common, self.num_classes = config, common, num_classes
        self.output_stride: OutputStride = config.output_stride
        self._geometries: dict[int, _Geometry] = {}
        self.backbone = config.backbone_at(common, config.output_stride).build()

    def head_parameters(self) -> Iterable[nn.Parameter]:
        """All that stands behind the backbone."""
        backbone = {id(weight) for weight in self.backbone.parameters()}
        return (weight for weight in self.parameters() if id(weight) not in backbone)

    def set_modes(self) -> None:
        """Batch normalization and output stride in evaluation become those of the configuration."""
        for layer in self.modules():
            if isinstance(layer, _BatchNorm):
                layer.momentum = self.config.batch_norm_momentum
        if self.common.batch_norm == "frozen":
            self.freeze_batch_norm()
        if self.common.batch_norm == "sync":
            from timm.layers.norm_act import convert_sync_batchnorm  # knows timm's own layers

            convert_sync_batchnorm(self)
        self.train(self.training)

    def train(self, mode: bool = True) -> "StridedNetwork":
        """`nn.Module.train`; the output stride becomes that of the mode."""
        super().train(mode)
        if self.config.eval_output_stride is not None:
            self.set_output_stride(self.config.output_stride if mode else self.config.eval_output_stride)
        return self

    def set_output_stride(self, output_stride: OutputStride) -> None:
        """The same weights at another output stride, from the next image on (DeepLab v3, section 4.1).

        Every convolution gets the stride, padding and dilation of a network built for ``output_stride``. With
        ``eval_output_stride`` in the configuration, the next `train` or `eval` sets it again.

        Raises:
            InputError: the backbone cannot have that output stride with the weights that it has.
        """
        if output_stride == self.output_stride:
            return
        if not self._geometries:
            self._geometries[self.output_stride] = _geometry(self)
        if output_stride not in self._geometries:
            common = replace(self.common.without_weights(), batch_norm="train")
            config = replace(self.config, eval_output_stride=None, output_stride=output_stride)
            with torch.device("meta"):
                other = config.build(common, self.num_classes)
            if _shapes(other) != _shapes(self):
                raise InputError(
                    f"output_stride: {self.common.backbone} is built otherwise for {output_stride} than for "
                    f"{self.output_stride}, so that its weights do not serve both"
                )
            self._geometries[output_stride] = _geometry(other)
        for name, values in self._geometries[output_stride].items():
            for attribute, value in values.items():
                setattr(self.get_submodule(name), attribute, value)
        self.output_stride = output_stride


def _geometry(network: nn.Module) -> _Geometry:
    return {
        name: {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d)
    }


def _shapes(network: nn.Module) -> list[tuple[str, type, object]]:
    """Every layer that is not batch normalization, whose kind depends on the mode: name, kind, kernel."""
    return [
        (name, type(layer), cast(object, getattr(layer, "kernel_size", None)))
        for name, layer in network.named_modules()
        if not isinstance(layer, _BatchNorm)
    ]
