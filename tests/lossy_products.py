"""Matrix products with as few digits as TF32, which `torch.set_float32_matmul_precision` allows on a GPU."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.bmm.default}


class LossyProducts(TorchDispatchMode):
    """Within, float32 factors of matrix products are rounded to 10 stored bits."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in _PRODUCTS:
            args = tuple(_rounded(factor) for factor in args)
        return function(*args, **(kwargs or {}))


def _rounded(factor: Tensor) -> Tensor:
    if factor.dtype != torch.float32:
        return factor
    bits = factor.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)
