"""The recursive filter with gradients of values and weights, on whatever is at hand."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from crfnet import kernels
from crfnet.domain_transform import reference
from crfnet.shapes import Logits, NeighborWeights

__all__ = ["recursive_filter"]


def recursive_filter(values: Logits, weights: NeighborWeights) -> Logits:
    """Filter along rows, then columns, forth and back, once for each of k pairs of weights.

    ``y_i = (1 - w_i) x_i + w_i y_(i-1)``: Gastal & Oliveira 2011, eq. 21. In compiled code on a CPU (float32,
    float64) where numba is, in scans on a GPU that `crfnet.kernels` takes, else pixel by pixel in torch,
    which takes long and gives the same. Gradients are the recursions of Chen et al. 2016, section 3, and
    keep nothing but the input; of the first order only, where kernels run.

    Args:
        values: any channels.
        weights: in [0, 1]; those of the first column and the first row do not count.
    """
    if kernels.usable(values) or kernels.compiled(values):
        return _RecursiveFilter.apply(values, weights)  # type: ignore[no-any-return]
    return reference.recursive_filter(values, weights)


class _RecursiveFilter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(values, weights)
        if kernels.usable(values):
            from crfnet.kernels.gpu import domain_transform as gpu

            return gpu.recursive_filter(values, weights)
        from crfnet.kernels.cpu import domain_transform as cpu

        return torch.from_numpy(cpu.recursive_filter(_array(values), _array(weights)))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        values, weights = ctx.saved_tensors  # type: ignore[attr-defined]
        if kernels.usable(values):
            from crfnet.kernels.gpu import domain_transform as gpu

            return gpu.recursive_filter_gradient(values, weights, gradient)
        from crfnet.kernels.cpu import domain_transform as cpu

        arrays = cpu.recursive_filter_gradient(*map(_array, (values, weights, gradient)))
        return torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])


def _array(x: Tensor):  # type: ignore[no-untyped-def]
    return x.detach().contiguous().numpy()
