"""TF-Lite files of TensorFlow's DeepLab v3 with MobileNetV2, of any depth multiplier and output stride.

Traps: batch normalization is folded into the convolutions, so that ours must stay frozen; the image-level
branch comes first in the concatenation; ASPP of the mobile networks has no dilated branches; the input is
RGB / 127.5 - 1; everything is resized with aligned corners; channels of another multiplier than 1 are not
rounded to multiples of 8; the image is stretched to the size of the file, 513x513 or 257x257.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crfnet.backbones.mobilenet_v2 import STAGES, MobileNetV2Options, stage_channels
from crfnet.checkpoints.layouts.layout import Imported, check_fits
from crfnet.checkpoints.tflite_file import Graph, Operation, read_tflite
from crfnet.errors import InputError, require
from crfnet.models import DeepLabV3Config, ModelConfig, build_network

__all__ = ["import_tflite"]

NAME = "TF-Lite"
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
POOLS = ("AVERAGE_POOL_2D", "MEAN")
#: What computes something; everything else must be one of `PASSED`.
COMPUTED = (*CONVOLUTIONS, *POOLS, "ADD", "CONCATENATION")
#: Changes no value, or only what comes behind the scores.
PASSED = (
    *("QUANTIZE", "DEQUANTIZE", "CAST", "RESHAPE", "SQUEEZE", "RESIZE_BILINEAR"),
    *("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "SOFTMAX", "ARG_MAX"),
)
MULTIPLIERS = (1.0, 0.75, 0.5, 0.35, 0.25, 1.3, 1.4, *(step / 100 for step in range(1, 301)))


class _Layer(NamedTuple):
    """A convolution of ours and what it is in the file."""

    conv: str
    bn: str | None
    operation: Operation


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
    graph = _simplified(read_tflite(path))
    convolutions = iter([op for op in graph.operations if op.kind in CONVOLUTIONS])
    backbone, features = _backbone(graph, convolutions)
    head, rates, pooled = _head(graph, features)
    used = len(backbone) + len(head)
    count = sum(op.kind in CONVOLUTIONS for op in graph.operations)
    if used != count:
        raise InputError(f"{NAME}: {count} convolutions, of which DeepLab v3 has {used}")
    stride = math.prod(layer.operation.stride for layer in backbone)
    allowed = f"{stride}, as in the file"
    require("output stride", output_stride, output_stride in (None, stride), allowed)
    require(f"{NAME}: output stride", stride, stride in (8, 16, 32), "8, 16 or 32")
    options = _options(graph, backbone)
    resizes = [op.align_corners for op in graph.operations if op.kind == "RESIZE_BILINEAR"]
    separable = any(layer.conv.endswith(".depthwise") for layer in head)
    config = ModelConfig(
        variant=DeepLabV3Config(
            output_stride=stride,  # type: ignore[arg-type]
            rates=tuple(rate * stride // 16 for rate in rates),
            image_pooling=pooled,
            separable=separable,
            dropout=0.1,
        ),
        backbone="mobilenet_v2",
        mobilenet_v2=options,
        preprocessing="tensorflow",
        batch_norm="frozen",
        align_corners=all(resizes),
    )
    size = "x".join(map(str, graph.shapes[graph.input][1:3]))
    notes = [
        "batch normalization is folded into the weights and must stay frozen",
        f"made for images of {size}",
    ]
    notes += ["weights of 8 bits as float32"] * graph.quantized
    imported = Imported(
        what=f"{NAME}: DeepLab v3, MobileNetV2 {options.depth_multiplier:g}, output stride {stride}",
        config=config,
        num_classes=len(_bias(graph, head[-1].operation)),
        state=_state(graph, [*backbone, *head]),
        notes=tuple(notes),
    )
    check_fits(imported)
    _check_geometry(imported, [*backbone, *head])
    return imported.with_classes(num_classes)


def _simplified(graph: Graph) -> Graph:
    """Only what computes, with its inputs as of other such operations; convolutions have their dilation."""
    source: dict[int, int] = {}
    block: dict[int, int] = {}  # a dilated convolution may be a plain one on interleaved images
    kept = []
    for op in graph.operations:
        if op.kind not in COMPUTED + PASSED:
            raise InputError(f"{NAME}: {op.kind}, which no DeepLab v3 with MobileNetV2 has")
        first = source.get(op.inputs[0], op.inputs[0])
        if op.kind == "SPACE_TO_BATCH_ND":
            block[op.output] = int(graph.constants[op.inputs[1]].max())
        if op.kind in COMPUTED:
            dilation = block.get(op.inputs[0], 1)
            op = replace(
                op,
                inputs=tuple(source.get(number, number) for number in op.inputs),
                dilation=op.dilation * dilation,
                same=op.same or dilation > 1,
            )
            kept.append(op)
        else:
            kept += [op] * (op.kind == "RESIZE_BILINEAR")
            source[op.output] = first
    return replace(graph, operations=tuple(kept))


def _backbone(graph: Graph, convolutions: Iterator[Operation]) -> tuple[list[_Layer], int]:
    """The convolutions of MobileNetV2, and the tensor of its features."""
    sums = {frozenset(op.inputs): op for op in graph.operations if op.kind == "ADD"}
    layers: list[_Layer] = []
    x = graph.input

    def take(conv: str, bn: str, kind: str, activation: str) -> None:
        nonlocal x
        op = next(convolutions, None)
        if op is None or (op.kind, op.inputs[0], op.activation) != (kind, x, activation):
            raise InputError(
                f"{NAME}: no MobileNetV2 as in DeepLab: convolution {len(layers) + 1} is not its {conv}"
            )
        layers.append(_Layer(f"backbone.{conv}", f"backbone.{bn}", op))
        x = op.output

    take("conv_stem", "bn1", "CONV_2D", "relu6")
    for number, stage in enumerate(STAGES):
        for unit in range(stage.units):
            before, name = x, f"blocks.{number}.{unit}"
            if stage.expand > 1:
                take(f"{name}.conv_pw", f"{name}.bn1", "CONV_2D", "relu6")
                take(f"{name}.conv_dw", f"{name}.bn2", "DEPTHWISE_CONV_2D", "relu6")
                take(f"{name}.conv_pwl", f"{name}.bn3", "CONV_2D", "none")
            else:
                take(f"{name}.conv_dw", f"{name}.bn1", "DEPTHWISE_CONV_2D", "relu6")
                take(f"{name}.conv_pw", f"{name}.bn2", "CONV_2D", "none")
            if unit > 0:
                added = sums.get(frozenset((before, x)))
                if added is None or added.activation != "none":
                    raise InputError(
                        f"{NAME}: no MobileNetV2 as in DeepLab: {name} is not added to its input"
                    )
                x = added.output
    return layers, x


def _head(graph: Graph, features: int) -> tuple[list[_Layer], list[int], bool]:
    """The convolutions of ASPP and the classifier, the rates, and whether there is an image-level branch."""
    joins = [op for op in graph.operations if op.kind == "CONCATENATION"]
    if len(joins) != 1:
        raise InputError(
            f"{NAME}: {len(joins)} concatenations, of which DeepLab v3 has one (v3+ is not read)"
        )
    layers: list[_Layer] = []
    rates: list[int] = []
    pooled = False
    for tensor in joins[0].inputs:
        branch = _back(graph, tensor, features)
        kinds = [op.kind if op.kind not in POOLS else "pool" for op in branch]
        kernels = [graph.shapes[op.inputs[1]][1] for op in branch if op.kind in CONVOLUTIONS]
        if kinds == ["pool", "CONV_2D"] and kernels == [1]:
            layers.append(_Layer("aspp.image_pooling.conv", "aspp.image_pooling.bn", branch[1]))
            pooled = True
        elif kinds == ["CONV_2D"] and kernels == [1]:
            layers.append(_Layer("aspp.branches.0.conv", "aspp.branches.0.bn", branch[0]))
        elif (kinds, kernels) in ((["CONV_2D"], [3]), (["DEPTHWISE_CONV_2D", "CONV_2D"], [3, 1])):
            rates.append(branch[0].dilation)
            name = f"aspp.branches.{len(rates)}"
            if len(branch) == 2:
                layers.append(_Layer(f"{name}.depthwise", f"{name}.depthwise_bn", branch[0]))
            layers.append(_Layer(f"{name}.conv", f"{name}.bn", branch[-1]))
        else:
            raise InputError(f"{NAME}: no branch of ASPP: {', '.join(kinds)}")
    project = _next(graph, joins[0].output)
    classifier = _next(graph, project.output)
    if any(layer.operation.activation != "relu" for layer in layers) or project.activation != "relu":
        raise InputError(f"{NAME}: activations of ASPP, must be relu")
    require(
        f"{NAME}: activation of the classifier",
        classifier.activation,
        classifier.activation == "none",
        "none",
    )
    layers += [
        _Layer("aspp.project.conv", "aspp.project.bn", project),
        _Layer("classifier", None, classifier),
    ]
    return layers, rates, pooled


def _back(graph: Graph, tensor: int, until: int) -> list[Operation]:
    """The operations one after another from the tensor ``until`` to ``tensor``."""
    makers = {op.output: op for op in graph.operations if op.kind in COMPUTED}
    chain: list[Operation] = []
    while tensor != until:
        if tensor not in makers or len(chain) > 3:
            raise InputError(f"{NAME}: a branch of ASPP does not begin at MobileNetV2's last features")
        chain.insert(0, makers[tensor])
        tensor = makers[tensor].inputs[0]
    return chain


def _next(graph: Graph, tensor: int) -> Operation:
    """The one convolution on a tensor."""
    found = [op for op in graph.operations if op.kind in COMPUTED and tensor in op.inputs]
    if len(found) != 1 or found[0].kind != "CONV_2D":
        raise InputError(f"{NAME}: {len(found)} operations behind ASPP's, must be one convolution")
    return found[0]


def _options(graph: Graph, backbone: list[_Layer]) -> MobileNetV2Options:
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
                return MobileNetV2Options(multiplier, divisor)  # type: ignore[arg-type]
    raise InputError(f"{NAME}: MobileNetV2 with channels {found}, which no depth multiplier gives")


def _state(graph: Graph, layers: list[_Layer]) -> dict[str, Tensor]:
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


def _in_our_order(state: Mapping[str, Tensor], layers: list[_Layer]) -> Tensor:
    """ASPP's projection, whose input channels are of 1x1, of the rates and of the image's mean, in that order."""
    branches = [
        layer.conv
        for layer in layers
        if re.fullmatch(r"aspp\.(branches\.\d|image_pooling)\.conv", layer.conv)
    ]
    weight = state["aspp.project.conv.weight"]
    sizes = [len(state[f"{branch}.weight"]) for branch in branches]
    require(
        f"{NAME}: channels of ASPP's branches",
        sizes,
        sum(sizes) == weight.shape[1],
        f"{weight.shape[1]} in all",
    )
    parts = dict(zip(branches, weight.split(sizes, 1), strict=True))
    return torch.cat([parts[branch] for branch in sorted(branches)], 1)


def _bias(graph: Graph, operation: Operation) -> Tensor:
    if len(operation.inputs) < 3:
        raise InputError(
            f"{NAME}: a convolution without a bias, where batch normalization should be folded in"
        )
    return graph.constants[operation.inputs[2]]


def _check_geometry(imported: Imported, layers: list[_Layer]) -> None:
    """Strides and dilations are those of our network."""
    with torch.device("meta"):
        network = build_network(imported.config, imported.num_classes)
    for layer in layers:
        conv, op = network.get_submodule(layer.conv), layer.operation
        assert isinstance(conv, nn.Conv2d)
        ours, theirs = (conv.stride[0], conv.dilation[0]), (op.stride, op.dilation)
        require(f"{NAME}: stride and dilation of {layer.conv}", theirs, theirs == ours, str(ours))
        require(f"{NAME}: padding of {layer.conv}", op.same, op.same or conv.kernel_size == (1, 1), "SAME")
