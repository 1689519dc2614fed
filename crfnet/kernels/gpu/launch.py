"""What the launches of all kernels share: argument checks, block sizes, options of the compiler."""

import torch
from torch import Tensor

__all__ = ["OPTIONS", "channel_block", "check_floats", "power_of_2"]

OPTIONS = {"enable_fp_fusion": True}  #: multiply and add in one instruction; said, since defaults differ

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def power_of_2(number: int) -> int:
    """The smallest power of 2 that is not below ``number`` >= 1."""
    return 1 << (number - 1).bit_length()


def channel_block(channels: int, smallest: int, largest: int) -> int:
    """How many channels one program takes: all if they are few, else ``largest``; a power of 2."""
    return min(max(power_of_2(channels), smallest), largest)


def check_floats(**tensors: Tensor) -> None:
    """Refuses tensors of other types than float32, bfloat16 and float16.

    Raises:
        ValueError: names the tensor and its type.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _FLOATS:
            raise ValueError(f"{name} is {tensor.dtype}; kernels take float32, bfloat16 and float16")
