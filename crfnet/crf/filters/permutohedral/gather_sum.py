"""Weighted gather-sums, of which the lattice is made: by a kernel where there is one, else by torch."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from crfnet import kernels

__all__ = ["GatherSum"]


@dataclass(frozen=True)
class GatherSum:
    """``out_r = sum over bag r of weights[k] * table[indices[k]]``; bag r is offsets[r] .. offsets[r+1]."""

    indices: Tensor  #: (k,) int32
    offsets: Tensor  #: (r + 1,) int32
    weights: Tensor  #: (k,)
    entries: int | None = None  #: of every bag, where that is one number

    def __call__(self, table: Tensor) -> Tensor:
        """The bags' sums (r, c) of a table (rows, c)."""
        if kernels.usable(table):
            return self._by_kernel(table)
        return F.embedding_bag(
            self.indices,
            table,
            self.offsets,
            mode="sum",
            per_sample_weights=self.weights.to(table.dtype),
            include_last_offset=True,
        )

    def _by_kernel(self, table: Tensor) -> Tensor:
        from crfnet.kernels.gpu.gather import gather_rows, gather_sum  # triton takes a second to import

        if self.entries is None:
            return gather_sum(table, self.indices, self.offsets, self.weights)
        shape = (-1, self.entries)
        return gather_rows(table, self.indices.view(shape), self.weights.view(shape))
