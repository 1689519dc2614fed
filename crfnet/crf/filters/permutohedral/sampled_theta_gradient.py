"""How theta learns: the exact Gaussian's gradient of the features, estimated from some rows of its kernel."""

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crfnet import kernels
from crfnet.crf.filters.rows import kernel_rows, row_chunks
from crfnet.shapes import Channel, Features, Mask, Values

__all__ = ["SampledRows"]

_UNIFORM = 0.1  # of the chance: a row whose gradient is small may still say much
_ENDLESS = 1e200
_LOTS = 2**52  # of all rows together

_RowValues = Float[Tensor, "b l rows"]
_RowIndex = Int[Tensor, "b rows"]
_RowNumber = Float[Tensor, "b rows"]


class SampledRows:
    """An unbiased estimate of the gradient of ``g . R K v`` with the exact K, in the features.

    R scales each row of K. To 1 without ``row_sums``: the gradient of the average D^-1 K v, normalizer
    included. To ``row_sums``, those of the lattice, otherwise: the lattice comes out up to half too low,
    evenly over a row, and g holds normalizers that were made with it.

    Row i holds ``sum_j R_i K_ij (g_i . v_j)`` of the sum. It is drawn with probability p_i, a tenth of it
    uniform, the rest proportional to ``sum_l |g_il|`` times its row sum, and weighs 1 / (rows p_i). With
    ``rows`` >= n every row is taken once and there is no chance in it.

    Args:
        features: Of all pixels; those outside the mask repeat one inside.
        mask: The pixels that count; None for all.
        rows: How many are drawn for each image, >= 1.
    """

    def __init__(self, features: Features, mask: Mask | None, rows: int) -> None:
        self._features, self._rows = features.detach(), rows
        self._inside = torch.ones_like(features[:, 0], dtype=torch.bool) if mask is None else mask

    def gradient(self, grad: Values, values: Values, row_sums: Channel | None = None) -> Features:
        """The estimate for g ``grad`` and v ``values``, both 0 outside the mask, from rows of its own."""
        index, weight = self._drawn(grad, row_sums)
        some = grad.gather(2, index.unsqueeze(1).expand(-1, grad.shape[1], -1)) * weight.unsqueeze(1)
        scale = None if row_sums is None else row_sums.squeeze(1).gather(1, index)
        summed = self._sum_compiled if kernels.compiled(self._features) else self._sum
        return summed(some, values, index, scale)

    def _drawn(self, grad: Values, row_sums: Channel | None) -> tuple[_RowIndex, _RowNumber]:
        """Which rows, one from each of as many equal strata of the sum of p; and their weights."""
        batch, _, pixels = grad.shape
        if self._rows >= pixels:
            return torch.arange(pixels, device=grad.device).expand(batch, -1), torch.ones_like(grad[:, 0])
        # All zero: uniform. Rows without a finite gradient are drawn for sure, so that theta's is not finite.
        size = self._sizes(grad)  # torch's Euclidean norm takes ten times as long, and draws no better
        size = size.double().nan_to_num(nan=_ENDLESS, posinf=_ENDLESS) + 1e-300
        size *= self._inside if row_sums is None else row_sums.squeeze(1) * self._inside
        uniform = self._inside / self._inside.sum(1, keepdim=True)
        chance = _UNIFORM * uniform + (1 - _UNIFORM) * size / size.sum(1, keepdim=True)
        # In whole numbers: their sums are exact, and the same in every run on a GPU.
        lots = (chance * _LOTS).long()
        last = lots.cumsum(1)
        total = last[:, -1:]
        jitter = torch.rand(batch, self._rows, dtype=torch.double, device=grad.device)
        stratum = torch.arange(self._rows, device=grad.device)
        drawn = ((stratum + jitter) * (total / self._rows)).long().minimum(total - 1)
        index = torch.searchsorted(last, drawn, right=True)
        return index, (total / (self._rows * lots.gather(1, index))).to(grad.dtype)

    @staticmethod
    def _sizes(grad: Values) -> _RowNumber:
        """``sum_l |g_il|`` of every pixel."""
        if not kernels.compiled(grad):
            return grad.abs().sum(1)
        from crfnet.kernels.cpu.sampled_rows import sums_of_sizes

        return torch.from_numpy(sums_of_sizes(grad.contiguous().numpy()))

    def _sum(self, grad: _RowValues, values: Values, index: _RowIndex, scale: _RowNumber | None) -> Features:
        """The gradient from the rows ``index``, whose weighted g is ``grad`` and whose R is ``scale``."""
        features = self._features.to(grad.dtype)
        total = torch.zeros_like(features)
        for some in row_chunks(index.shape[1], len(features), features.shape[2]):
            drawn = features.gather(2, index[:, None, some].expand(-1, features.shape[1], -1))
            kernel = kernel_rows(drawn, features) * self._inside.unsqueeze(1)  # (b, r, n)
            kernel /= kernel.sum(2, keepdim=True)
            product = grad[:, :, some].mT @ values
            if scale is None:
                product -= (kernel * product).sum(2, keepdim=True)  # what the row sum's own change takes off
            else:
                product *= scale[:, some].unsqueeze(2)
            # The change of R K with the features is -share (f_i - f_j) . d(f_i - f_j). By hand, for in matrix
            # products with few digits (TF32) a drawn row and its neighbors would not cancel.
            share = kernel * product
            for k in range(features.shape[1]):
                pulls = share * (drawn[:, k, :, None] - features[:, k, None, :])
                total[:, k] += pulls.sum(1)
                total[:, k].scatter_add_(1, index[:, some], -pulls.sum(2))
        return total

    def _sum_compiled(
        self, grad: _RowValues, values: Values, index: _RowIndex, scale: _RowNumber | None
    ) -> Features:
        """As `_sum`, but in compiled code, which skips the pairs that are too far apart to count."""
        from crfnet.kernels.cpu.sampled_rows import sampled_rows_gradient  # numba takes a second to import

        dtype = self._features.dtype
        drawn = self._features.gather(2, index.unsqueeze(1).expand(-1, self._features.shape[1], -1))
        gradient = sampled_rows_gradient(
            self._runs,
            index.contiguous().numpy(),
            grad.mT.to(dtype).contiguous().numpy(),
            values.to(dtype).contiguous().numpy(),
            drawn.mT.contiguous().numpy(),
            None if scale is None else scale.to(dtype).contiguous().numpy(),
        )
        return torch.from_numpy(gradient).to(grad.dtype)

    @cached_property
    def _runs(self) -> list[Any]:
        from crfnet.kernels.cpu.sampled_rows import pixel_runs

        return [
            pixel_runs(features, inside)
            for features, inside in zip(self._features.numpy(), self._inside.numpy(), strict=True)
        ]
