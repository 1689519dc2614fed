"""The dense CRF as a layer: logits and image in, log marginals out; one choice on each axis, composed."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import torch
from torch import Tensor, nn

from crfnet.crf.compatibility import COMPATIBILITIES, Compatibility
from crfnet.crf.filters import FILTERS, GaussianFilter, PermutohedralFilter
from crfnet.crf.inference import Inference, MeanField
from crfnet.crf.kernels import WEIGHTS, BilateralKernel, Kernel, SpatialKernel
from crfnet.crf.normalization import NORMALIZATIONS, normalized
from crfnet.errors import InputError
from crfnet.shapes import Image, Logits, Marginals, Values

__all__ = ["PRESETS", "CRFConfig", "DenseCRF"]


@dataclass(frozen=True)
class CRFConfig:
    """Everything that a dense CRF is built from; the section ``crf:`` of a configuration file.

    The defaults are the preset ``deeplab``. Values do not carry over from one normalisation to another.

    Attributes:
        w1: weight of the bilateral kernel; 0 leaves the kernel out.
        theta_alpha: its width over positions, in pixels (the DeepLab papers' sigma_alpha).
        theta_beta: its width over colours, on the scale 0..255 (sigma_beta).
        w2: weight of the spatial kernel; 0 leaves the kernel out.
        theta_gamma: its width over positions, in pixels (sigma_gamma).
        normalization: of each kernel matrix; see the README of this package for who uses which.
        compatibility: a name of `COMPATIBILITIES`: fixed potts, or a learned matrix that starts as Potts.
        weights: one number per kernel, one per kernel and class, or a matrix per kernel.
        iterations: mean-field steps in evaluation mode.
        train_iterations: mean-field steps in training mode.
        damping: share of the old marginals that a step keeps, in [0, 1).
        filter: a name of `FILTERS`, how the bilateral kernel is applied (permutohedral or exact); the spatial
            one is always two 1-D convolutions.
        rows: kernel rows sampled per image for the gradient of theta; filter ``permutohedral`` only.
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
    compatibility: str = "potts"
    weights: Literal["scalar", "per_class", "full"] = "scalar"
    iterations: int = 10
    train_iterations: int = 5
    damping: float = 0.0
    filter: str = "permutohedral"
    rows: int = 1024
    learn_theta: bool = True
    learn_weights: bool = True
    learn_compatibility: bool = True

    def __post_init__(self) -> None:
        for name in ("theta_alpha", "theta_beta", "theta_gamma"):
            value = getattr(self, name)
            self._require(name, math.isfinite(value) and value > 0, "> 0")
        for name in ("w1", "w2"):
            value = getattr(self, name)
            signed = self.weights == "full"
            self._require(
                name, math.isfinite(value) and (value >= 0 or signed), ">= 0 (0 leaves the kernel out)"
            )
        for name, allowed in _CHOICES.items():
            self._require(name, getattr(self, name) in allowed, f"one of {', '.join(allowed)}")
        for name in ("iterations", "train_iterations"):
            self._require(name, getattr(self, name) >= 0, ">= 0")
        self._require("damping", 0 <= self.damping < 1, "in [0, 1)")
        self._require("rows", self.rows >= 1, ">= 1")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise InputError(f"crf.{name} is {getattr(self, name)!r}, must be {allowed}")


_CHOICES = {
    "normalization": NORMALIZATIONS,
    "compatibility": tuple(COMPATIBILITIES),
    "weights": WEIGHTS,
    "filter": tuple(FILTERS),
}


PRESETS: dict[str, CRFConfig] = {
    # Chen et al., DeepLab v1 and v2: per-pixel normalisation of their 2011 code, Potts, w2 = theta_gamma = 3,
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
    # lucasb-eyer/pydensecrf: its default normalisation; widths, weights and steps are those of the
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
}


class DenseCRF(nn.Module):
    """A CRF that connects every pixel of an image with every other, solved by mean field, differentiable.

    Holds nothing but its parameters: any image size, any batch size, any device. Computes in float32 under
    autocast and for half-precision input; float64 logits compute in float64.

    Krahenbuhl & Koltun 2011; as a layer, Zheng et al. 2015.

    Args:
        num_classes: number of labels l, >= 2.
        config: what to build.
        kernels: instead of the configuration's two kernels, any number of them, by name.
        compatibility: instead of the configuration's, a module.
        inference: instead of the configuration's mean field.
        filter: instead of the configuration's.

    Raises:
        InputError: fewer than 2 classes.
    """

    def __init__(
        self,
        num_classes: int,
        config: CRFConfig = CRFConfig(),
        *,
        kernels: Mapping[str, Kernel] | None = None,
        compatibility: Compatibility | None = None,
        inference: Inference | None = None,
        filter: GaussianFilter | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise InputError(f"DenseCRF: num_classes is {num_classes}, must be >= 2")
        self.num_classes = num_classes
        self.config = config
        self.kernels = nn.ModuleDict(_kernels(num_classes, config) if kernels is None else kernels)
        self.compatibility = compatibility or COMPATIBILITIES[config.compatibility](
            num_classes, learnable=config.learn_compatibility
        )
        self.inference: Inference = inference or MeanField(
            config.iterations, config.train_iterations, config.damping
        )
        self.filter = filter or _filter(config)

    @classmethod
    def preset(cls, name: str, num_classes: int, **changes: Any) -> "DenseCRF":
        """The CRF of `PRESETS` under this name, with fields of `CRFConfig` changed by keyword."""
        if name not in PRESETS:
            raise InputError(f"DenseCRF.preset: name is {name!r}, must be one of {', '.join(PRESETS)}")
        return cls(num_classes, dataclasses.replace(PRESETS[name], **changes))

    def forward(self, logits: Logits, image: Image, *, trace: list[Marginals] | None = None) -> Logits:
        """Log marginals ``log Q`` after the mean-field steps of the module's mode (training or evaluation).

        Args:
            logits: the network's scores at image size, finite; a per-pixel constant changes nothing.
            image: 0..255, not normalised, of the same height and width as the logits; uint8 or float.
            trace: a list to which the marginals of every step are appended, Q^0 = softmax(logits) first.

        Returns:
            Normalised log probabilities in nats, float32 (float64 for float64 logits): good for argmax and
            for any loss that takes logits.

        Raises:
            ValueError: shapes, dtypes or devices do not fit, values are not finite, the image is clearly not
                0..255, or it asks for a gradient that the filter does not have.
        """
        solve = self._solve
        if torch.compiler.is_compiling():  # one graph break instead of one at every sort and search
            solve = torch.compiler.disable(solve)
        return solve(logits, image, trace)

    def _solve(self, logits: Logits, image: Image, trace: list[Marginals] | None) -> Logits:
        check_input(logits, image, self.num_classes)
        if image.requires_grad and torch.is_grad_enabled() and not self.filter.learns_features:
            raise ValueError(
                f"image requires a gradient, which {type(self.filter).__name__} does not have; "
                "pass image.detach() or use the filter 'exact'"
            )
        dtype = torch.promote_types(logits.dtype, torch.float32)
        steps: list[Values] | None = None if trace is None else []
        with torch.autocast(logits.device.type, enabled=False):
            unary = logits.to(dtype).flatten(2)
            iterations = self.inference.train_iterations if self.training else self.inference.iterations
            log_q = self.inference.run(unary, self._penalty(image.to(dtype), unary), iterations, steps)
        if trace is not None and steps is not None:
            trace.extend(q.reshape(logits.shape) for q in steps)
        return log_q.reshape(logits.shape)

    def marginals(self, logits: Logits, image: Image) -> Marginals:
        """Probabilities Q, summing to 1 over labels; arguments and errors as of `forward`."""
        return self(logits, image).exp()  # type: ignore[no-any-return]

    def parameters_by_name(self) -> dict[str, float | Tensor]:
        """Current values under the configuration's names and in its units (w1, theta_alpha, ...), for logs.

        Numbers as float; per-class and full weights and the penalty matrix mu as detached CPU tensors.
        """
        named: dict[str, Tensor] = {}
        for kernel in self._kernels():
            named.update(kernel.parameters_by_name())
        named.update(self.compatibility.named_parameters())
        return {
            name: value.item() if value.ndim == 0 else value.detach().cpu() for name, value in named.items()
        }

    def config_now(self) -> CRFConfig:
        """The configuration with the current weights and widths, to 6 digits.

        A configuration holds one number per weight: the mean of per-class weights, the mean of the diagonal
        of full ones. Those, and a learned compatibility matrix, are kept whole only by ``state_dict``.
        """
        fields = {field.name for field in dataclasses.fields(CRFConfig)}
        current = {
            name: float(f"{_one_number(value):.6g}")
            for name, value in self.parameters_by_name().items()
            if name in fields
        }
        return dataclasses.replace(self.config, **current)  # type: ignore[arg-type]

    def _kernels(self) -> list[Kernel]:
        return list(self.kernels.values())  # type: ignore[arg-type]

    def _penalty(self, image: Image, unary: Values) -> Callable[[Values], Values]:
        """``Q -> mu sum_m W_m K~_m Q`` for these images; the operators are built once, here."""
        terms = [
            (kernel, normalized(kernel.operator(image, self.filter), unary, self.config.normalization))
            for kernel in self._kernels()
        ]

        def penalty(q: Values) -> Values:
            weighted = [kernel.weigh(pass_messages(q)) for kernel, pass_messages in terms]
            messages = reduce(torch.add, weighted) if weighted else torch.zeros_like(q)
            return self.compatibility(messages)  # type: ignore[no-any-return]

        return penalty


def check_input(logits: Tensor, image: Tensor, num_classes: int) -> None:
    """Refuse what cannot be meant, in one pass over each tensor (minimum and maximum).

    Args:
        logits: should be floating point (b, num_classes, h, w), finite.
        image: should be (b, c, h, w) on the scale 0..255, on the same device.
        num_classes: number of labels.

    Raises:
        ValueError: names the argument, what came and what is allowed.
    """
    if logits.ndim != 4 or logits.shape[1] != num_classes or logits.numel() == 0:
        raise ValueError(f"logits: shape {tuple(logits.shape)}, must be (b, {num_classes}, h, w), not empty")
    if not logits.is_floating_point():
        raise ValueError(f"logits: {logits.dtype}, must be floating point")
    b, _, h, w = logits.shape
    if image.ndim != 4 or image.shape[1] == 0 or (image.shape[0], *image.shape[2:]) != (b, h, w):
        raise ValueError(
            f"image: shape {tuple(image.shape)}, must be ({b}, channels, {h}, {w}) as of the logits"
        )
    if image.device != logits.device:
        raise ValueError(f"image: on {image.device}, must be where the logits are, {logits.device}")
    if not all(math.isfinite(bound) for bound in _range(logits)):
        raise ValueError("logits: contain NaN or infinity, must be finite")
    check_image_range(image)


def check_image_range(image: Tensor) -> None:
    """Refuse an image that is clearly not on the scale 0..255: of 0..1, normalised, or not finite.

    Raises:
        ValueError: names the values that came and what is allowed.
    """
    if image.dtype == torch.uint8:
        return
    low, high = _range(image)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("image: contains NaN or infinity, must be finite")
    unit_range = image.is_floating_point() and -1 <= low <= high <= 1 and (low, high) != (0, 0)
    if unit_range or low < -1 or high > 256:
        raise ValueError(
            f"image: values from {low:g} to {high:g}, must be RGB on the scale 0..255, not normalised "
            "(multiply a 0..1 image by 255)"
        )


def _range(x: Tensor) -> tuple[float, float]:
    """Smallest and largest value; NaN anywhere makes both NaN."""
    low, high = x.detach().aminmax()
    return float(low), float(high)


def _kernels(num_classes: int, config: CRFConfig) -> dict[str, Kernel]:
    kernels: dict[str, Kernel] = {}
    if config.w1 != 0:
        kernels["bilateral"] = BilateralKernel(
            config.w1,
            config.theta_alpha,
            config.theta_beta,
            num_classes=num_classes,
            weights=config.weights,
            learn_weight=config.learn_weights,
            learn_theta=config.learn_theta,
        )
    if config.w2 != 0:
        kernels["spatial"] = SpatialKernel(
            config.w2,
            config.theta_gamma,
            num_classes=num_classes,
            weights=config.weights,
            learn_weight=config.learn_weights,
            learn_theta=config.learn_theta,
        )
    return kernels


def _filter(config: CRFConfig) -> GaussianFilter:
    if config.filter == "permutohedral":
        return PermutohedralFilter(rows=config.rows)
    return FILTERS[config.filter]()


def _one_number(value: float | Tensor) -> float:
    if isinstance(value, Tensor):
        return float(value.diagonal().mean() if value.ndim == 2 else value.mean())
    return value
