"""The four ways to scale a kernel K by its row sums n = K 1; parameters do not carry over between them."""

from collections.abc import Callable

from crfnet.crf.filters.contract import EPS, KernelOperator
from crfnet.shapes import Values

__all__ = ["NORMALIZATIONS", "normalized"]

NORMALIZATIONS = ("after", "symmetric", "before", "none")


def normalized(kernel: KernelOperator, like: Values, normalization: str) -> Callable[[Values], Values]:
    """``after`` D^-1 K, ``symmetric`` D^-1/2 K D^-1/2, ``before`` K D^-1, ``none`` K, with D = diag(K 1).

    ``after`` is what DeepLab's binary and CRF-as-RNN do; ``symmetric`` is pydensecrf's default.

    Args:
        kernel: The unnormalised operator K.
        like: Values whose batch, pixels, dtype and device the calls will have; its content is not read.
        normalization: One of `NORMALIZATIONS`.

    Returns:
        The normalised operator, differentiable in whatever ``kernel`` is differentiable in.

    Raises:
        ValueError: ``normalization`` is none of the four.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization is {normalization!r}; allowed are {', '.join(NORMALIZATIONS)}")
    if normalization == "none":
        return kernel
    if normalization == "after" and kernel.features_need_grad:
        return kernel.average  # row sums anew in each call: a sampled gradient of theta needs both together
    power = -0.5 if normalization == "symmetric" else -1.0
    scale = (kernel.row_sums(like) + EPS).pow(power)
    return {
        "after": lambda values: kernel(values) * scale,
        "symmetric": lambda values: kernel(values * scale) * scale,
        "before": lambda values: kernel(values * scale),
    }[normalization]
