"""Pairwise terms as one linear map of marginals, on the permutohedral lattices of `crfnet.crf`."""

from collections.abc import Sequence
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from crfnet.crf.compatibility import Compatibility, DiagonalCompatibility, SymmetricCompatibility
from crfnet.crf.filters.permutohedral.lattice import Lattice, build_lattice, sum_of
from crfnet.crf.normalization import factors
from crfnet.pydensecrf._arrays import as_tensor, check_finite, warn_once
from crfnet.shapes import Features, Values

if TYPE_CHECKING:
    from crfnet.kernels.cpu.lattice import Lattice as CompiledLattice

__all__ = ["NormalizedKernel", "PairwiseTerm", "Penalty", "compatibility", "padding"]

_BLOCK = 4  # points that pydensecrf embeds in the lattice at once


def padding(points: int) -> int:
    """How many points fill up the last block.

    pydensecrf works on blocks of four points and pads the last one with points whose features are 0. Those
    hold no values, but the lattice vertices around them exist, and blur passes values through them.
    """
    return -points % _BLOCK


class NormalizedKernel:
    """K~ on the permutohedral lattice, built when it is first needed: for torch, or for the compiled loop.

    Args:
        features: (1, d, n), in units of one bandwidth, finite, on the device that is to compute.
        normalization: one of `crfnet.crf.normalization.NORMALIZATIONS`.
    """

    def __init__(self, features: Features, normalization: str) -> None:
        self._features, self.normalization = features, normalization

    @cached_property
    def lattice(self) -> Lattice:
        """K~ as one lattice."""
        points = self._features.shape[2]
        lattice = build_lattice(self._padded(), padding(points))
        if self.normalization == "none":
            return lattice
        row_sums = lattice(self._features.new_ones(points, 1)).squeeze(1)
        return lattice.scaled(*factors(row_sums, self.normalization))

    @cached_property
    def compiled(self) -> "CompiledLattice":
        """K of the points and the padding, which the loop masks; the loop normalizes it."""
        from crfnet.kernels.cpu.lattice import build_lattice  # numba takes half a second to import

        return build_lattice(self._padded().numpy())

    def _padded(self) -> Features:
        return F.pad(self._features, (0, padding(self._features.shape[2])))


class PairwiseTerm:
    """``Q -> compat(K~ Q)``.

    Args:
        kernel: K~.
        compat: see `compatibility`.
    """

    def __init__(self, kernel: NormalizedKernel, compat: float | Compatibility) -> None:
        self.kernel, self.compat = kernel, compat

    @cached_property
    def lattice(self) -> Lattice:
        """K~; of a number w, ``-w K~``."""
        lattice = self.kernel.lattice
        if isinstance(self.compat, Compatibility):
            return lattice
        weights = lattice.slice.weights
        return lattice.scaled(None, weights.new_full((len(lattice.slice.offsets) - 1,), -self.compat))


class Penalty:
    """The pairwise energy of all terms: ``Q -> sum_k compat_k(K~_k Q)``, in nats.

    Terms whose compat is a number are one lattice: each point reads the vertices of all of them at once.

    Args:
        terms: any number of them.
    """

    def __init__(self, terms: Sequence[PairwiseTerm]) -> None:
        self._matrix_terms = [term for term in terms if isinstance(term.compat, Compatibility)]
        potts_lattices = [term.lattice for term in terms if not isinstance(term.compat, Compatibility)]
        self._potts = sum_of(potts_lattices) if potts_lattices else None

    def __call__(self, q: Values) -> Values:
        """The energies (1, M, N) for marginals ``q``, in new memory."""
        table = q[0].T.contiguous()
        total = torch.zeros_like(table) if self._potts is None else self._potts(table)
        for term in self._matrix_terms:
            total += _apply_compatibility(term.lattice(table), term.compat)
        return total.T.unsqueeze(0)


def _apply_compatibility(messages: Tensor, compat: float | Compatibility) -> Tensor:
    """Compute ``mu m`` for messages (N, M)."""
    assert isinstance(compat, Compatibility)
    if isinstance(compat, SymmetricCompatibility):  # one product, in the memory layout of the messages
        return messages @ compat.matrix().to(messages)
    return compat.forward(messages.T.unsqueeze(0))[0].T


def compatibility(compat: object, labels: int, device: torch.device) -> float | Compatibility:
    """Convert ``compat``: a number w is Potts, ``-w K~ Q``; an array is a penalty mu, ``mu K~ Q``.

    Raises:
        TypeError: ``compat`` is None.
        ValueError: it is not a number, (labels,) or (labels, labels) of finite numbers.
    """
    if isinstance(compat, Real):
        compat = float(compat)
    values = as_tensor("compat", compat)
    if values.ndim > 2:
        raise ValueError("LabelCompatibility of dimension >2 not meaningful.")
    if values.shape not in {(), (labels,), (labels, labels)}:
        allowed = f"a number, ({labels},) or ({labels}, {labels})"
        raise ValueError(f"compat has shape {tuple(values.shape)}, must be {allowed}")
    check_finite("compat", values)
    if values.ndim == 0:
        return float(values)
    _check_sign(values)
    kind = DiagonalCompatibility if values.ndim == 1 else SymmetricCompatibility
    return kind(labels, learnable=False, initial=values).to(device)


def _check_sign(values: Tensor) -> None:
    """Warn where equal labels cost more than different ones, on average."""
    matrix = torch.diag(values) if values.ndim == 1 else values
    equal, pairs = matrix.trace(), len(matrix) * (len(matrix) - 1)
    if equal / len(matrix) > (matrix.sum() - equal) / max(pairs, 1):
        warn_once(
            "compat is an array that makes equal labels cost more than different ones, which roughens the "
            "labeling. Unlike a number, which rewards equal labels, an array is a penalty: to reward equal "
            "labels make it negative, as -10 * np.ones(labels) or -10 * np.eye(labels)"
        )
