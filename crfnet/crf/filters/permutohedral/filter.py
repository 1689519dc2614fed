"""The Gaussian filter on the permutohedral lattice: O(N), approximate; theta learns from exact rows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx

from crfnet import kernels
from crfnet.crf.filters.compiled import CompiledLattice
from crfnet.crf.filters.contract import EPS, GaussianFilter, KernelOperator
from crfnet.crf.filters.permutohedral.lattice import Lattice, build_lattice
from crfnet.crf.filters.permutohedral.sampled_theta_gradient import SampledRows
from crfnet.crf.reference import permutohedral_matrix
from crfnet.errors import require
from crfnet.shapes import Channel, Features, Grid, Mask, Values

__all__ = ["PermutohedralFilter"]


class _GatherSums:
    """The lattice of a batch by torch, or by kernels on a GPU; as `CompiledLattice`."""

    def __init__(self, features: Features) -> None:
        self.sums = build_lattice(features)

    @property
    def corners(self) -> int:
        return self.sums.corners

    def filter(
        self, values: Values, transposed: bool, send: Tensor | None = None, receive: Tensor | None = None
    ) -> Values:
        filtered = _filter(values if send is None else values * send, self.sums, transposed)
        return filtered if receive is None else filtered * receive


def _filter(values: Tensor, lattice: Lattice, transposed: bool) -> Tensor:
    """The lattice applied to (b, l, n); keeps the layout in memory.

    Values that lie in memory as (b, n, l) are used as they are, others are copied to that layout and back.
    """
    batch, labels, pixels = values.shape
    table = values.mT.contiguous().view(batch * pixels, labels)
    filtered = lattice(table, transposed).view(batch, pixels, labels).mT
    return filtered.contiguous() if values.is_contiguous() else filtered


class _LatticeOperator(KernelOperator):
    def __init__(self, features: Features, mask: Mask | None, rows: int) -> None:
        super().__init__(mask)
        self.features_need_grad = features.requires_grad and torch.is_grad_enabled()
        self.features, self.exact_rows = features, SampledRows(features, mask, rows)
        self.lattice: CompiledLattice | _GatherSums
        with torch.no_grad():
            kind = CompiledLattice if kernels.compiled(features) else _GatherSums
            self.lattice = kind(features.detach())

    @cached_property
    def sums(self) -> Channel:
        """Row sums of the lattice, 1 outside the mask."""
        with torch.no_grad():
            return self.row_sums(self.features)

    def product(self, values: Values) -> Values:
        filtered: Tensor = _LatticeFilter.apply(values, self.features, self, None, None, False)
        return filtered

    def scaled(self, send: Tensor | None, receive: Tensor | None) -> Callable[[Values], Values]:
        """As of `KernelOperator`; factors without gradients become part of the filter."""
        plain = super().scaled(send, receive)
        learned = any(factor is not None and factor.requires_grad for factor in (send, receive))
        if torch.is_grad_enabled() and (self.features_need_grad or learned):
            return plain
        send, receive = self._factor(send), self._factor(receive)
        if isinstance(self.lattice, CompiledLattice):
            features = self.features.detach()

            def folded(values: Values) -> Values:
                if self.features_need_grad and torch.is_grad_enabled():
                    return plain(values)
                filtered: Tensor = _LatticeFilter.apply(values, features, self, send, receive, False)
                return filtered

            return folded
        if torch.is_grad_enabled():
            return plain
        lattice = self.lattice.sums.scaled(*(None if f is None else f.reshape(-1) for f in (send, receive)))
        return lambda values: plain(values) if torch.is_grad_enabled() else _filter(values, lattice, False)

    def _factor(self, factor: Tensor | None) -> Tensor | None:
        """A factor for each point of the batch (b, 1, n), 0 outside the mask."""
        if factor is not None:
            factor = factor.expand(len(self.features), 1, self.features.shape[2])
        if self._inside is not None:
            factor = self._inside.to(self.features) if factor is None else factor * self._inside
        return factor

    def average(self, values: Values) -> Values:
        averaged: Tensor = _LatticeAverage.apply(self._masked(values), self.features, self)
        return self._masked(averaged)


class _LatticeFilter(torch.autograd.Function):
    """``receive K (send v)``; where features need a gradient, without factors."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        values: Tensor,
        features: Tensor,
        operator: _LatticeOperator,
        send: Tensor | None,
        receive: Tensor | None,
        transposed: bool,
    ) -> Tensor:
        ctx.operator, ctx.transposed = operator, transposed  # type: ignore[attr-defined]
        ctx.factors = send, receive  # type: ignore[attr-defined]
        ctx.save_for_backward(features, *([values] if features.requires_grad else []))
        return operator.lattice.filter(values, transposed, send, receive)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        operator, (send, receive) = ctx.operator, ctx.factors  # type: ignore[attr-defined]
        features, *saved = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_values = grad_features = None
        if ctx.needs_input_grad[0]:  # type: ignore[attr-defined]
            back = not ctx.transposed  # type: ignore[attr-defined]
            grad_values = _LatticeFilter.apply(grad, features, operator, receive, send, back)
        if ctx.needs_input_grad[1]:  # type: ignore[attr-defined]
            with torch.no_grad():
                grad_features = operator.exact_rows.gradient(
                    grad if receive is None else grad * receive,
                    saved[0] if send is None else saved[0] * send,
                    operator.sums.to(grad.dtype),
                )
        return grad_values, grad_features, None, None, None, None


class _LatticeAverage(torch.autograd.Function):
    """D^-1 K v as one function: a drawn row then knows its exact row sum and average.

    Through K and its row sums apart, the error of the lattice in either would bias theta's gradient.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, features: Tensor, operator: _LatticeOperator) -> Tensor:
        ctx.operator = operator  # type: ignore[attr-defined]
        ctx.save_for_backward(values, features)
        return operator.lattice.filter(values, False, None, 1 / (operator.sums.to(values.dtype) + EPS))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        operator = ctx.operator  # type: ignore[attr-defined]
        values, features = ctx.saved_tensors  # type: ignore[attr-defined]
        need_values, need_features, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        grad_values = grad_features = None
        if need_values:
            send = 1 / (operator.sums.to(grad.dtype) + EPS)
            grad_values = _LatticeFilter.apply(grad, features, operator, send, None, True)
        if need_features:
            with torch.no_grad():
                grad_features = operator.exact_rows.gradient(grad, values)
        return grad_values, grad_features, None


@dataclass(frozen=True)
class PermutohedralFilter(GaussianFilter):
    """``sum_j exp(-|f_i - f_j|^2 / 2) v_j`` on the permutohedral lattice (Adams, Baek & Davis 2010).

    Time and memory O(N d (d + l)) for N points in all. Values come out 10 % (d = 1) to half (d = 5) too
    low; after normalization by row sums they are a few per cent off (relative L2), at single pixels by
    more. The gradient of the values is exact for the lattice (its transpose). The features' gradient is
    that of the Gaussian itself, estimated without bias from ``rows`` random rows per image and call
    (torch's global generator): too noisy for features that are learned pixel by pixel. For the average
    D^-1 K v it is exact in expectation; for the unnormalized K v the Gaussian's rows are scaled to the
    lattice's row sums. The derivative of the lattice itself is useless, even in sign.

    Attributes:
        rows: Kernel rows drawn for the gradient of the features, >= 1, per image and call; costs rows x N
            kernel values per backward pass. 32 add an eighth to the variance between images.
    """

    rows: int = 32
    learns_features: ClassVar[bool] = False
    may_be_lattice: ClassVar[bool] = True
    checks_features: ClassVar[bool] = True
    quick_pixels: ClassVar[int] = 2**18

    def __post_init__(self) -> None:
        require("rows", self.rows, self.rows >= 1, ">= 1")

    def is_lattice(self, points: int, dimensions: int, device: torch.device) -> bool:
        """Always; not a filter derived from it that builds another operator."""
        del points, dimensions, device
        return type(self).build is PermutohedralFilter.build

    def build(self, features: Features, grid: Grid | None, mask: Mask | None) -> KernelOperator:
        """The operator of these features; see `GaussianFilter.operator`.

        Raises:
            ValueError: A feature is not finite, or beyond 1e12; or there are too many for 31 bits.
        """
        return _LatticeOperator(features, mask, self.rows)

    def dense(self, features: Features, grid: Grid) -> Float[Tensor, "b n n"]:
        """`permutohedral_matrix` of the reference."""
        return torch.stack([permutohedral_matrix(one) for one in features])
