"""The spatial Gaussian of a pixel grid: one 1-D convolution per axis, no lattice."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from crfnet import kernels
from crfnet.crf.filters.band_matrices import convolved, window_of
from crfnet.crf.filters.compiled import CompiledGrid, array_of, outside_graphs
from crfnet.crf.filters.contract import EPS, KernelOperator
from crfnet.shapes import Grid, Mask, Spacing, Values

__all__ = ["SeparableGaussian"]

_EQUAL = 1e-12  # of two quotients of row sums: float64's rounding


class _Averaging(NamedTuple):
    """What the average D^-1 K v takes, of every pixel (b, 1, n); and how its row sums D change with theta."""

    inside: Tensor  #: 1, and 0 outside the mask
    inverse: Tensor  #: D^-1
    common: np.ndarray  #: float64 (1 or b,): K' 1 / K 1 of most pixels
    differences: np.ndarray  #: (1 or b, n), by how much it differs: at borders and beside masked pixels
    eights: np.ndarray  #: int64 (k,), the eights of pixels in some of which it does


class SeparableGaussian(KernelOperator):
    """``K_ij = exp(-|p_i - p_j|^2 / (2 theta_gamma^2))`` over the pixels p of one grid.

    On a CPU by compiled code where that is, else by band matrices. Cost O(N l radius).

    Args:
        grid: Sizes of the axes, slowest first: (rows, columns), or 1 or 3 axes.
        theta_gamma: Bandwidth in pixels (in units of ``spacing``), > 0; a 0-d tensor gets its exact gradient
            (at a fixed radius).
        spacing: Distance between neighbors along each axis of ``grid``, for all images or each; None for 1.
        radius_in_sigmas: Where the kernel is cut off. At 5.5 the cut mass is 4e-8 of the whole per axis.
        mask: The pixels that count; None for all.

    Raises:
        ValueError: ``theta_gamma`` or ``radius_in_sigmas`` is not a finite number > 0.
    """

    def __init__(
        self,
        grid: Grid,
        theta_gamma: float | Tensor,
        *,
        spacing: Spacing | None = None,
        radius_in_sigmas: float = 5.5,
        mask: Mask | None = None,
    ) -> None:
        super().__init__(mask)
        device = theta_gamma.device if isinstance(theta_gamma, Tensor) else None
        if spacing is None:
            apart = torch.ones(1, len(grid), device=device, dtype=torch.float64)
        else:
            apart = spacing.view(-1, len(grid)).to(device, torch.float64)
        width = torch.as_tensor(theta_gamma, dtype=torch.float64, device=apart.device).detach()
        bandwidth, *closest = torch.cat([width.view(1), apart.amin(0)]).tolist()  # one wait for a GPU
        for name, value in (("theta_gamma", bandwidth), ("radius_in_sigmas", radius_in_sigmas)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}, must be a finite number > 0")
        self.features_need_grad = (
            isinstance(theta_gamma, Tensor) and theta_gamma.requires_grad and torch.is_grad_enabled()
        )
        theta = theta_gamma if isinstance(theta_gamma, Tensor) else width
        self._theta = theta if self.features_need_grad else theta.detach()
        self._grid, self._apart = grid, apart
        self._radii = [
            min(math.ceil(radius_in_sigmas * bandwidth / distance), size)
            for distance, size in zip(closest, grid, strict=True)
        ]
        self._compiled = (
            CompiledGrid(grid, self._radii, apart, bandwidth) if kernels.compiled(apart) else None
        )
        self._windows = None if self._compiled else self._windows_of(self._theta)  # once, not in every step
        self._averaging: dict[tuple[torch.dtype, int], _Averaging] = {}

    def product(self, values: Values) -> Values:
        """``out_i = sum_j K_ij v_j``; see `KernelOperator`. Keeps the layout where torch computes."""
        if self._compiled and kernels.compiled(values):
            filtered: Tensor = _GridFilter.apply(values, self._theta, self, None, None)
            return filtered
        windows = self._windows_of(self._theta) if self._windows is None else self._windows
        return self._convolved(values, windows)

    def scaled(self, send: Tensor | None, receive: Tensor | None) -> Callable[[Values], Values]:
        """As of `KernelOperator`; factors without gradients become part of the filter."""
        plain = super().scaled(send, receive)
        learned = any(factor is not None and factor.requires_grad for factor in (send, receive))
        if not self._compiled or (torch.is_grad_enabled() and (self.features_need_grad or learned)):
            return plain
        theta = self._theta.detach()
        if self._inside is not None:
            send, receive = (
                self._inside if factor is None else factor * self._inside for factor in (send, receive)
            )

        def apply(values: Values) -> Values:
            if not kernels.compiled(values) or (torch.is_grad_enabled() and self.features_need_grad):
                return plain(values)
            filtered: Tensor = _GridFilter.apply(values, theta, self, send, receive)
            return filtered

        return apply

    def average(self, values: Values) -> Values:
        """As of `KernelOperator`."""
        if not self._compiled or not kernels.compiled(values):
            return super().average(values)
        averaged: Tensor = _GridAverage.apply(self._masked(values), self._theta, self)
        return self._masked(averaged)

    def averaging(self, like: Values) -> _Averaging:
        """What the average takes of values like these, made once."""
        key = like.dtype, len(like)
        if key not in self._averaging:
            self._averaging[key] = outside_graphs(self._make_averaging, like)
        return self._averaging[key]

    @torch.no_grad()
    def _make_averaging(self, like: Values) -> _Averaging:
        assert self._compiled is not None
        inside = self.ones(like)
        if self._inside is None:
            sums, changes = self._compiled.row_sums()
            differences = changes - self._compiled.whole_change()[:, None]
        else:
            ones = inside.double()
            sums, slopes = (
                array_of(f(ones)[:, 0]) for f in (self._compiled.filter, self._compiled.derivative)
            )
            differences = slopes / (sums + EPS) - self._compiled.whole_change()[:, None]
            differences *= array_of(ones[:, 0])
        differences[np.abs(differences) <= _EQUAL * self._compiled.whole_change().max()] = 0
        return _Averaging(
            inside,
            torch.from_numpy(1 / (sums + EPS)).to(like.dtype).unsqueeze(1).expand_as(inside).contiguous(),
            self._compiled.whole_change(),
            differences.astype(array_of(like[:0]).dtype),
            np.unique(np.nonzero(differences)[1] // 8),
        )

    def by_torch(self, values: Values, theta: Tensor, averaged: bool = False) -> Values:
        """`product` or `average` of a bandwidth of the same radius, differentiable to any order."""
        if averaged:
            values = torch.cat([values, self.ones(values)], dim=1)
        filtered = self._convolved(values, self._windows_of(theta))
        return filtered[:, :-1] / (filtered[:, -1:] + EPS) if averaged else filtered

    def _windows_of(self, theta: Tensor) -> list[Tensor]:
        return [window_of(radius, self._apart[:, axis], theta) for axis, radius in enumerate(self._radii)]

    def _convolved(self, values: Values, windows: list[Tensor]) -> Values:
        return convolved(values, self._grid, self._radii, [window.to(values) for window in windows])


class _GridFilter(torch.autograd.Function):
    """``receive K (send v)``; where theta needs a gradient, without factors."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        values: Tensor,
        theta: Tensor,
        operator: SeparableGaussian,
        send: Tensor | None,
        receive: Tensor | None,
    ) -> Tensor:
        ctx.operator, ctx.factors = operator, (send, receive)  # type: ignore[attr-defined]
        ctx.save_for_backward(theta, *([values] if theta.requires_grad else []))
        assert operator._compiled is not None
        return operator._compiled.filter(values, send, receive)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        theta, *saved = ctx.saved_tensors  # type: ignore[attr-defined]
        operator, (send, receive) = ctx.operator, ctx.factors  # type: ignore[attr-defined]
        need_values, need_theta, *_ = ctx.needs_input_grad  # type: ignore[attr-defined]
        if not need_theta:  # K is symmetric
            grad_values = _GridFilter.apply(grad, theta, operator, receive, send) if need_values else None
            return grad_values, None, None, None, None
        (values,) = saved
        if _by_torch(operator):
            both = _gradients_by_torch(grad, values, theta, operator, False, need_values)
            return *both, None, None, None
        one = torch.ones_like(values[:, :1])
        grad_values, slope = operator._compiled.filter_with_slope(grad, values, one, one, np.zeros(1))
        return grad_values, theta.new_tensor(slope), None, None, None


class _GridAverage(torch.autograd.Function):
    """D^-1 K v as one function: its row sums are made once, and their slope is part of theta's sum."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, theta: Tensor, operator: SeparableGaussian) -> Tensor:
        ctx.operator = operator  # type: ignore[attr-defined]
        about = operator.averaging(values)
        assert operator._compiled is not None
        averaged = operator._compiled.filter(values, about.inside, about.inverse)
        ctx.save_for_backward(theta, *([values, averaged] if theta.requires_grad else []))
        return averaged

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        theta, *saved = ctx.saved_tensors  # type: ignore[attr-defined]
        operator = ctx.operator  # type: ignore[attr-defined]
        need_values, need_theta, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        about = operator.averaging(grad)
        if not need_theta:
            grad_values = None
            if need_values:
                grad_values = _GridFilter.apply(grad, theta, operator, about.inverse, about.inside)
            return grad_values, None, None
        values, averaged = saved
        if _by_torch(operator):
            return *_gradients_by_torch(grad, values, theta, operator, True, need_values), None
        grad_values, slope = operator._compiled.filter_with_slope(
            grad, values, about.inverse, about.inside, about.common
        )
        slope -= outside_graphs(_sum_of_some, grad, averaged, about)
        return grad_values, theta.new_tensor(slope), None


def _sum_of_some(grad: Tensor, averaged: Tensor, about: _Averaging) -> float:
    """What theta's gradient lacks of the pixels whose row sums change as those of few others do."""
    from crfnet.kernels.cpu.theta_gamma import sum_of_some

    return sum_of_some(array_of(grad), array_of(averaged), about.eights, about.differences)


def _by_torch(operator: SeparableGaussian) -> bool:
    """Whether torch differentiates: for a second derivative, and on three axes."""
    assert operator._compiled is not None
    return torch.is_grad_enabled() or not operator._compiled.sums_theta


def _gradients_by_torch(
    grad: Tensor, values: Tensor, theta: Tensor, operator: SeparableGaussian, averaged: bool, both: bool
) -> tuple[Tensor | None, Tensor]:
    """Those of values, where ``both`` are asked for, and of theta; differentiable where gradients are on."""
    create_graph = torch.is_grad_enabled()
    if not create_graph:
        values, theta = values.detach().requires_grad_(both), theta.detach().requires_grad_()
    with torch.enable_grad():
        out = operator.by_torch(values, theta, averaged)
        inputs = (values, theta) if both else (theta,)
        *first, grad_theta = torch.autograd.grad(out, inputs, grad, create_graph=create_graph)
    return first[0] if both else None, grad_theta
