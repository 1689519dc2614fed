"""Matrix products with as few digits as TF32, which `torch.set_float32_matmul_precision` allows on a GPU."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
#: With how many arguments stand before the factors.
_PRODUCTS = {
    _ATEN.mm.default: 0,
    _ATEN.bmm.default: 0,
    _ATEN.addmm.default: 1,
    _ATEN.baddbmm.default: 1,
    _ATEN.baddbmm_.default: 1,
}


class LossyProducts(TorchDispatchMode):
    """Within, float32 factors of matrix products are rounded to 10 stored bits."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in _PRODUCTS:
            first = _PRODUCTS[function]
            args = (*args[:first], *map(_rounded, args[first:]))
        return function(*args, **(kwargs or {}))


def _rounded(factor: Tensor) -> Tensor:
    if factor.dtype != torch.float32:
        return factor
    bits = factor.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)
