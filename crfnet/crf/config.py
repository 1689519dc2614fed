"""What a dense CRF is built from, as fields of a configuration file, and named choices of them."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from crfnet.crf.compatibility import COMPATIBILITIES
from crfnet.crf.filters import FILTERS, GaussianFilter
from crfnet.crf.inference import INFERENCES, Inference
from crfnet.crf.normalization import NORMALIZATIONS
from crfnet.crf.potentials import WEIGHTS, BilateralPotential, Potential, SpatialPotential
from crfnet.errors import InputError

__all__ = ["PRESETS", "CRFConfig"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class CRFConfig:
    """Everything that a dense CRF is built from; the section ``crf:`` of a configuration file.

    The defaults are the preset ``deeplab``. Values do not carry over from one normalization to another.

    Attributes:
        w1: weight of the bilateral kernel; 0 leaves the kernel out.
        theta_alpha: its width over positions, in pixels (the DeepLab papers' sigma_alpha); infinity (.inf in
            YAML) leaves positions out.
        theta_beta: its width over colors, on the scale 0..255 (sigma_beta).
        w2: weight of the spatial kernel; 0 leaves the kernel out.
        theta_gamma: its width over positions, in pixels (sigma_gamma).
        normalization: of each kernel matrix; see the README of this package for who uses which.
        unary_weight: what the logits are multiplied with first, > 0; fixed.
        compatibility: a name of `COMPATIBILITIES`: potts, which is fixed, or one that is learned and starts
            as Potts: diagonal, symmetric or matrix (free).
        weights: one number per kernel, one per kernel and class, or a matrix per kernel.
        inference: a name of `INFERENCES`: mean_field or frank_wolfe.
        iterations: steps in evaluation mode.
        train_iterations: steps in training mode.
        damping: share of the old marginals that a step keeps, in [0, 1); mean_field only.
        regularizer: entropy or euclidean; frank_wolfe only, as are the next three.
        step: fixed, decreasing (2/(k+2)) or line_search.
        alpha: the fixed step, in (0, 1].
        lam: strength of the regularizer, in nats, > 0.
        tolerance: without gradients, stop once no marginal changes by more; 0 does all steps.
        prune: without gradients, labels whose probability is below this at every pixel are not filtered;
            0 filters all. Needs potts and weights that are not full. See `DenseCRF.forward` for the bound.
        memory: MiB, >= 1, for what is made while labels are filtered, without gradients; beyond, some labels
            are filtered after others, one at a time at least, which takes longer and gives the same up to
            rounding. null for 1024, on a GPU for an eighth of what it has. Weights full need all labels.
        recompute: in training, keep one array per step and compute the rest again in the backward pass.
        filter: a name of `FILTERS`, how the bilateral kernel is applied; the spatial one is always two 1-D
            convolutions.
        rows: kernel rows sampled per image for the gradient of theta; filters permutohedral and auto.
        eps: kernel values that may be left out; filters exact and auto.
        window: pixels along each side of the window, odd; filter local.
        pool: pixels are averaged in cells of pool x pool; filter local.
        learn_theta: whether gradients reach the widths.
        learn_weights: whether gradients reach the weights.
        learn_compatibility: whether gradients reach the compatibility matrix.

    Raises:
        InputError: a value is outside its range.
    """

    w1: float = 4.0
    theta_alpha: float = 49.0
    theta_beta: float = 5.0
    w2: float = 3.0
    theta_gamma: float = 3.0
    normalization: Literal["after", "symmetric", "before", "none"] = "after"
    unary_weight: float = 1.0
    compatibility: str = "potts"
    weights: Literal["scalar", "per_class", "full"] = "scalar"
    inference: str = "mean_field"
    iterations: int = 10
    train_iterations: int = 5
    damping: float = 0.0
    regularizer: Literal["entropy", "euclidean"] = "entropy"
    step: Literal["fixed", "decreasing", "line_search"] = "fixed"
    alpha: float = 1.0
    lam: float = 1.0
    tolerance: float = 0.0
    prune: float = 0.0
    memory: int | None = None
    recompute: bool = False
    filter: str = "permutohedral"
    rows: int = 32
    eps: float = 1e-6
    window: int = 11
    pool: int = 1
    learn_theta: bool = True
    learn_weights: bool = True
    learn_compatibility: bool = True

    def __post_init__(self) -> None:
        for name in ("theta_beta", "theta_gamma", "unary_weight"):
            value = getattr(self, name)
            self._require(name, math.isfinite(value) and value > 0, "> 0")
        self._require("theta_alpha", self.theta_alpha > 0, "> 0 (infinity leaves positions out)")
        for name in ("w1", "w2"):
            value = getattr(self, name)
            signed = self.weights == "full"
            self._require(
                name, math.isfinite(value) and (value >= 0 or signed), ">= 0 (0 leaves the kernel out)"
            )
        for name, allowed in _CHOICES.items():
            self._require(name, getattr(self, name) in allowed, f"one of {', '.join(allowed)}")
        self._require("prune", 0 <= self.prune < 1, "in [0, 1)")
        self._require("memory", self.memory is None or self.memory >= 1, ">= 1 MiB, or null")
        label_by_label = self.compatibility == "potts" and self.weights != "full"
        self._require(
            "prune", self.prune == 0 or label_by_label, "0 unless compatibility is potts and weights not full"
        )
        self._require(
            "damping", self.damping == 0 or self.inference == "mean_field", "0 unless inference is mean_field"
        )
        for build in (self.build_inference, self.build_filter):
            try:
                build()
            except ValueError as error:
                # "MeanField: damping is 2, must be .." in the words of this section
                raise InputError("crf." + str(error).split(": ", 1)[-1]) from error

    def build_kernels(self, num_classes: int) -> dict[str, Potential]:
        """The kernels whose weight is not 0, by name."""
        shared: dict[str, Any] = {
            "num_classes": num_classes,
            "weights": self.weights,
            "learn_weight": self.learn_weights,
            "learn_theta": self.learn_theta,
        }
        kernels: dict[str, Potential] = {}
        if self.w1 != 0:
            kernels["bilateral"] = BilateralPotential(self.w1, self.theta_alpha, self.theta_beta, **shared)
        if self.w2 != 0:
            kernels["spatial"] = SpatialPotential(self.w2, self.theta_gamma, **shared)
        return kernels

    def build_inference(self) -> Inference:
        """The scheme that these fields name."""
        return _built(INFERENCES[self.inference], self)

    def build_filter(self) -> GaussianFilter:
        """The filter that these fields name."""
        return _built(FILTERS[self.filter], self)

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise InputError(f"crf.{name} is {getattr(self, name)!r}, must be {allowed}")


def _built(kind: type[_T], config: CRFConfig) -> _T:
    """A frozen dataclass from those fields of the configuration that it has."""
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(config, name) for name in names if hasattr(config, name)})


_CHOICES = {
    "normalization": NORMALIZATIONS,
    "compatibility": tuple(COMPATIBILITIES),
    "weights": WEIGHTS,
    "inference": tuple(INFERENCES),
    "filter": tuple(FILTERS),
}


PRESETS: dict[str, CRFConfig] = {
    # Chen et al., DeepLab v1 and v2: per-pixel normalization of their 2011 code, Potts, w2 = theta_gamma = 3,
    # 10 iterations. w1, theta_alpha, theta_beta are those of the public run script of DeepLab-LargeFOV.
    "deeplab": CRFConfig(),
    # Zheng et al. 2015 with the released model's widths and weights (torrvision/crfasrnn): matrices 5 I and
    # 3 I, compatibility starting as Potts, 5 steps in training and 10 at test. The widths were not learned.
    "crfasrnn": CRFConfig(
        w1=5.0,
        theta_alpha=160.0,
        theta_beta=3.0,
        w2=3.0,
        theta_gamma=3.0,
        compatibility="matrix",
        weights="full",
        learn_theta=False,
    ),
    # lucasb-eyer/pydensecrf: its default normalization; widths, weights and steps are those of the
    # demonstration program of Krahenbuhl & Koltun's 2013 code.
    "pydensecrf": CRFConfig(
        w1=10.0,
        theta_alpha=80.0,
        theta_beta=13.0,
        w2=3.0,
        theta_gamma=3.0,
        normalization="symmetric",
        iterations=5,
    ),
    # Teichmann & Cipolla 2018, the defaults of their released code: window 11 on cells of 4 x 4, color
    # without position, raw kernels. Its update (1 - w) U + w (10 K_color + 3 K_position) Q with w = 0.2 is
    # written out here. Not copied: log-probabilities in the first step, zero padding at the borders; the
    # positional kernel is not pooled, and Q^0 is of 0.8 U.
    "convcrf": CRFConfig(
        w1=2.0,
        theta_alpha=math.inf,
        theta_beta=13.0,
        w2=0.6,
        theta_gamma=3.0,
        normalization="none",
        unary_weight=0.8,
        weights="per_class",
        iterations=5,
        filter="local",
        window=11,
        pool=4,
        learn_theta=False,
    ),
}
