"""How far a filter is from the exact Gaussian on a given image: measured, not promised."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from crfnet.crf.features import bilateral_features
from crfnet.crf.filters.contract import EPS, GaussianFilter, KernelOperator
from crfnet.crf.filters.exact.filter import ExactFilter
from crfnet.shapes import Image, Logits, Values

__all__ = ["FilterAccuracy", "filter_accuracy", "smooth_logits"]

_ORACLE = ExactFilter(eps=1e-6)
_NAMES = ("after", "symmetric", "before")


@dataclass(frozen=True)
class FilterAccuracy:
    """What a filter's output on some values differs by from that of ``ExactFilter(eps=1e-6)``.

    ``str()`` gives it as a few lines of text.

    Attributes:
        filter: the filter, as text.
        problem: image size, labels and bandwidths, as text.
        raw: relative L2 error of ``K v``, a fraction.
        relative_l2: by normalization (after, symmetric, before): relative L2 error of the normalized
            output, a fraction.
        largest: by normalization: largest absolute error of a single number, in units of the values.
    """

    filter: str
    problem: str
    raw: float
    relative_l2: dict[str, float]
    largest: dict[str, float]

    def __str__(self) -> str:
        """The errors as a table."""
        lines = [
            f"{self.filter} against {_ORACLE}",
            self.problem,
            f"{'K v':12s}relative L2 {100 * self.raw:.3g} %",
        ]
        lines += [
            f"{name:12s}relative L2 {100 * self.relative_l2[name]:.3g} %, largest {self.largest[name]:.2g}"
            for name in _NAMES
        ]
        return "\n".join(lines)


@torch.no_grad()
def filter_accuracy(
    filter: GaussianFilter,
    image: Tensor,
    theta_alpha: float,
    theta_beta: float,
    *,
    marginals: Tensor | None = None,
    labels: int = 21,
    seed: int = 0,
) -> FilterAccuracy:
    """Measures a filter against the exact one, as a bilateral kernel of this image would use it.

    A photo of 500 x 334 with 21 labels takes tens of seconds on one CPU core.

    Args:
        filter: any filter.
        image: (b, c, h, w), 0..255, uint8 or float; float64 is measured in float64.
        theta_alpha: width over positions, in pixels, > 0.
        theta_beta: width over colors, on the scale 0..255, > 0.
        marginals: what is filtered, (b, l, h, w); by default made up: the softmax of noise that is smooth
            over 8 pixels, as a network of stride 8 gives it.
        labels: of the made-up marginals, >= 1.
        seed: of the made-up marginals.

    Raises:
        ValueError: an argument is out of its range or shapes do not fit.
    """
    if image.ndim != 4 or image.numel() == 0:
        raise ValueError(f"image: shape {tuple(image.shape)}, must be (b, channels, h, w), not empty")
    for name, theta in (("theta_alpha", theta_alpha), ("theta_beta", theta_beta)):
        if not 0 < theta < math.inf:
            raise ValueError(f"{name} is {theta}, must be a finite number > 0")
    if labels < 1:
        raise ValueError(f"labels is {labels}, must be >= 1")
    batch, _, height, width = image.shape
    if marginals is None:
        marginals = smooth_logits(image, labels, seed).softmax(1)
    if marginals.ndim != 4 or (batch, height, width) != (marginals.shape[0], *marginals.shape[2:]):
        raise ValueError(
            f"marginals: shape {tuple(marginals.shape)}, must be ({batch}, labels, {height}, {width})"
        )
    features = bilateral_features(image, theta_alpha, theta_beta)
    values = marginals.to(features).flatten(2)
    actual, expected = (
        _outputs(one.operator(features, grid=(height, width)), values) for one in (filter, _ORACLE)
    )
    errors = {name: _relative_l2(actual[name], expected[name]) for name in expected}
    return FilterAccuracy(
        filter=str(filter),
        problem=f"{batch} x {height} x {width} pixels, {values.shape[1]} labels, "
        f"{theta_alpha:g}/{theta_beta:g}",
        raw=errors.pop("none"),
        relative_l2=errors,
        largest={name: float((actual[name] - expected[name]).abs().max()) for name in errors},
    )


def _outputs(kernel: KernelOperator, values: Values) -> dict[str, Values]:
    """K v, normalized in each way; all in one filtering, since an exact kernel's entries cost the most."""
    sums = kernel.row_sums(values) + EPS
    root = sums.rsqrt()
    plain, both, before = kernel(torch.cat([values, values * root, values / sums], dim=1)).chunk(3, dim=1)
    return {"none": plain, "after": plain / sums, "symmetric": both * root, "before": before}


def _relative_l2(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).double().norm() / expected.double().norm().clamp_min(1e-300))


def smooth_logits(image: Image, labels: int, seed: int = 0) -> Logits:
    """Logits as a network of stride 8 might give them: noise on a coarse grid, upsampled; seeded."""
    size = (image.shape[2], image.shape[3])
    generator = torch.Generator().manual_seed(seed)
    cells = (-(-side // 8) for side in size)
    coarse = 3 * torch.randn(len(image), labels, *cells, generator=generator, device="cpu")
    return F.interpolate(coarse, size, mode="bilinear", align_corners=False).to(image.device)
