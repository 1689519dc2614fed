"""TF-Lite files: the operations of a network and its weights, quantized or not, as float32."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crfnet.errors import InputError, needing, require
from crfnet.files import regular

__all__ = ["Graph", "Operation", "read_tflite"]

Array: TypeAlias = NDArray[Any]

#: Of `tflite.TensorType`: those that weights are stored in.
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64, 7: np.int16, 9: np.int8}
_MAX_SHARED_BYTES = 2**26  #: beyond those of the file: constants may be the same part of it
#: Of `tflite.ActivationFunctionType`.
ACTIVATIONS = {0: "none", 1: "relu", 3: "relu6"}
#: The class in `tflite` with an operation's options.
OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "ADD": "AddOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
}


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        kind: TF-Lite's name of it, e.g. ``CONV_2D``.
        inputs: numbers of tensors; those that are left out are none.
        output: number of the tensor that it makes, the first if there are several.
        stride: of a convolution.
        dilation: of a convolution.
        same: a convolution is padded so that the map keeps its size, but for the stride.
        activation: behind it: none, relu or relu6.
        align_corners: of a resize.
    """

    kind: str
    inputs: tuple[int, ...]
    output: int
    stride: int = 1
    dilation: int = 1
    same: bool = True
    activation: str = "none"
    align_corners: bool = True


@dataclass(frozen=True)
class Graph:
    """A network.

    Attributes:
        operations: in the order in which they run.
        constants: weights and other constants by the number of their tensor, float32 where they were
            quantized.
        shapes: of all tensors, channels last.
        input: number of the image's tensor.
        quantized: weights were stored with less than 16 bits.
    """

    operations: tuple[Operation, ...]
    constants: Mapping[int, Tensor]
    shapes: Mapping[int, tuple[int, ...]]
    input: int
    quantized: bool


def read_tflite(path: Path) -> Graph:
    """The network in a .tflite file; nothing in it is run.

    Raises:
        InputError: missing, damaged, or of more than one graph; one line, which does not name the file.
        ModuleNotFoundError: the extra ``tflite`` is not installed.
    """
    with needing(f"{path}: a TF-Lite file"):
        import tflite

    try:
        content = regular(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})") from error
    if content[4:8] != b"TFL3":
        raise InputError("damaged, or no TF-Lite file")
    try:
        model = tflite.Model.GetRootAsModel(content, 0)
        graphs = model.SubgraphsLength()
        require("number of graphs", graphs, graphs == 1, "1")
        return _graph(model, model.Subgraphs(0), len(content) + _MAX_SHARED_BYTES)
    except InputError:
        raise
    except Exception as error:  # offsets that point anywhere raise anything at all
        raise InputError(f"damaged TF-Lite file ({type(error).__name__})") from error


def _graph(model: Any, graph: Any, most: int) -> Graph:
    """The network, whose constants may fill as many bytes as ``most``."""
    tensors = [graph.Tensors(number) for number in range(graph.TensorsLength())]
    arrays: dict[int, Array] = {}
    for number, tensor in enumerate(tensors):
        if (array := _stored(model, tensor)) is not None:
            arrays[number], most = array, most - array.nbytes
        if most < 0:
            raise InputError("its constants would fill many times the bytes of the file")
    constants = {number: _dequantized(array, tensors[number]) for number, array in arrays.items()}
    operations = []
    for number in range(graph.OperatorsLength()):
        operation = _operation(model, graph.Operators(number))
        if operation.kind == "DEQUANTIZE" and operation.inputs[0] in constants:  # half precision
            constants[operation.output] = constants[operation.inputs[0]]
        else:
            operations.append(operation)
    return Graph(
        operations=tuple(operations),
        constants=constants,
        shapes={number: _numbers(tensor.ShapeAsNumpy()) for number, tensor in enumerate(tensors)},
        input=int(graph.Inputs(0)),
        quantized=any(array.dtype in (np.int8, np.uint8) and array.ndim == 4 for array in arrays.values()),
    )


def _operation(model: Any, operator: Any) -> Operation:
    import tflite

    code = model.OperatorCodes(operator.OpcodeIndex())
    # Files from before there were more than 127 operations have the first alone.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    kind = tflite.BUILTIN_OPCODE2NAME.get(number, f"operation {number}")
    inputs = tuple(i for i in _numbers(operator.InputsAsNumpy()) if i >= 0)
    plain = Operation(kind, inputs, _numbers(operator.OutputsAsNumpy())[0])
    if kind not in OPTIONS or operator.BuiltinOptions() is None:
        return plain
    options = getattr(tflite, OPTIONS[kind])()
    options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
    if kind == "RESIZE_BILINEAR":
        return Operation(kind, inputs, plain.output, align_corners=bool(options.AlignCorners()))
    function = options.FusedActivationFunction()
    activation = ACTIVATIONS.get(function, f"activation {function}")
    if kind == "ADD":
        return Operation(kind, inputs, plain.output, activation=activation)
    return Operation(
        kind,
        inputs,
        plain.output,
        stride=_alike(options.StrideH(), options.StrideW(), "stride"),
        dilation=_alike(options.DilationHFactor(), options.DilationWFactor(), "dilation"),
        same=options.Padding() == tflite.Padding.SAME,
        activation=activation,
    )


def _alike(rows: int, columns: int, what: str) -> int:
    require(f"{what} of a convolution", (rows, columns), rows == columns, "the same in both directions")
    return rows


def _stored(model: Any, tensor: Any) -> Array | None:
    """A constant as it is in the file; None for what is computed."""
    data = model.Buffers(tensor.Buffer()).DataAsNumpy()
    if not isinstance(data, np.ndarray):
        return None
    if tensor.Type() not in DTYPES:
        raise InputError(f"type of a tensor is {tensor.Type()}, must be floating point or of 8 to 64 bits")
    shape = _numbers(tensor.ShapeAsNumpy())
    array: Array = np.frombuffer(data.tobytes(), DTYPES[tensor.Type()])
    require("numbers of a tensor", array.size, array.size == math.prod(shape), str(math.prod(shape)))
    return array.reshape(shape)


def _dequantized(array: Array, tensor: Any) -> Tensor:
    """``(q - zero_point) * scale``, with scales of the whole tensor or of one of its axes."""
    quantization = tensor.Quantization()
    if quantization is None or not quantization.ScaleLength():
        return torch.from_numpy(array.astype(np.float32 if array.dtype == np.float16 else array.dtype))
    shape = [1] * array.ndim
    if quantization.ScaleLength() > 1:
        shape[quantization.QuantizedDimension()] = -1
    scale = quantization.ScaleAsNumpy().astype(np.float64).reshape(shape)
    zero = 0 if not quantization.ZeroPointLength() else quantization.ZeroPointAsNumpy().reshape(shape)
    return torch.from_numpy(((array.astype(np.float64) - zero) * scale).astype(np.float32))


def _numbers(array: Any) -> tuple[int, ...]:
    return tuple(int(number) for number in array) if isinstance(array, np.ndarray) else ()
