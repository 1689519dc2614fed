"""The kernels of the energy as modules: each holds its weight and its bandwidths, learnable or fixed."""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from crfnet.crf.features import bilateral_features
from crfnet.crf.filters import GaussianFilter, KernelOperator
from crfnet.crf.filters.separable import SeparableGaussian
from crfnet.errors import InputError
from crfnet.shapes import Image, Values

__all__ = ["WEIGHTS", "BilateralKernel", "Kernel", "KernelWeight", "SpatialKernel", "Weights"]

Weights = Literal["scalar", "per_class", "full"]
WEIGHTS: tuple[Weights, ...] = ("scalar", "per_class", "full")


class KernelWeight(nn.Module):
    """How strongly a kernel's messages count: one number, one per class, or a full matrix over classes.

    Scalar and per-class weights are held as ``log(exp(w) - 1)`` (inverse softplus) and so stay positive in
    training; the full matrix is free, at first ``weight * I``.

    Zheng et al. 2015, section 4 (weighting filter outputs); the full matrix is that of their released code.

    Args:
        weight: initial value, > 0 (for ``full`` any number but 0).
        weights: ``scalar`` (), ``per_class`` (l,) or ``full`` (l, l).
        num_classes: number of labels l.
        learnable: whether gradients reach the weight.
    """

    def __init__(self, weight: float, *, weights: Weights, num_classes: int, learnable: bool) -> None:
        super().__init__()
        if weights not in WEIGHTS:
            raise InputError(f"KernelWeight: weights is {weights!r}, must be one of {WEIGHTS}")
        if not math.isfinite(weight) or weight == 0 or (weight < 0 and weights != "full"):
            raise InputError(f"KernelWeight: weight is {weight}, must be > 0 (instead of 0, no kernel)")
        self.weights = weights
        if weights == "full":
            raw = weight * torch.eye(num_classes)
        else:
            raw = torch.full(() if weights == "scalar" else (num_classes,), _inverse_softplus(weight))
        self.raw = nn.Parameter(raw, requires_grad=learnable)

    @property
    def value(self) -> Tensor:
        """The weight itself: (), (l,) or (l, l)."""
        raw = _at_least_float32(self.raw)
        return raw if self.weights == "full" else nn.functional.softplus(raw)

    def forward(self, messages: Values) -> Values:
        """Weighted messages: ``w m``, ``w_l m_l`` or ``sum_k W_lk m_k``."""
        value = self.value.to(messages.dtype)
        if self.weights == "full":
            return value @ messages
        return value.reshape(-1, 1) * messages


class Kernel(nn.Module, ABC):
    """One term ``w k(f_i, f_j)`` of the pairwise energy: features with bandwidths, and a weight."""

    def __init__(self, weight: KernelWeight) -> None:
        super().__init__()
        self.weight = weight

    @abstractmethod
    def operator(self, image: Image, filter: GaussianFilter) -> KernelOperator:
        """The unnormalised kernel matrix K of a batch of float images, through ``filter`` if it needs one."""

    @abstractmethod
    def parameters_by_name(self) -> dict[str, Tensor]:
        """Current weight and bandwidths under the names and in the units of the configuration."""

    def weigh(self, messages: Values) -> Values:
        """Normalised messages times the kernel's weight."""
        return self.weight(messages)  # type: ignore[no-any-return]


class BilateralKernel(Kernel):
    """Appearance: ``w1 exp(-|p_i - p_j|^2 / 2 theta_alpha^2 - |I_i - I_j|^2 / 2 theta_beta^2)``.

    Krahenbuhl & Koltun 2011, eq. 3, first term.

    Args:
        weight: initial w1, > 0.
        theta_alpha: width over positions, in pixels, > 0.
        theta_beta: width over colours, on the scale 0..255, > 0.
        weights: shape of the weight.
        num_classes: number of labels.
        learn_weight: whether gradients reach the weight.
        learn_theta: whether gradients reach the widths (held as logarithms, so they stay positive).
    """

    def __init__(
        self,
        weight: float,
        theta_alpha: float,
        theta_beta: float,
        *,
        num_classes: int,
        weights: Weights = "scalar",
        learn_weight: bool = True,
        learn_theta: bool = True,
    ) -> None:
        super().__init__(
            KernelWeight(weight, weights=weights, num_classes=num_classes, learnable=learn_weight)
        )
        self.log_theta_alpha = _log_parameter("theta_alpha", theta_alpha, learn_theta)
        self.log_theta_beta = _log_parameter("theta_beta", theta_beta, learn_theta)

    @property
    def theta_alpha(self) -> Tensor:
        """Width over positions (), in pixels."""
        return _at_least_float32(self.log_theta_alpha).exp()

    @property
    def theta_beta(self) -> Tensor:
        """Width over colours (), on the scale 0..255."""
        return _at_least_float32(self.log_theta_beta).exp()

    def operator(self, image: Image, filter: GaussianFilter) -> KernelOperator:
        """K over (position, colour), by ``filter``."""
        features = bilateral_features(
            image, self.theta_alpha.to(image.dtype), self.theta_beta.to(image.dtype)
        )
        return filter.operator(features)

    def parameters_by_name(self) -> dict[str, Tensor]:
        """w1, theta_alpha in pixels, theta_beta on the scale 0..255."""
        return {"w1": self.weight.value, "theta_alpha": self.theta_alpha, "theta_beta": self.theta_beta}


class SpatialKernel(Kernel):
    """Smoothness: ``w2 exp(-|p_i - p_j|^2 / 2 theta_gamma^2)``.

    Separable, so it is two 1-D convolutions whatever the filter.

    Krahenbuhl & Koltun 2011, eq. 3, second term.

    Args:
        weight: initial w2, > 0.
        theta_gamma: width over positions, in pixels, > 0.
        weights: shape of the weight.
        num_classes: number of labels.
        learn_weight: whether gradients reach the weight.
        learn_theta: whether gradients reach the width (held as a logarithm, so it stays positive).
    """

    def __init__(
        self,
        weight: float,
        theta_gamma: float,
        *,
        num_classes: int,
        weights: Weights = "scalar",
        learn_weight: bool = True,
        learn_theta: bool = True,
    ) -> None:
        super().__init__(
            KernelWeight(weight, weights=weights, num_classes=num_classes, learnable=learn_weight)
        )
        self.log_theta_gamma = _log_parameter("theta_gamma", theta_gamma, learn_theta)

    @property
    def theta_gamma(self) -> Tensor:
        """Width over positions (), in pixels."""
        return _at_least_float32(self.log_theta_gamma).exp()

    def operator(self, image: Image, filter: GaussianFilter) -> KernelOperator:
        """K over positions of the image's grid; neither the colours nor ``filter`` matter."""
        height, width = image.shape[-2:]
        return SeparableGaussian(height, width, self.theta_gamma.to(image.dtype))

    def parameters_by_name(self) -> dict[str, Tensor]:
        """w2, theta_gamma in pixels."""
        return {"w2": self.weight.value, "theta_gamma": self.theta_gamma}


def _log_parameter(name: str, theta: float, learnable: bool) -> nn.Parameter:
    if not (math.isfinite(theta) and theta > 0):
        raise InputError(f"{name} is {theta}, must be > 0")
    return nn.Parameter(torch.tensor(math.log(theta)), requires_grad=learnable)


def _inverse_softplus(value: float) -> float:
    return value + math.log(-math.expm1(-value))


def _at_least_float32(x: Tensor) -> Tensor:
    """A bandwidth in bfloat16 would be 1 % off."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
