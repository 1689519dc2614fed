"""The Gaussian filter without approximation: time O(N^2), memory O(N), exact gradients."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from crfnet.crf.filters.contract import GaussianFilter, KernelOperator
from crfnet.crf.filters.rows import kernel_rows, row_chunks
from crfnet.shapes import Features, Grid, Mask, Values

__all__ = ["ExactFilter"]


def _filter(values: Tensor, features: Tensor) -> Tensor:
    """K v, some rows of K at a time."""
    batch, _, pixels = features.shape
    parts = [
        values @ kernel_rows(features[..., rows], features).mT for rows in row_chunks(pixels, batch, pixels)
    ]  # each (b, l, r)
    return torch.cat(parts, dim=-1)


def _grad_features(grad: Tensor, values: Tensor, features: Tensor) -> Tensor:
    """``-sum_j K_ij (f_i - f_j) (g_i . v_j + v_i . g_j)``, some rows of K at a time."""
    batch, _, pixels = features.shape
    centred = features - features.mean(-1, keepdim=True)  # summed apart below: keep them small
    left, right = torch.cat([grad, values], dim=1), torch.cat([values, grad], dim=1)
    parts = []
    for rows in row_chunks(pixels, batch, pixels):
        weight = kernel_rows(features[..., rows], features) * (left[..., rows].mT @ right)  # (b, r, n)
        parts.append(centred @ weight.mT - centred[..., rows] * weight.sum(-1).unsqueeze(1))
    return torch.cat(parts, dim=-1)


class _ExactFilter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, features: Tensor) -> Tensor:
        ctx.save_for_backward(values, features)
        return _filter(values, features)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        values, features = ctx.saved_tensors  # type: ignore[attr-defined]
        need_values, need_features = ctx.needs_input_grad  # type: ignore[attr-defined]
        grad_values = _ExactFilter.apply(grad, features) if need_values else None  # K is symmetric
        grad_features = _grad_features(grad, values, features) if need_features else None
        return grad_values, grad_features


class _ExactOperator(KernelOperator):
    def __init__(self, features: Features, mask: Mask | None) -> None:
        super().__init__(mask)
        self.features_need_grad = features.requires_grad and torch.is_grad_enabled()
        self._features = features

    def product(self, values: Values) -> Values:
        filtered: Tensor = _ExactFilter.apply(values, self._features.to(values.dtype))
        return filtered


@dataclass(frozen=True)
class ExactFilter(GaussianFilter):
    """``sum_j exp(-|f_i - f_j|^2 / 2) v_j`` by summing: any device, float32 or float64.

    Time O(N^2 (d + l)), memory a few megabytes beside the values. Differentiable in values and features; a
    second derivative of the features (``create_graph=True``) holds N x N numbers.
    """

    learns_features: ClassVar[bool] = True

    def build(self, features: Features, grid: Grid | None, mask: Mask | None) -> KernelOperator:
        """The operator of these features; see `GaussianFilter.operator`."""
        return _ExactOperator(features, mask)
