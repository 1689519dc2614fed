"""Small TF-Lite files of DeepLab v3 with MobileNetV2, as TensorFlow's converter writes them."""

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tflite
import torch
from torch import Tensor, nn

from crfnet.backbones.inverted_residual import InvertedResidualNetwork
from crfnet.models.deeplab_v3 import DeepLabV3

TYPES = {np.dtype(np.float32): 0, np.dtype(np.float16): 1, np.dtype(np.int32): 2, np.dtype(np.int8): 9}


class Writer:
    """Operations and constants in their order, and then the file.

    Args:
        storage: of weights: float32, float16 (behind DEQUANTIZE), int8 with a scale for every channel.
        interleave: dilated convolutions as plain ones between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND.
    """

    def __init__(self, storage: str = "float32", *, interleave: bool = False) -> None:
        self.builder = flatbuffers.Builder(1 << 20)
        self.storage, self.interleave = storage, interleave
        self.buffers, self.tensors, self.operations = [self.table("Buffer")], [], []
        self.codes: list[str] = []
        self.shapes: list[tuple[int, ...]] = []

    def table(self, kind: str, **fields: Any) -> int:
        getattr(tflite, f"{kind}Start")(self.builder)
        for name, value in fields.items():
            getattr(tflite, f"{kind}Add{name}")(self.builder, value)
        return getattr(tflite, f"{kind}End")(self.builder)

    def offsets(self, values: list[int]) -> int:
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependUOffsetTRelative(value)
        return self.builder.EndVector()

    def numbers(self, values: Any, dtype: Any = np.int32) -> int:
        return self.builder.CreateNumpyVector(np.asarray(values, dtype=dtype))

    def tensor(self, shape: tuple[int, ...], array: Any = None, scales: Any = None, axis: int = 0) -> int:
        """A new tensor; a constant where there is an array."""
        fields = {"Shape": self.numbers(shape), "Type": 0, "Buffer": 0}
        if array is not None:
            data = self.builder.CreateNumpyVector(np.frombuffer(array.tobytes(), np.uint8))
            self.buffers.append(self.table("Buffer", Data=data))
            fields |= {"Type": TYPES[array.dtype], "Buffer": len(self.buffers) - 1}
        if scales is not None:
            vectors = {"Scale": self.numbers(scales, np.float32)}
            vectors["ZeroPoint"] = self.numbers(np.zeros(len(scales)), np.int64)
            fields["Quantization"] = self.table("QuantizationParameters", **vectors, QuantizedDimension=axis)
        fields["Name"] = self.builder.CreateString(f"tensor{len(self.tensors)}")
        self.tensors.append(self.table("Tensor", **fields))
        self.shapes.append(shape)
        return len(self.tensors) - 1

    def weights(self, array: Any, axis: int = 0) -> int:
        if self.storage == "int8":
            scales = np.abs(array).max(tuple(i for i in range(array.ndim) if i != axis)) / 127
            shape = [-1 if i == axis else 1 for i in range(array.ndim)]
            return self.tensor(
                array.shape, np.round(array / scales.reshape(shape)).astype(np.int8), scales, axis
            )
        if self.storage == "float16":
            half = self.tensor(array.shape, array.astype(np.float16))
            return self.operation("DEQUANTIZE", [half], array.shape)
        return self.tensor(array.shape, array)

    def operation(self, kind: str, inputs: list[int], shape: tuple[int, ...], options: Any = ("", {})) -> int:
        name, fields = options
        output = self.tensor(shape)
        if kind not in self.codes:
            self.codes.append(kind)
        vectors = {"Inputs": self.numbers(inputs), "Outputs": self.numbers([output])}
        if name:
            vectors["BuiltinOptions"] = self.table(name, **fields)
            vectors["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, name)
        self.operations.append(self.table("Operator", OpcodeIndex=self.codes.index(kind), **vectors))
        return output

    def convolution(self, x: int, conv: nn.Conv2d, bn: nn.Module | None, activation: str = "none") -> int:
        """A convolution with batch normalization folded into it."""
        weight, bias = folded(conv, bn)
        depthwise = conv.groups > 1
        array = weight.permute((1, 2, 3, 0) if depthwise else (0, 2, 3, 1)).contiguous().numpy()
        (rate, _), (stride, _) = conv.dilation, conv.stride
        rows, columns = (-(-size // stride) for size in self.shapes[x][1:3])
        shape = (1, rows, columns, conv.out_channels)
        interleave = self.interleave and rate > 1
        if interleave:
            block = self.tensor((2,), np.array([rate, rate], np.int32))
            rest = [[rate, rate + -size % rate] for size in (rows, columns)]
            pads = self.tensor((2, 2), np.array(rest, np.int32))
            size = [-(-(n + 2 * rate) // rate) for n in (rows, columns)]
            x = self.operation("SPACE_TO_BATCH_ND", [x, block, pads], (rate**2, *size, self.shapes[x][3]))
            shape = (rate**2, *(n - 2 for n in size), conv.out_channels)
        fields = {
            "Padding": int(interleave),  # SAME, or VALID
            "StrideH": stride,
            "StrideW": stride,
            "DilationHFactor": 1 if interleave else rate,
            "DilationWFactor": 1 if interleave else rate,
            "FusedActivationFunction": {"none": 0, "relu": 1, "relu6": 3}[activation],
        }
        kind = ("CONV_2D", "Conv2DOptions")
        if depthwise:
            kind, fields = ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"), fields | {"DepthMultiplier": 1}
        inputs = [x, self.weights(array, 3 if depthwise else 0), self.tensor(bias.shape, bias.numpy())]
        x = self.operation(kind[0], inputs, shape, (kind[1], fields))
        if interleave:
            crops = self.tensor((2, 2), np.array([[0, -size % rate] for size in (rows, columns)], np.int32))
            x = self.operation("BATCH_TO_SPACE_ND", [x, block, crops], (1, rows, columns, conv.out_channels))
        return x

    def resize(self, x: int, size: tuple[int, int]) -> int:
        inputs = [x, self.tensor((2,), np.array(size, np.int32))]
        shape = (1, *size, self.shapes[x][3])
        return self.operation(
            "RESIZE_BILINEAR", inputs, shape, ("ResizeBilinearOptions", {"AlignCorners": True})
        )

    def finish(self, path: Path, x: int, y: int) -> Path:
        codes = []
        for kind in self.codes:
            number = getattr(tflite.BuiltinOperator, kind)
            codes.append(
                self.table("OperatorCode", DeprecatedBuiltinCode=number, BuiltinCode=number, Version=1)
            )
        fields = {"Tensors": self.offsets(self.tensors), "Operators": self.offsets(self.operations)}
        ends = {"Inputs": self.numbers([x]), "Outputs": self.numbers([y])}
        graph = self.table("SubGraph", **fields, **ends)
        vectors = {"OperatorCodes": self.offsets(codes), "Subgraphs": self.offsets([graph])}
        model = self.table("Model", Version=3, **vectors, Buffers=self.offsets(self.buffers))
        self.builder.Finish(model, b"TFL3")
        path.write_bytes(self.builder.Output())
        return path


def folded(conv: nn.Conv2d, bn: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the batch normalization behind it in one."""
    if bn is None:
        return conv.weight.detach(), conv.bias.detach()
    factor = bn.weight / (bn.running_var + bn.eps).sqrt()
    return (conv.weight * factor[:, None, None, None]).detach(), (bn.bias - factor * bn.running_mean).detach()


def write_deeplab(network: DeepLabV3, path: Path, size: int, writer: Writer | None = None) -> Path:
    """The network for images of ``size`` x ``size`` as a file, whose scores are at the size of the image."""
    writer = writer or Writer()
    backbone: Any = network.backbone
    assert isinstance(backbone, InvertedResidualNetwork)
    image = writer.tensor((1, size, size, 3))
    x = writer.convolution(image, backbone.conv_stem, backbone.bn1, "relu6")
    for unit in (unit for units in backbone.blocks for unit in units):
        before = x
        if unit.expands:
            x = writer.convolution(x, unit.conv_pw, unit.bn1, "relu6")
            x = writer.convolution(x, unit.conv_dw, unit.bn2, "relu6")
            x = writer.convolution(x, unit.conv_pwl, unit.bn3)
        else:
            x = writer.convolution(x, unit.conv_dw, unit.bn1, "relu6")
            x = writer.convolution(x, unit.conv_pw, unit.bn2)
        if unit.adds_input:
            x = writer.operation("ADD", [x, before], writer.shapes[x], ("AddOptions", {}))
    y = _head(writer, network, x)
    y = writer.resize(y, (size, size))
    return writer.finish(path, image, y)


def _head(writer: Writer, network: Any, x: int) -> int:
    aspp, (_, rows, columns, channels) = network.aspp, writer.shapes[x]
    branches = []
    if aspp.image_pooling is not None:
        window = {
            "FilterHeight": rows,
            "FilterWidth": columns,
            "StrideH": rows,
            "StrideW": columns,
            "Padding": 1,
        }
        mean = writer.operation("AVERAGE_POOL_2D", [x], (1, 1, 1, channels), ("Pool2DOptions", window))
        mean = writer.convolution(mean, aspp.image_pooling.conv, aspp.image_pooling.bn, "relu")
        branches.append(writer.resize(mean, (rows, columns)))
    for branch in aspp.branches:
        y = x
        if hasattr(branch, "depthwise"):
            y = writer.convolution(y, branch.depthwise, branch.depthwise_bn, "relu")
        branches.append(writer.convolution(y, branch.conv, branch.bn, "relu"))
    shape = (1, rows, columns, sum(writer.shapes[branch][3] for branch in branches))
    joined = writer.operation("CONCATENATION", branches, shape, ("ConcatenationOptions", {"Axis": 3}))
    # The image comes first in the file, so that the projection's channels are in another order there.
    project, last = aspp.project, len(aspp.branches) * 256
    moved = nn.Conv2d(project.conv.in_channels, 256, 1, bias=False)
    order = [*range(last, project.conv.in_channels), *range(last)]
    moved.weight = nn.Parameter(project.conv.weight[:, order])
    y = writer.convolution(joined, moved, project.bn, "relu")
    return writer.convolution(y, network.classifier, None)


def randomized(network: DeepLabV3) -> DeepLabV3:
    """Every parameter and statistic another number than at the start, in evaluation mode."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.5)
            nn.init.normal_(layer.running_mean, std=0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    nn.init.normal_(network.classifier.weight, std=0.1)
    nn.init.normal_(network.classifier.bias)
    return network.eval()


@torch.no_grad()
def scores_at_image_size(network: DeepLabV3, image: Tensor) -> Tensor:
    """What the file computes of a normalized image."""
    return nn.functional.interpolate(network(image), image.shape[2:], mode="bilinear", align_corners=True)
