"""Rows of the exact Gaussian kernel matrix: what `exact` sums and what `permutohedral` samples for theta."""

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["exp_normal", "kernel_rows", "multiplies_in_full", "row_chunks"]

_CHUNK = 1 << 21  # kernel entries alive at once: 8 MB in float32


def row_chunks(rows: int, batch: int, pixels: int) -> Iterator[slice]:
    """Slices of ``range(rows)`` so that one slice of the kernel matrix stays within a few megabytes."""
    step = max(1, _CHUNK // max(1, batch * pixels))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def kernel_rows(rows: Tensor, features: Tensor) -> Tensor:
    """``K_ij = exp(-|rows_i - f_j|^2 / 2)``: (b, d, r) and (b, d, n) -> (b, r, n).

    The distance is summed over subtractions: the expanded square |x|^2 - 2 x.y + |y|^2 cancels in float32.
    """
    square = (rows[:, 0, :, None] - features[:, 0, None, :]).square()
    for k in range(1, features.shape[1]):
        difference = rows[:, k, :, None] - features[:, k, None, :]
        square = torch.addcmul(square, difference, difference)
    return exp_normal(square * -0.5)


def exp_normal(exponents: Tensor) -> Tensor:
    """``exp`` in place, of exponents that end at -80 (float32) or -700: 2e-35 or 1e-304 stand for less.

    Smaller results would be denormal, with which a processor computes a hundred times slower.
    """
    return exponents.clamp_(min=-700.0 if exponents.dtype == torch.float64 else -80.0).exp_()


def multiplies_in_full(like: Tensor) -> bool:
    """Whether matrix products of this dtype and device keep all digits: settings allow TF32 and bfloat16."""
    ones = torch.ones(128, 8, dtype=like.dtype, device=like.device)
    return bool((ones @ (ones.mT * (1 + 2.0**-20)) == 8 * (1 + 2.0**-20)).all())
