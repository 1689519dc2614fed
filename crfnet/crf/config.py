"""What a dense CRF is built from, as fields of a configuration file, and named choices of them."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from crfnet.config.variants import check_choices, free, variant
from crfnet.crf.compatibility import COMPATIBILITIES
from crfnet.crf.filters import FILTERS, GaussianFilter, LocalFilter
from crfnet.crf.inference import INFERENCES, Inference
from crfnet.crf.potentials import BilateralPotential, Potential, SpatialPotential
from crfnet.errors import require

__all__ = ["MAX_ITERATIONS", "PRESETS", "CRFConfig"]

MAX_ITERATIONS = 10_000  #: steps; no scheme changes anything after some hundred, and each takes its time
_LEAST, _MOST = 1e-6, 1e30  #: widths whose products are numbers in float32
_HEAVIEST = 1e6  #: weights whose logits still tell marginals apart in float32, a tenth or so


@dataclass(frozen=True)
class CRFConfig:
    """Everything that a dense CRF is built from; the section ``crf:`` of a configuration file.

    The defaults are the preset ``deeplab``. Values do not carry over from one normalization to another.

    Attributes:
        w1: weight of the bilateral potential; 0 leaves it out.
        theta_alpha: its width over positions, in pixels (the DeepLab papers' sigma_alpha); infinity (.inf in
            YAML) leaves positions out.
        theta_beta: its width over colors, on the scale 0..255 (sigma_beta).
        w2: weight of the spatial potential; 0 leaves it out.
        theta_gamma: its width over positions, in pixels (sigma_gamma).
        normalization: of each kernel matrix; see the README of this package for who uses which.
        unary_weight: what the logits are multiplied with first, > 0; fixed.
        compatibility: a name of `COMPATIBILITIES`: potts, which is fixed, or one that is learned and starts
            as Potts: diagonal, symmetric or matrix (free).
        weights: one number per potential, one per potential and class, or a matrix per potential.
        inference: a scheme of `INFERENCES` or its name; its own parameters are in the section of that name.
        iterations: steps in evaluation mode, 0 to 10,000; DeepLab and CRF-as-RNN use 10.
        train_iterations: steps in training mode, 0 to 10,000; CRF-as-RNN uses 5.
        prune: without gradients, labels whose probability is below this at every pixel are not filtered;
            0 filters all. Needs potts and weights that are not full. See `DenseCRF.forward` for the bound.
            The compiled loop of a CPU has no need of it: it filters directions of the marginals.
        memory: MiB, >= 1, for what is made while labels are filtered, without gradients; beyond, some labels
            are filtered after others, one at a time at least, which takes longer (on a CPU much longer: the
            compiled loop has no such limit) and gives the same up to rounding. null for no limit on a CPU
            with numba, else 1024, on a GPU an eighth of what it has. Weights full need all labels.
        filter: a filter of `FILTERS` or its name, how the bilateral kernel is applied; its own parameters are
            in the section of that name.
        spatial: how the spatial kernel is applied: separable (exact, a 1-D convolution per axis),
            permutohedral (the lattice, as pydensecrf and CRF-as-RNN do) or local (a window, as ConvCRF does);
            with the parameters of ``filter`` where that is the same one.
        first_step: what the first step filters: the marginals softmax(unary_weight U), or the logarithms
            log softmax(U) of the logits as they came, as ConvCRF's released code does. Needs prune 0.
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
    inference: Inference | str = variant(INFERENCES, "mean_field")
    iterations: int = 10
    train_iterations: int = 5
    prune: float = 0.0
    memory: int | None = free(None)
    filter: GaussianFilter | str = variant(FILTERS, "permutohedral")
    spatial: Literal["separable", "permutohedral", "local"] = "separable"
    first_step: Literal["softmax", "log_softmax"] = "softmax"
    learn_theta: bool = True
    learn_weights: bool = True
    learn_compatibility: bool = True

    def __post_init__(self) -> None:
        check_choices(self, "crf.")
        self._require(
            "compatibility", self.compatibility in COMPATIBILITIES, f"one of {', '.join(COMPATIBILITIES)}"
        )
        for name in ("theta_beta", "theta_gamma", "unary_weight"):
            value = getattr(self, name)
            self._require(name, _LEAST <= value <= _MOST, f"> 0, from {_LEAST:g} to {_MOST:g}")
        wide = self.theta_alpha == math.inf
        allowed = f"> 0, from {_LEAST:g} to {_MOST:g} (or infinity, which leaves positions out)"
        self._require("theta_alpha", wide or _LEAST <= self.theta_alpha <= _MOST, allowed)
        for name in ("w1", "w2"):
            value = getattr(self, name)
            signed = self.weights == "full"
            good = abs(value) <= _HEAVIEST and (value >= 0 or signed)
            self._require(name, good, f">= 0 (0 leaves the potential out), at most {_HEAVIEST:g}")
        for name in ("iterations", "train_iterations"):
            steps = getattr(self, name)
            self._require(name, 0 <= steps <= MAX_ITERATIONS, f">= 0, at most {MAX_ITERATIONS}")
        self._require("prune", 0 <= self.prune < 1, "in [0, 1)")
        self._require("memory", self.memory is None or self.memory >= 1, ">= 1 MiB, or null")
        label_by_label = self.compatibility == "potts" and self.weights != "full"
        self._require(
            "prune", self.prune == 0 or label_by_label, "0 unless compatibility is potts and weights not full"
        )

        marginals = self.first_step == "softmax"
        self._require("prune", self.prune == 0 or marginals, "0 with first_step log_softmax")

    def build_potentials(self, num_classes: int) -> dict[str, Potential]:
        """The potentials whose weight is not 0, by name."""
        shared: dict[str, Any] = {
            "num_classes": num_classes,
            "weights": self.weights,
            "learn_weight": self.learn_weights,
            "learn_theta": self.learn_theta,
        }
        potentials: dict[str, Potential] = {}
        if self.w1 != 0:
            potentials["bilateral"] = BilateralPotential(self.w1, self.theta_alpha, self.theta_beta, **shared)
        if self.w2 != 0:
            potentials["spatial"] = SpatialPotential(
                self.w2, self.theta_gamma, filter=self.build_spatial_filter(), **shared
            )
        return potentials

    def build_inference(self) -> Inference:
        """The scheme; an instance, even if a name was given."""
        assert isinstance(self.inference, Inference)
        return self.inference

    def build_filter(self) -> GaussianFilter:
        """The filter; an instance, even if a name was given."""
        assert isinstance(self.filter, GaussianFilter)
        return self.filter

    def build_spatial_filter(self) -> GaussianFilter | None:
        """The filter of the spatial kernel; None for 1-D convolutions."""
        if self.spatial == "separable":
            return None
        kind = FILTERS[self.spatial]
        return self.filter if isinstance(self.filter, kind) else kind()

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        require(f"crf.{name}", getattr(self, name), holds, allowed)


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
        spatial="permutohedral",
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
        spatial="permutohedral",
        normalization="symmetric",
        iterations=5,
    ),
    # Teichmann & Cipolla 2018, the defaults of their released code: both kernels in a window of 11 cells of
    # 4 x 4 pixels, color without position, raw kernels, log-probabilities in the first step. Its update
    # (1 - w) U + w (10 K_color + 3 K_position) Q with w = 0.2 is written out here.
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
        filter=LocalFilter(window=11, pool=4, centered=True),
        spatial="local",
        first_step="log_softmax",
        learn_theta=False,
    ),
}
