"""Autocast of a training step, but for what is slower at lower precision: depthwise convolutions on CPUs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from crfnet.training.config import TrainConfig

__all__ = ["autocast"]

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@contextmanager
def autocast(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Run the network at ``config.precision`` inside the context; weights stay in float32.

    On CPUs depthwise convolutions are computed in float32, and their results have the lower precision:
    oneDNN's gradients of them are two to seven times slower in bfloat16 than in float32, and half the time of
    an EfficientNet's step. torch.compile is left to its own choice.
    """
    dtype = _PRECISIONS[config.precision]
    lower = dtype != torch.float32
    by_onednn = lower and device.type == "cpu" and not config.compile
    with (
        torch.autocast(device.type, dtype, enabled=lower),
        _DepthwiseInFloat32(dtype) if by_onednn else nullcontext(),
    ):
        yield


class _DepthwiseInFloat32(TorchFunctionMode):
    """Computes ``torch.conv2d`` of one input channel per group in float32; its result is a ``dtype``."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is not torch.conv2d or len(args) < 2 or not _is_depthwise(args[0], args[1]):
            return func(*args, **kwargs)
        image, weight, *others = args
        with torch.autocast("cpu", enabled=False):
            return func(image.float(), weight, *others, **kwargs).to(self._dtype)


def _is_depthwise(image: Tensor, weight: Tensor) -> bool:
    return weight.shape[1] == 1 and image.shape[-3] > 1
