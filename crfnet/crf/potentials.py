"""The kernels of the energy as modules: each holds its weight and its bandwidths, learnable or fixed."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from crfnet.crf.features import KernelInputs, bilateral_features, positions
from crfnet.crf.filters import GaussianFilter, KernelOperator
from crfnet.crf.filters.separable import SeparableGaussian
from crfnet.errors import InputError
from crfnet.shapes import Features, Grid, Values

__all__ = [
    "WEIGHTS",
    "BilateralPotential",
    "FeaturePotential",
    "Potential",
    "PotentialWeight",
    "SpatialPotential",
    "Weights",
]

Weights = Literal["scalar", "per_class", "full"]
WEIGHTS: tuple[Weights, ...] = ("scalar", "per_class", "full")


class PotentialWeight(nn.Module):
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
            raise InputError(f"PotentialWeight: weights is {weights!r}, must be one of {WEIGHTS}")
        if not math.isfinite(weight) or weight == 0 or (weight < 0 and weights != "full"):
            raise InputError(f"PotentialWeight: weight is {weight}, must be > 0 (instead of 0, no kernel)")
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

    def of(self, labels: Tensor | None) -> Tensor:
        """The weight itself, or for some labels: (), (l,) or (l, l)."""
        return self.value if labels is None or self.weights == "scalar" else self.value[labels]

    @staticmethod
    def weigh(messages: Values, value: Tensor) -> Values:
        """Weighted messages: ``w m``, ``w_l m_l`` or ``sum_k W_lk m_k``."""
        return value @ messages if value.ndim == 2 else value.reshape(-1, 1) * messages

    def forward(self, messages: Values) -> Values:
        """`weigh` with the current weight."""
        return self.weigh(messages, self.value.to(messages.dtype))

    def extra_repr(self) -> str:
        """What `print` shows: the weight, or of several their shape."""
        value = self.value
        return f"{value.item():.4g}" if value.ndim == 0 else f"{self.weights}, {len(value)} labels"


class Potential(nn.Module, ABC):
    """One term ``w k(f_i, f_j)`` of the pairwise energy: features with bandwidths, and a weight.

    Args:
        weight: initial value, > 0 (for ``full`` any number but 0).
        num_classes: number of labels.
        weights: shape of the weight.
        learn_weight: whether gradients reach the weight.
    """

    def __init__(
        self, weight: float, *, num_classes: int, weights: Weights = "scalar", learn_weight: bool = True
    ) -> None:
        super().__init__()
        self.weight = PotentialWeight(
            weight, weights=weights, num_classes=num_classes, learnable=learn_weight
        )

    def features(self, scene: KernelInputs) -> Features | None:
        """What the kernel is a Gaussian of, in bandwidths, where a filter applies it; else None.

        Raises:
            ValueError: the scene lacks what the kernel looks at.
        """
        del scene
        return None

    @abstractmethod
    def operator(self, scene: KernelInputs, filter: GaussianFilter) -> KernelOperator:
        """The unnormalized kernel matrix K of a batch, through ``filter`` if it needs one.

        Raises:
            ValueError: the scene lacks what the kernel looks at.
        """

    @abstractmethod
    def parameters_by_name(self) -> dict[str, Tensor]:
        """Current weight and bandwidths under the names and in the units of the configuration."""

    def extra_repr(self) -> str:
        """What `print` shows: the bandwidths."""
        thetas = (item for item in self.parameters_by_name().items() if item[0].startswith("theta"))
        return ", ".join(f"{name}={theta.item():.4g}" for name, theta in thetas)


class BilateralPotential(Potential):
    """Appearance: ``w1 exp(-|p_i - p_j|^2 / 2 theta_alpha^2 - |I_i - I_j|^2 / 2 theta_beta^2)``.

    Krahenbuhl & Koltun 2011, eq. 3, first term. Images may have any number of channels.

    Args:
        weight: initial w1, > 0.
        theta_alpha: width over positions, in pixels (in units of the scene's spacing), > 0; infinity leaves
            positions out, as ConvCRF does, and is not learned.
        theta_beta: width over colors, on the scale 0..255, > 0.
        learn_theta: whether gradients reach the widths (held as logarithms, so they stay positive).
        options: num_classes, weights and learn_weight, as of `Potential`.
    """

    def __init__(
        self,
        weight: float,
        theta_alpha: float,
        theta_beta: float,
        *,
        learn_theta: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(weight, **options)
        self.placed = theta_alpha != math.inf
        self.log_theta_alpha = _log_parameter("theta_alpha", theta_alpha, learn_theta and self.placed)
        self.log_theta_beta = _log_parameter("theta_beta", theta_beta, learn_theta)

    @property
    def theta_alpha(self) -> Tensor:
        """Width over positions (), in pixels."""
        return _at_least_float32(self.log_theta_alpha).exp()

    @property
    def theta_beta(self) -> Tensor:
        """Width over colors (), on the scale 0..255."""
        return _at_least_float32(self.log_theta_beta).exp()

    def features(self, scene: KernelInputs) -> Features:
        """(position, color) in bandwidths."""
        image = _image(scene, self)
        alpha, beta = self.theta_alpha.to(image.dtype), self.theta_beta.to(image.dtype)
        if self.placed:
            return bilateral_features(image, alpha, beta, scene.spacing)
        return image.flatten(2) / beta

    def operator(self, scene: KernelInputs, filter: GaussianFilter) -> KernelOperator:
        """K over (position, color), by ``filter``."""
        return filter.operator(self.features(scene), grid=scene.grid, mask=scene.mask)

    def parameters_by_name(self) -> dict[str, Tensor]:
        """w1, theta_alpha in pixels, theta_beta on the scale 0..255."""
        return {"w1": self.weight.value, "theta_alpha": self.theta_alpha, "theta_beta": self.theta_beta}


class SpatialPotential(Potential):
    """Smoothness: ``w2 exp(-|p_i - p_j|^2 / 2 theta_gamma^2)``, on a grid of 1, 2 or 3 axes.

    Separable, so it is an exact 1-D convolution per axis, unless a filter of its own is asked for.

    Krahenbuhl & Koltun 2011, eq. 3, second term.

    Args:
        weight: initial w2, > 0.
        theta_gamma: width over positions, in pixels (in units of the scene's spacing), > 0.
        learn_theta: whether gradients reach the width (held as a logarithm, so it stays positive).
        filter: how the kernel is applied; None for 1-D convolutions. Not the filter of the layer, which is
            that of the other kernels.
        options: num_classes, weights and learn_weight, as of `Potential`.
    """

    def __init__(
        self,
        weight: float,
        theta_gamma: float,
        *,
        learn_theta: bool = True,
        filter: GaussianFilter | None = None,
        **options: Any,
    ) -> None:
        super().__init__(weight, **options)
        self.filter = filter
        self.log_theta_gamma = _log_parameter("theta_gamma", theta_gamma, learn_theta)

    @property
    def theta_gamma(self) -> Tensor:
        """Width over positions (), in pixels."""
        return _at_least_float32(self.log_theta_gamma).exp()

    def features(self, scene: KernelInputs) -> Features:
        """Position in bandwidths."""
        theta = self.theta_gamma
        dtype = theta.dtype if scene.image is None else scene.image.dtype
        place = positions(_grid(scene), dtype=dtype, device=theta.device, spacing=scene.spacing)
        return (place / theta.to(dtype)).expand(scene.batch, -1, -1)

    def operator(self, scene: KernelInputs, filter: GaussianFilter) -> KernelOperator:
        """K over positions of the grid; neither colors nor ``filter`` matter."""
        grid = _grid(scene)
        if self.filter is not None:
            return self.filter.operator(self.features(scene), grid=grid, mask=scene.mask)
        return SeparableGaussian(grid, self.theta_gamma, spacing=scene.spacing, mask=scene.mask)

    def parameters_by_name(self) -> dict[str, Tensor]:
        """w2, theta_gamma in pixels."""
        return {"w2": self.weight.value, "theta_gamma": self.theta_gamma}


class FeaturePotential(Potential):
    """Any Gaussian: ``w exp(-(f_i - f_j)^T P (f_i - f_j) / 2)`` with a precision matrix P over d features.

    A full P over (position, color) is the general kernel of Krahenbuhl & Koltun 2013, section 3. P is held
    as its Cholesky factor with a logarithmic diagonal, so that it stays positive definite.

    Args:
        weight: initial w, > 0.
        precision: P: (d,) of a diagonal one, that is 1 / theta^2 for each feature, or (d, d).
        source: what the features are: ``"bilateral"``, (x, y, channels of the image); ``"image"``, its
            channels alone; ``"spatial"``, (x, y); else the name of features that the layer is given.
        learn_precision: whether gradients reach P. A diagonal P then stays diagonal.
        options: num_classes, weights and learn_weight, as of `Potential`.

    Raises:
        InputError: ``precision`` is not symmetric, positive definite and finite.
    """

    def __init__(
        self,
        weight: float,
        precision: Tensor | Sequence[float] | Sequence[Sequence[float]],
        *,
        source: str = "bilateral",
        learn_precision: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(weight, **options)
        given = torch.as_tensor(precision, dtype=torch.float64)
        self.source, self.full = source, given.ndim == 2
        factor = _cholesky(given)
        self.log_diagonal = nn.Parameter(
            factor.diagonal().log().float(), requires_grad=learn_precision
        )  # of the factor, so half of log P for a diagonal P
        below = factor.tril(-1).float() if self.full else None
        self.below = None if below is None else nn.Parameter(below, requires_grad=learn_precision)

    @property
    def factor(self) -> Tensor:
        """C (d, d), lower triangular, with P = C C^T."""
        diagonal = _at_least_float32(self.log_diagonal).exp().diag()
        return diagonal if self.below is None else diagonal + self.below.to(diagonal.dtype).tril(-1)

    @property
    def precision(self) -> Tensor:
        """P (d, d)."""
        return self.factor @ self.factor.mT

    def features(self, scene: KernelInputs) -> Features:
        """``C^T f``."""
        features = self._features(scene)
        if features.shape[1] != len(self.log_diagonal):
            raise ValueError(
                f"features {self.source!r}: {features.shape[1]} dimensions, must be "
                f"{len(self.log_diagonal)}, those of the kernel's precision"
            )
        factor = self.factor.to(features.dtype)
        if not self.full:
            return factor.diagonal().view(-1, 1) * features
        # By hand: a matrix product may run in reduced precision (TF32), which would misplace the points.
        parts = [row.view(-1, 1) * f.unsqueeze(1) for row, f in zip(factor, features.unbind(1), strict=True)]
        return torch.stack(parts).sum(0)

    def operator(self, scene: KernelInputs, filter: GaussianFilter) -> KernelOperator:
        """K over ``C^T f``, by ``filter``."""
        return filter.operator(self.features(scene), grid=scene.grid, mask=scene.mask)

    def _features(self, scene: KernelInputs) -> Features:
        if self.source == "bilateral":
            return bilateral_features(_image(scene, self), 1.0, 1.0, scene.spacing)
        if self.source == "image":
            return _image(scene, self).flatten(2)
        if self.source == "spatial":
            like = self.log_diagonal if scene.image is None else scene.image
            place = positions(_grid(scene), dtype=like.dtype, device=like.device, spacing=scene.spacing)
            return place.expand(scene.batch, -1, -1)
        if self.source not in scene.features:
            given = ", ".join(scene.features) or "none"
            raise ValueError(f"features: the kernel looks at {self.source!r}, given are {given}")
        return scene.features[self.source]

    def parameters_by_name(self) -> dict[str, Tensor]:
        """weight, and precision (d, d)."""
        return {"weight": self.weight.value, "precision": self.precision}


def _grid(scene: KernelInputs) -> Grid:
    if scene.grid is None:
        raise ValueError("positions: points have no grid; logits must be (b, l, h, w), with an image if 1-D")
    return scene.grid


def _image(scene: KernelInputs, kernel: Potential) -> Tensor:
    if scene.image is None:
        raise ValueError(f"image: None, but {type(kernel).__name__} looks at it; must be (b, c, h, w)")
    return scene.image


def _cholesky(precision: Tensor) -> Tensor:
    """The factor (d, d) of a diagonal (d,) or full (d, d) precision."""
    matrix = precision.diag() if precision.ndim == 1 else precision
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] > 0
    if not square or not matrix.isfinite().all() or not torch.allclose(matrix, matrix.mT):
        raise InputError(
            f"FeaturePotential: precision of shape {tuple(precision.shape)}, must be (d,) or symmetric "
            "(d, d), and finite"
        )
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(matrix)
    if info.item():
        raise InputError("FeaturePotential: precision is not positive definite; every width must be > 0")
    return factor


def _log_parameter(name: str, theta: float, learnable: bool) -> nn.Parameter:
    if not theta > 0 or (theta == math.inf and name != "theta_alpha"):
        raise InputError(f"{name} is {theta}, must be > 0")
    return nn.Parameter(torch.tensor(math.log(theta)), requires_grad=learnable)


def _inverse_softplus(value: float) -> float:
    return value + math.log(-math.expm1(-value))


def _at_least_float32(x: Tensor) -> Tensor:
    """A bandwidth in bfloat16 would be 1 % off."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
