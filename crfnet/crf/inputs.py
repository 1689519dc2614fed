"""What the layer and the loss are given, as tensors on one device: numpy arrays, sequences, other devices."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from crfnet.crf.checks import check_range_argument
from crfnet.errors import InputError

__all__ = ["Array", "ImageRange", "Numbers", "accepted", "as_tensor", "beside", "mapped"]

Array: TypeAlias = npt.NDArray[Any]  #: of numpy, in place of a tensor
Numbers: TypeAlias = Sequence[Any] | float | int | np.number[Any]  #: in place of a tensor of few numbers
ImageRange: TypeAlias = Sequence[Any] | Array  #: the values of an image that are mapped to 0 and 255


def as_tensor(name: str, value: object) -> Tensor:
    """A tensor as it is; of an array or numbers their copy, or a view where torch can have one.

    Raises:
        InputError: it does not hold real numbers, or its rows differ in length.
    """
    if isinstance(value, Tensor):
        return value.to(torch.int32) if value.dtype == torch.uint16 else value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name}: a {type(value).__name__} of {array.dtype}, must hold real numbers")
    wanted = array.dtype.newbyteorder("=")
    if array.dtype.itemsize > 8:  # long double
        wanted = np.dtype(np.float64)
    elif array.dtype.kind == "u" and array.dtype.itemsize > 1:  # which torch hardly computes with
        wanted = np.dtype(np.int64)
    array = np.ascontiguousarray(array, dtype=wanted).reshape(array.shape)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def accepted(
    logits: object, image: object, options: Mapping[str, Any], module: nn.Module
) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
    """Logits, image and the keywords of `DenseCRF.forward` as tensors where the logits are.

    Args:
        logits: a tensor, or an array, which goes where the parameters of ``module`` are.
        image: likewise, or None.
        options: ``mask``, ``features``, ``spacing`` and others, which stay.
        module: the layer.
    """
    if not isinstance(logits, Tensor):
        parameter = next(module.parameters(), None)
        logits = as_tensor("logits", logits).to(None if parameter is None else parameter.device)
    given = dict(options)
    for name in ("mask", "spacing"):
        if given.get(name) is not None:
            given[name] = beside(name, given[name], logits)
    if given.get("spacing") is not None:
        given["spacing"] = _spacing(given["spacing"], logits.ndim - 2)
    if given.get("features"):
        given["features"] = {
            name: beside(f"features {name!r}", each, logits) for name, each in given["features"].items()
        }
    return logits, None if image is None else beside("image", image, logits), given


def beside(name: str, value: object, other: Tensor) -> Tensor:
    """A tensor on the device of another one; tensors without values stay where they are."""
    tensor = as_tensor(name, value)
    if tensor.is_meta or other.is_meta:
        return tensor
    # To a CPU the copy must have arrived: the host reads it at once.
    return tensor.to(other.device, non_blocking=other.device.type != "cpu")


def mapped(image: Tensor, image_range: ImageRange | None) -> Tensor:
    """A floating-point image, the range laid on 0..255 and values beyond it cut off; None leaves it alone."""
    if image_range is None:
        return image
    low, high = check_range_argument(image_range)
    return (image.clamp(low, high) - low) * (255 / (high - low))


def _spacing(spacing: Tensor, axes: int) -> Tensor:
    """Floating point; one number is that of every axis."""
    if not spacing.is_floating_point():
        spacing = spacing.to(torch.float32)
    return spacing.expand(axes) if spacing.ndim == 0 else spacing
