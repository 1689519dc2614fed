"""TF-Lite files of TensorFlow's DeepLab v3 with MobileNetV2, of any depth multiplier and output stride.

Traps: batch normalization is folded into the convolutions, so that ours must stay frozen; the image-level
branch comes first in the concatenation; ASPP of the mobile networks has no dilated branches; the input is
RGB / 127.5 - 1; everything is resized with aligned corners; channels of another multiplier than 1 are not
rounded to multiples of 8; the image is stretched to the size of the file, 513x513 or 257x257.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from crfnet.backbones.mobilenet_v2 import STAGES, MobileNetV2Options, stage_channels
from crfnet.checkpoints.layouts.layout import Imported, check_fits
from crfnet.checkpoints.layouts.tflite_graph import (
    CONVOLUTIONS,
    Head,
    Layer,
    backbone_layers,
    head_layers,
    simplified,
)
from crfnet.checkpoints.tflite_file import Graph, Operation, read_tflite
from crfnet.errors import InputError, require
from crfnet.models import DeepLabV3Config, ModelConfig, build_network

__all__ = ["import_tflite"]

NAME = "TF-Lite"
#: Tried in this order: the published ones first.
MULTIPLIERS = (1.0, 0.75, 0.5, 0.35, 0.25, 1.3, 1.4, *(step / 100 for step in range(1, 301)))


def import_tflite(
    path: Path, *, output_stride: int | None = None, num_classes: int | None = None
) -> Imported:
    """The network in a TF-Lite file, with its weights by our names.

    Args:
        path: a .tflite file.
        output_stride: None, or that of the file, which tells.
        num_classes: as of `import_state`.

    Raises:
        InputError: it cannot be read, or is no DeepLab v3 with MobileNetV2; one line.
        ModuleNotFoundError: the extra ``tflite`` is not installed.
    """
    graph = simplified(read_tflite(path))
    backbone, features = backbone_layers(graph)
    head = head_layers(graph, features)
    layers = [*backbone, *head.layers]
    count = sum(op.kind in CONVOLUTIONS for op in graph.operations)
    require("number of convolutions", count, count == len(layers), f"{len(layers)} for DeepLab v3")
    config = _config(graph, backbone, head)
    stride = config.build_variant().output_strides().pop()
    allowed = f"{stride}, as in the file"
    require("output stride", output_stride, output_stride in (None, stride), allowed)
    size = "x".join(map(str, graph.shapes[graph.input][1:3]))
    notes = [
        "batch normalization is folded into the weights and must stay frozen",
        f"made for images of {size} pixels",
        *["weights of 8 bits are float32 here"] * graph.quantized,
    ]
    multiplier = config.mobilenet_v2.depth_multiplier
    imported = Imported(
        what=f"{NAME}: DeepLab v3, MobileNetV2 with multiplier {multiplier:g}, output stride {stride}",
        config=config,
        num_classes=len(_bias(graph, layers[-1].operation)),
        state=_state(graph, layers),
        notes=tuple(notes),
    )
    check_fits(imported)
    _check_geometry(imported, layers)
    return imported.with_classes(num_classes)


def _config(graph: Graph, backbone: list[Layer], head: Head) -> ModelConfig:
    """The model that computes what the file does."""
    stride = math.prod(layer.operation.stride for layer in backbone)
    require("output stride of the file", stride, stride in (8, 16, 32), "8, 16 or 32")
    variant = DeepLabV3Config(
        output_stride=stride,  # type: ignore[arg-type]
        rates=tuple(rate * stride // 16 for rate in head.rates),
        image_pooling=head.image_pooling,
        separable=any(layer.conv.endswith(".depthwise") for layer in head.layers),
        dropout=0.1,
    )
    return ModelConfig(
        variant=variant,
        backbone="mobilenet_v2",
        mobilenet_v2=_options(graph, backbone),
        preprocessing="tensorflow",
        batch_norm="frozen",
        align_corners=all(op.align_corners for op in graph.operations if op.kind == "RESIZE_BILINEAR"),
    )


def _options(graph: Graph, backbone: list[Layer]) -> MobileNetV2Options:
    """The depth multiplier whose channels are those of the stages' last convolutions."""
    last = [f"backbone.blocks.{n}.{stage.units - 1}.conv_pw" for n, stage in enumerate(STAGES)]
    found = [len(_bias(graph, backbone[0].operation))]
    found += [
        len(_bias(graph, layer.operation))
        for layer in backbone
        if layer.conv.removesuffix("l") in last and layer.operation.activation == "none"
    ]
    for divisor in (8, 1):
        for multiplier in MULTIPLIERS:
            if stage_channels(multiplier, divisor) == found:
                return MobileNetV2Options(multiplier, divisor)
    raise InputError(f"{NAME}: MobileNetV2 with channels {found}, which no depth multiplier gives")


def _state(graph: Graph, layers: list[Layer]) -> dict[str, Tensor]:
    """Weights by our names; a bias becomes the shift of a batch normalization that does nothing else."""
    state: dict[str, Tensor] = {}
    for layer in layers:
        weight, bias = graph.constants[layer.operation.inputs[1]], _bias(graph, layer.operation)
        depthwise = layer.operation.kind == "DEPTHWISE_CONV_2D"
        weight = weight.permute((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)).contiguous()
        state[f"{layer.conv}.weight"] = weight
        if layer.bn is None:
            state[f"{layer.conv}.bias"] = bias
            continue
        one = torch.ones_like(bias)
        state |= {
            f"{layer.bn}.weight": one,
            f"{layer.bn}.bias": bias,
            f"{layer.bn}.running_mean": 0 * one,
            f"{layer.bn}.running_var": one - 1e-5,  # plus eps is 1
            f"{layer.bn}.num_batches_tracked": torch.tensor(0),
        }
    state["aspp.project.conv.weight"] = _in_our_order(state, layers)
    return state


def _in_our_order(state: Mapping[str, Tensor], layers: list[Layer]) -> Tensor:
    """ASPP's projection; its input channels are those of 1x1, of the rates and of the image's mean."""
    branches = [
        layer.conv
        for layer in layers
        if re.fullmatch(r"aspp\.(branches\.\d|image_pooling)\.conv", layer.conv)
    ]
    weight = state["aspp.project.conv.weight"]
    sizes = [len(state[f"{branch}.weight"]) for branch in branches]
    require(
        "channels of ASPP's branches",
        sizes,
        sum(sizes) == weight.shape[1],
        f"{weight.shape[1]} in all",
    )
    parts = dict(zip(branches, weight.split(sizes, 1), strict=True))
    return torch.cat([parts[branch] for branch in sorted(branches)], 1)


def _bias(graph: Graph, operation: Operation) -> Tensor:
    return graph.constants[operation.inputs[2]]


def _check_geometry(imported: Imported, layers: list[Layer]) -> None:
    """Strides and dilations are those of our network."""
    with torch.device("meta"):
        network = build_network(imported.config, imported.num_classes)
    for layer in layers:
        conv, op = network.get_submodule(layer.conv), layer.operation
        assert isinstance(conv, nn.Conv2d)
        ours, theirs = (conv.stride[0], conv.dilation[0]), (op.stride, op.dilation)
        require(f"stride and dilation of {layer.conv}", theirs, theirs == ours, str(ours))
        padding = "SAME" if op.same else "VALID"
        require(f"padding of {layer.conv}", padding, op.same or conv.kernel_size == (1, 1), "'SAME'")
