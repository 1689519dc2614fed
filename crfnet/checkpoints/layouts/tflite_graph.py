"""Which operation of a TF-Lite graph is which convolution of DeepLab v3 with MobileNetV2."""

from dataclasses import replace
from typing import NamedTuple

from crfnet.backbones.mobilenet_v2 import STAGES
from crfnet.checkpoints.tflite_file import Graph, Operation
from crfnet.errors import InputError, require

__all__ = ["Head", "Layer", "CONVOLUTIONS", "backbone_layers", "head_layers", "simplified"]

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
POOLS = ("AVERAGE_POOL_2D", "MEAN")
#: What computes something; everything else must be one of `PASSED`.
COMPUTED = (*CONVOLUTIONS, *POOLS, "ADD", "CONCATENATION")
#: Changes no value, or only what comes behind the scores.
PASSED = (
    *("QUANTIZE", "DEQUANTIZE", "CAST", "RESHAPE", "SQUEEZE", "RESIZE_BILINEAR"),
    *("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "SOFTMAX", "ARG_MAX"),
)


class Layer(NamedTuple):
    """A convolution of ours and what it is in the file.

    Attributes:
        conv: our name of it.
        bn: our name of the batch normalization behind it; None for the classifier.
        operation: in the file.
    """

    conv: str
    bn: str | None
    operation: Operation


class Head(NamedTuple):
    """What stands behind the backbone.

    Attributes:
        layers: ASPP's branches in the order of the file's concatenation, its projection, the classifier.
        rates: of its dilated branches.
        image_pooling: it has an image-level branch.
    """

    layers: list[Layer]
    rates: list[int]
    image_pooling: bool


def simplified(graph: Graph) -> Graph:
    """Only what computes, with its inputs as of other such operations; convolutions have their dilation."""
    source: dict[int, int] = {}
    block: dict[int, int] = {}  # a dilated convolution may be a plain one on interleaved images
    kept = []
    for op in graph.operations:
        if op.kind not in COMPUTED + PASSED:
            raise InputError(f"{op.kind}: an operation that no DeepLab v3 with MobileNetV2 has")
        _check_constants(graph, op)
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


def _check_constants(graph: Graph, op: Operation) -> None:
    """Refuse convolutions whose weights, or the batch normalization folded into a bias, are not there."""
    dimensions = {**dict.fromkeys(CONVOLUTIONS, (4, 1)), "SPACE_TO_BATCH_ND": (1, 2)}.get(op.kind, ())
    found = tuple(graph.constants[number].ndim for number in op.inputs[1:] if number in graph.constants)
    if not op.inputs or (dimensions and found != dimensions):
        raise InputError(f"{op.kind} without constant weights and bias, must have both")


def backbone_layers(graph: Graph) -> tuple[list[Layer], int]:
    """The convolutions of MobileNetV2, and the tensor of its features."""
    convolutions = iter([op for op in graph.operations if op.kind in CONVOLUTIONS])
    sums = {frozenset(op.inputs): op for op in graph.operations if op.kind == "ADD"}
    layers: list[Layer] = []
    x = graph.input

    def take(conv: str, bn: str, kind: str, activation: str) -> None:
        nonlocal x
        op = next(convolutions, None)
        if op is None or (op.kind, op.inputs[0], op.activation) != (kind, x, activation):
            raise InputError(f"no MobileNetV2 as in DeepLab: convolution {len(layers) + 1} is not its {conv}")
        layers.append(Layer(f"backbone.{conv}", f"backbone.{bn}", op))
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
            added = sums.get(frozenset((before, x)))
            if unit > 0 and (added is None or added.activation != "none"):
                raise InputError(f"no MobileNetV2 as in DeepLab: {name} does not add its input")
            x = x if added is None else added.output
    return layers, x


def head_layers(graph: Graph, features: int) -> Head:
    """The convolutions of ASPP and the classifier, the rates, and whether there is an image-level branch."""
    joins = [op for op in graph.operations if op.kind == "CONCATENATION"]
    if len(joins) != 1:
        raise InputError(f"{len(joins)} concatenations, must be 1 as in DeepLab v3 (v3+ is not read)")
    layers: list[Layer] = []
    rates: list[int] = []
    pooled = False
    for tensor in joins[0].inputs:
        branch = _back(graph, tensor, features)
        kinds = [op.kind if op.kind not in POOLS else "pool" for op in branch]
        kernels = [graph.shapes[op.inputs[1]][1] for op in branch if op.kind in CONVOLUTIONS]
        if kinds == ["pool", "CONV_2D"] and kernels == [1]:
            layers.append(Layer("aspp.image_pooling.conv", "aspp.image_pooling.bn", branch[1]))
            pooled = True
        elif kinds == ["CONV_2D"] and kernels == [1]:
            layers.append(Layer("aspp.branches.0.conv", "aspp.branches.0.bn", branch[0]))
        elif (kinds, kernels) in ((["CONV_2D"], [3]), (["DEPTHWISE_CONV_2D", "CONV_2D"], [3, 1])):
            rates.append(branch[0].dilation)
            name = f"aspp.branches.{len(rates)}"
            if len(branch) == 2:
                layers.append(Layer(f"{name}.depthwise", f"{name}.depthwise_bn", branch[0]))
            layers.append(Layer(f"{name}.conv", f"{name}.bn", branch[-1]))
        else:
            raise InputError(f"no branch of ASPP: {', '.join(kinds)}")
    project = _next(graph, joins[0].output)
    classifier = _next(graph, project.output)
    layers.append(Layer("aspp.project.conv", "aspp.project.bn", project))
    layers.append(Layer("classifier", None, classifier))
    for layer in layers:
        activation, allowed = layer.operation.activation, "none" if layer.bn is None else "relu"
        require(f"activation of {layer.conv}", activation, activation == allowed, allowed)
    return Head(layers, rates, pooled)


def _back(graph: Graph, tensor: int, until: int) -> list[Operation]:
    """The operations one after another from the tensor ``until`` to ``tensor``."""
    makers = {op.output: op for op in graph.operations if op.kind in COMPUTED}
    chain: list[Operation] = []
    while tensor != until:
        if tensor not in makers or len(chain) > 3:
            raise InputError("a branch of ASPP does not begin at MobileNetV2's last features")
        chain.insert(0, makers[tensor])
        tensor = makers[tensor].inputs[0]
    return chain


def _next(graph: Graph, tensor: int) -> Operation:
    """The one convolution on a tensor."""
    found = [op for op in graph.operations if op.kind in COMPUTED and tensor in op.inputs]
    if len(found) != 1 or found[0].kind != "CONV_2D":
        raise InputError(f"{len(found)} operations behind ASPP's, must be one convolution")
    return found[0]
