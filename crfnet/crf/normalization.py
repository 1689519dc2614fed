"""The four ways to scale a kernel K by its row sums n = K 1; parameters do not carry over between them."""

from collections.abc import Callable

import torch
from torch import Tensor

from crfnet.crf.filters.contract import EPS, KernelOperator
from crfnet.shapes import Values

__all__ = ["NORMALIZATIONS", "normalized"]

NORMALIZATIONS = ("after", "symmetric", "before", "none")


def normalized(
    kernel: KernelOperator, like: Values, normalization: str, weight: Tensor | float = 1.0
) -> Callable[[Values], Values]:
    """``after`` D^-1 K, ``symmetric`` D^-1/2 K D^-1/2, ``before`` K D^-1, ``none`` K, with D = diag(K 1).

    ``after`` is what DeepLab's binary and CRF-as-RNN do; ``symmetric`` is pydensecrf's default.

    Args:
        kernel: The unnormalised operator K.
        like: Values whose batch, pixels, dtype and device the calls will have; its content is not read.
        normalization: One of `NORMALIZATIONS`.
        weight: A number () that multiplies the result.

    Returns:
        The normalised operator, differentiable in whatever ``kernel`` and ``weight`` are differentiable in.

    Raises:
        ValueError: ``normalization`` is none of the four.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization is {normalization!r}; allowed are {', '.join(NORMALIZATIONS)}")
    average = normalization == "after" and kernel.features_need_grad
    if average or normalization == "none":
        # Average takes row sums anew in each call: a sampled gradient of theta needs both together.
        filter = kernel.average if average else kernel
        return lambda values: _times(filter(values), weight)
    power = -0.5 if normalization == "symmetric" else -1.0
    scale = (kernel.row_sums(like) + EPS).pow(power)
    weighted = scale * weight
    return {
        "after": lambda values: _times(kernel(values), weighted),
        "symmetric": lambda values: _times(kernel(values * scale), weighted),
        "before": lambda values: _times(kernel(values * scale), weight),
    }[normalization]


def _times(filtered: Values, scale: Tensor | float) -> Values:
    """The product; in place where no gradient is recorded, since fresh memory costs more than it does."""
    return filtered * scale if torch.is_grad_enabled() else filtered.mul_(scale)
