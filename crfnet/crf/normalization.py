"""The four ways to scale a kernel K by its row sums n = K 1; parameters do not carry over between them."""

from collections.abc import Callable

import torch
from torch import Tensor

from crfnet.crf.filters.contract import EPS, KernelOperator
from crfnet.shapes import Values

__all__ = ["NORMALIZATIONS", "factors", "normalized"]

NORMALIZATIONS = ("after", "symmetric", "before", "none")


def normalized(
    kernel: KernelOperator, like: Values, normalization: str, weight: Tensor | float = 1.0
) -> Callable[[Values], Values]:
    """``after`` D^-1 K, ``symmetric`` D^-1/2 K D^-1/2, ``before`` K D^-1, ``none`` K, with D = diag(K 1).

    ``after`` is what DeepLab's binary and CRF-as-RNN do; ``symmetric`` is pydensecrf's default.

    Args:
        kernel: The unnormalized operator K.
        like: Values whose batch, pixels, dtype and device the calls will have; its content is not read.
        normalization: One of `NORMALIZATIONS`.
        weight: A number () that multiplies the result.

    Returns:
        The normalized operator, differentiable in whatever ``kernel`` and ``weight`` are differentiable in.

    Raises:
        ValueError: ``normalization`` is none of the four.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization is {normalization!r}, must be one of {', '.join(NORMALIZATIONS)}")
    if normalization == "after" and kernel.features_need_grad:
        # Average takes row sums anew in each call: a sampled gradient of theta needs both together.
        return lambda values: kernel.average(values) * weight
    if isinstance(weight, Tensor) and weight.requires_grad and torch.is_grad_enabled():
        # Apart, so that factors without gradient can become part of the filter.
        apply = normalized(kernel, like, normalization)
        return lambda values: apply(values) * weight
    factor: Tensor | None = None
    if isinstance(weight, Tensor):
        factor = weight.to(like)
    elif weight != 1.0:
        factor = like.new_tensor(weight)
    if normalization == "none":
        return kernel.scaled(None, factor)
    send, receive = factors(kernel.row_sums(like), normalization)
    return kernel.scaled(send, receive if factor is None else factor if receive is None else receive * factor)


def factors(row_sums: Tensor, normalization: str) -> tuple[Tensor | None, Tensor | None]:
    """What the senders' values and the receivers' sums are multiplied with; None for 1."""
    if normalization == "none":
        return None, None
    scale = (row_sums + EPS).pow(-0.5 if normalization == "symmetric" else -1.0)
    return None if normalization == "after" else scale, None if normalization == "before" else scale
