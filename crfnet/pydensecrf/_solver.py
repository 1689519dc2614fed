"""What a `DenseCRF` computes: mean field and energies of one unary and any number of pairwise terms."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from crfnet.crf.allocator import retain_freed_memory
from crfnet.crf.compatibility import Compatibility
from crfnet.crf.energy import free_energy
from crfnet.crf.inference import MeanField
from crfnet.crf.inference.label_by_label import usable
from crfnet.pydensecrf._pairwise import PairwiseTerm, Penalty, padding
from crfnet.shapes import Values

__all__ = ["Solver"]

_Energies = Float[Tensor, " n"]

_REDUCE = 1e-5  # root mean square of what messages leave out of the marginals, see `crfnet.kernels.cpu`


class Solver:
    """One CRF on one device. Values are (1, M, N).

    Args:
        points: N.
        labels: M.
        device: where to compute.
    """

    def __init__(self, points: int, labels: int, device: torch.device) -> None:
        self.points, self.labels, self.device = points, labels, device
        self.terms: list[PairwiseTerm] = []
        self._whole: Penalty | None = None
        self.logits: Values | None = None

    def add(self, term: PairwiseTerm) -> None:
        """One more pairwise term."""
        self.terms.append(term)
        self._whole = None

    def set_unary(self, u: Float[Tensor, "l n"]) -> None:
        """Energies of the points, copied."""
        self.logits = -u.to(self.device).contiguous().unsqueeze(0)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Within, all is float32 without gradients, and freed memory is kept."""
        off = torch.autocast(self.device.type, enabled=False)
        with torch.inference_mode(), off, retain_freed_memory(self.device):
            yield

    def marginals(self, steps: int) -> Values:
        """Q after ``steps`` of mean field from the softmax of the unary."""
        if steps and self.terms and self._compiled():
            return self._by_one_loop(steps)
        return MeanField().run(self._unary(), self._penalty, steps).exp_()

    def step(self, q: Values) -> Values:
        """``softmax(U - penalty(Q))``, a step of `crfnet.crf.inference.MeanField`."""
        return (self._unary() - self._penalty(q)).softmax(1)

    def _compiled(self) -> bool:
        """Whether the compiled loop does these steps: Potts terms on a CPU, where numba is."""
        potts = not any(isinstance(term.compat, Compatibility) for term in self.terms)
        return potts and usable(self._unary())

    def _by_one_loop(self, steps: int) -> Values:
        """`marginals` as one compiled call."""
        from crfnet.kernels.cpu.mean_field import mean_field  # numba takes half a second to import

        padded = padding(self.points)
        normalizations = [term.kernel.normalization for term in self.terms]
        run = mean_field(
            F.pad(self._unary()[0], (0, padded)).numpy(),
            [term.kernel.compiled for term in self.terms],
            [],
            np.array([[term.compat for term in self.terms]], np.float64),
            iterations=steps,
            normalization=normalizations,
            mask=np.arange(self.points + padded) < self.points if padded else None,
            reduce=0 if "none" in normalizations else _REDUCE,
        )
        return torch.from_numpy(run.log_marginals[:, :, : self.points]).exp_()

    def free_energy(self, q: Values, pairwise: float) -> float:
        """``sum Q log Q + sum U Q + pairwise / 2 sum Q . penalty(Q)``, summed in float64."""
        messages = self._penalty(q).double() * pairwise
        return float(free_energy(q.double(), self._unary().double(), lambda _: messages))

    def unary_energy(self, labeling: Int[Tensor, " n"]) -> _Energies:
        """U at the labels; 0 where there is none."""
        return self._at(labeling, -self._unary())

    def pairwise_energy(self, labeling: Int[Tensor, " n"], terms: Sequence[PairwiseTerm]) -> _Energies:
        """Half of the penalty at the labels; 0 where there is none."""
        return self._at(labeling, Penalty(terms)(self._chosen(labeling)) / 2)

    def values(self, q: Float[Tensor, "l n"]) -> Values:
        """(M, N) as this object has it; it may share memory."""
        return q.to(self.device).unsqueeze(0)

    @staticmethod
    def array(q: Values) -> npt.NDArray[np.float32]:
        """The other way round, in memory column by column."""
        table: npt.NDArray[np.float32] = q[0].T.contiguous().cpu().numpy()
        return table.T

    @property
    def _penalty(self) -> Penalty:
        if self._whole is None:
            self._whole = Penalty(self.terms)
        return self._whole

    def _unary(self) -> Values:
        """Logits; 0 where none are set."""
        if self.logits is None:
            return torch.zeros(1, self.labels, self.points, device=self.device)
        return self.logits

    def _chosen(self, labeling: Int[Tensor, " n"]) -> Values:
        """1 at the label of each point; all 0 for one outside 0..M-1."""
        known = torch.where((labeling >= 0) & (labeling < self.labels), labeling, -1)
        return F.one_hot(known + 1, self.labels + 1)[:, 1:].float().T.unsqueeze(0)

    def _at(self, labeling: Int[Tensor, " n"], values: Values) -> _Energies:
        return (self._chosen(labeling) * values)[0].sum(0)
