# ruff: noqa: N802 - the names are pydensecrf's
"""pydensecrf's `DenseCRF` on this package's lattice and mean field."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from crfnet.pydensecrf import eigen
from crfnet.pydensecrf._arrays import as_array, as_tensor, check_finite, whole_number
from crfnet.pydensecrf._options import (
    KernelType,
    NormalizationType,
    enum_member,
    normalization_name,
    select_device,
)
from crfnet.pydensecrf._pairwise import NormalizedKernel, PairwiseTerm, compatibility
from crfnet.pydensecrf._solver import Solver
from crfnet.pydensecrf.unary import LogisticUnary, Unary, energies
from crfnet.shapes import Features, Values

__all__ = ["DenseCRF"]

_DIAG, _SYMMETRIC = KernelType.DIAG_KERNEL, NormalizationType.NORMALIZE_SYMMETRIC


class DenseCRF:
    """A CRF that connects every point with every other.

    Args:
        nvar: number of points N, >= 1.
        nlabels: number of labels M, >= 1.
        device: ``auto``, ``cpu`` or ``cuda``; None for the environment variable CRFNET_DEVICE, and without it
            ``auto``, a GPU where there is one. Not in pydensecrf.
        ignored: pydensecrf ignores further arguments; so does this, with a warning.
        also_ignored: likewise.

    Raises:
        ValueError: a number is out of range, or there is no such device.
    """

    def __init__(
        self,
        nvar: object,
        nlabels: object,
        *ignored: object,
        device: str | torch.device | None = None,
        **also_ignored: object,
    ) -> None:
        if ignored or also_ignored:
            names = ", ".join([*map(repr, ignored), *also_ignored])
            warnings.warn(
                f"{type(self).__name__} ignores its arguments {names}",
                stacklevel=2 + (type(self) is not DenseCRF),
            )
        points, labels = whole_number("nvar", nvar, 1), whole_number("nlabels", nlabels, 1)
        self._solver = Solver(points, labels, select_device(device))

    def setUnary(self, u: object) -> None:
        """Set the unary energies; replaces earlier ones.

        Args:
            u: energies (M, N); may be used again, and for other CRFs.

        Raises:
            TypeError: ``u`` is not a `Unary`.
            ValueError: ``u`` is empty or not (M, N).
        """
        if not isinstance(u, Unary):
            kind = type(u).__name__
            raise TypeError(
                f"Argument 'u' has incorrect type (expected pydensecrf.densecrf.Unary, got {kind})"
            )
        if u.values is None:
            raise ValueError("u is an empty Unary, must be a ConstUnary or a LogisticUnary")
        self._set_unary(u.values)

    def setUnaryEnergy(self, u: object, f: object = None) -> None:
        """Set the unary energies; replaces earlier ones.

        Args:
            u: energies (M, N) in nats: negative log-probabilities, +inf for what cannot be. Copied. With
                ``f``, weights (M, D).
            f: features (D, N); the energies are ``u f``.

        Raises:
            TypeError: ``u`` is None.
            ValueError: wrong shape, NaN or -inf, or a point without a finite energy.
        """
        self._set_unary(energies("u", u) if f is None else LogisticUnary.product(u, f))

    def addPairwiseEnergy(
        self,
        features: object,
        compat: object,
        kernel: object = _DIAG,
        normalization: object = _SYMMETRIC,
    ) -> None:
        """Add a term whose kernel is ``exp(-|f_i - f_j|^2 / 2)``.

        Args:
            features: (D, N), in units of one bandwidth.
            compat: a number w, Potts: equal labels are rewarded by w times the kernel. An array (M,), a
                diagonal, or (M, M), symmetrized, is a penalty instead: to reward, it is negative.
            kernel: a `KernelType`. It says what pydensecrf's C++ may learn, and inference does not see it.
            normalization: a `NormalizationType`.

        Raises:
            TypeError: an array is None.
            ValueError: wrong shape, a number that is not finite, or an unknown choice.
        """
        f = as_tensor("features", features, 2)
        points = self._solver.points
        if f.shape[1] != points or len(f) == 0:
            raise ValueError(f"Bad shape for pairwise energy (Need (?, {points}), got {tuple(f.shape)})")
        self._add(f.clone().unsqueeze(0), compat, kernel, normalization)

    def inference(self, niter: object) -> eigen.MatrixXf:
        """Marginals Q (M, N) after ``niter`` steps of mean field.

        Raises:
            ValueError: ``niter`` is not a whole number >= 0.
        """
        steps = whole_number("niter", niter, 0)
        with self._solver.computing():
            return eigen.wrap(self._solver.array(self._solver.marginals(steps)))

    def startInference(self) -> tuple[eigen.MatrixXf, eigen.MatrixXf, eigen.MatrixXf]:
        """Marginals (M, N) before the first step, all 0 if no unary is set; and two empty matrices."""
        q = self.inference(0)
        if self._solver.logits is None:
            q[...] = 0
        return q, eigen.MatrixXf(), eigen.MatrixXf()

    def stepInference(self, Q: object, tmp1: object = None, tmp2: object = None) -> None:
        """Run one step of mean field, in place.

        Args:
            Q: marginals (M, N): of `startInference`, or any floating-point array of numpy.
            tmp1: not used.
            tmp2: not used.

        Raises:
            TypeError: ``Q`` is not such an array.
            ValueError: it has another shape or is read-only.
        """
        if not isinstance(Q, np.ndarray) or Q.dtype.kind != "f":
            kind = f"{type(Q).__name__} of {Q.dtype}" if isinstance(Q, np.ndarray) else type(Q).__name__
            raise TypeError(
                f"Argument 'Q' has incorrect type (expected pydensecrf.eigen.MatrixXf, got {kind})"
            )
        with self._solver.computing():
            Q[...] = self._solver.array(self._solver.step(self._marginals(Q)))

    def klDivergence(self, Q: object) -> float:
        """The value that pydensecrf gives for marginals Q: `freeEnergy` with pairwise terms counted twice.

        It is not a divergence (it may be negative), and mean field need not lower it.
        """
        with self._solver.computing():
            return self._solver.free_energy(self._marginals(Q), 2.0)

    def freeEnergy(self, Q: object) -> float:
        """``sum Q log Q + sum U Q + 1/2 sum_k sum Q . compat_k(K~_k Q)`` for marginals Q (M, N), in nats.

        This is KL(Q | P) up to constants (log Z, and for Potts w/2 times the sum over the kernel), and what
        mean field lowers where the kernel is symmetric (NORMALIZE_SYMMETRIC, NO_NORMALIZATION) and equal
        labels are rewarded. Not in pydensecrf.
        """
        with self._solver.computing():
            return self._solver.free_energy(self._marginals(Q), 1.0)

    def map(self, niter: object) -> npt.NDArray[np.int64]:
        """The most likely label of every point (N,) after ``niter`` steps; in pydensecrf for C++ only."""
        return self.currentMap(self.inference(niter))

    def currentMap(self, Q: object) -> npt.NDArray[np.int64]:
        """The most likely label of every point (N,) for marginals Q (M, N); in pydensecrf for C++ only."""
        with self._solver.computing():
            return self._to_numpy(self._marginals(Q)[0].argmax(0))

    def unaryEnergy(self, l: object) -> npt.NDArray[np.float32]:
        """The unary energy of each point's label, in nats (N,); in pydensecrf for C++ only.

        Args:
            l: labels (N,), whole numbers; a point whose label is not in 0..M-1 has energy 0.

        Raises:
            ValueError: ``l`` is something else.
        """
        with self._solver.computing():
            return self._to_numpy(self._solver.unary_energy(self._labeling(l)))

    def pairwiseEnergy(self, l: object, term: object = -1) -> npt.NDArray[np.float32]:
        """*Minus* half of each point's pairwise energy, in nats (N,); in pydensecrf for C++ only.

        The sign is the C++'s. Every pair's cost is shared by its two points, so the energy of a labeling is
        ``unaryEnergy(l).sum() - pairwiseEnergy(l).sum()``, in which a number w as compat is -w for equal
        labels and 0 for others.

        Args:
            l: labels (N,), whole numbers; a point whose label is not in 0..M-1 has no part in any term.
            term: which term, in the order of adding; -1 for the sum of all.

        Raises:
            ValueError: ``l`` is something else, or there is no such term.
        """
        terms, chosen = self._solver.terms, whole_number("term", term, -1)
        if chosen >= len(terms):
            raise ValueError(f"term is {chosen}, must be -1 for all or one of the {len(terms)} terms, from 0")
        selected = terms if chosen == -1 else terms[chosen : chosen + 1]
        with self._solver.computing():
            return self._to_numpy(-self._solver.pairwise_energy(self._labeling(l), selected))

    def _set_unary(self, u: Tensor) -> None:
        wanted = (self._solver.labels, self._solver.points)
        if u.shape != wanted:
            raise ValueError(f"Bad shape for unary energy (Need {wanted}, got {tuple(u.shape)})")
        self._solver.set_unary(u)

    def _add(
        self,
        features: Features,
        compat: object,
        kernel: object,
        normalization: object,
        shared: Callable[[str], NormalizedKernel] | None = None,
    ) -> None:
        """Add a term; ``shared`` finds the kernel of a normalization that other CRFs have made."""
        solver = self._solver
        check_finite("features", features)
        enum_member("kernel", KernelType, kernel)
        scaling = normalization_name(normalization)
        mu = compatibility(compat, solver.labels, solver.device)
        make = shared or partial(NormalizedKernel, features.to(solver.device))
        solver.add(PairwiseTerm(make(scaling), mu))

    def _marginals(self, Q: object) -> Values:
        q = as_tensor("Q", Q)
        wanted = (self._solver.labels, self._solver.points)
        if q.shape != wanted:
            raise ValueError(f"Bad shape for Q (Need {wanted}, got {tuple(q.shape)})")
        return self._solver.values(q)

    def _labeling(self, l: object) -> Int[Tensor, " n"]:
        labels = as_array("l", l)
        if labels.size != self._solver.points or labels.dtype.kind not in "iu":
            raise ValueError(
                f"l is {labels.dtype} of shape {labels.shape}, must be {self._solver.points} whole numbers"
            )
        return torch.from_numpy(labels.astype(np.int64).reshape(-1)).to(self._solver.device)

    @staticmethod
    def _to_numpy(values: Tensor) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = values.cpu().numpy()
        return array
