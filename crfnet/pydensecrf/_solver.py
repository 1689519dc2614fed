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
from crfnet.crf.energy import free_energy
from crfnet.crf.inference.softmax import softmax
from crfnet.crf.pruning import Pruning
from crfnet.pydensecrf._pairwise import PairwiseTerm, Penalty
from crfnet.shapes import Values

__all__ = ["Solver"]

_Energies = Float[Tensor, " n"]

_NEGLIGIBLE = 1e-6  # of a marginal: a few times the rounding of a step


class Solver:
    """One CRF on one device. Values are (1, M, N) and lie in memory as (1, N, M), labels side by side.

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
        self.logits = -u.to(self.device).T.contiguous().T.unsqueeze(0)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Within, all is float32 without gradients, and freed memory is kept."""
        off = torch.autocast(self.device.type, enabled=False)
        with torch.inference_mode(), off, retain_freed_memory(self.device):
            yield

    def marginals(self, steps: int) -> Values:
        """Q after ``steps`` of mean field from the softmax of the unary."""
        logits = self._unary()
        q = softmax(logits.mT, torch.empty_like(logits.mT)).mT
        pruning = self._prunable(q) if steps else None
        if pruning is None:
            for _ in range(steps):
                q = self.step(q, out=q)
            return q
        part = pruning.reduce_marginals(q)
        few = part.log()
        for _ in range(steps):
            messages = self._penalty(part)
            messages[:, -1] = 0
            part = _updated(few, messages, part)
        return pruning.expand_marginals(part, q)

    def step(self, q: Values, out: Values | None = None) -> Values:
        """``softmax(U - penalty(Q))``, a step of `crfnet.crf.inference.MeanField`, in the memory of ``out``.

        That class answers with logarithms and in another layout; to turn them into marginals as pydensecrf
        gives them takes a tenth of the time of five steps.
        """
        messages = self._penalty(q)
        return _updated(self._unary(), messages, torch.empty_like(messages.mT).mT if out is None else out)

    def _prunable(self, q: Values) -> Pruning | None:
        """The labels that need no filtering because they are improbable everywhere; None for none.

        Where all terms reward equal labels, by at most ``r`` nats for marginals of 1, a label that is nowhere
        above a small eps at first stays below eps (1 + O(r eps)). Its messages are at most r eps, and change
        its marginal by r eps^2 at most. Labels are left out, the least likely first, while these changes
        add up to no more than `_NEGLIGIBLE`.
        """
        largest, labels = _column_maxima(q[0].T).sort()
        if (
            len(largest) < 2
            or float(largest[1]) ** 2 > _NEGLIGIBLE
            or (reach := self._penalty.max_reward) is None
        ):
            return None
        count = int((reach * largest.square().cumsum(0) <= _NEGLIGIBLE).sum())
        if count < 2:  # together they are one label
            return None
        return Pruning(labels[count:].sort().values, labels[:count].sort().values)

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
        return q.to(self.device).T.contiguous().T.unsqueeze(0)

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
            return torch.zeros(1, self.points, self.labels, device=self.device).mT
        return self.logits

    def _chosen(self, labeling: Int[Tensor, " n"]) -> Values:
        """1 at the label of each point; all 0 for one outside 0..M-1."""
        known = torch.where((labeling >= 0) & (labeling < self.labels), labeling, -1)
        return F.one_hot(known + 1, self.labels + 1)[:, 1:].float().T.unsqueeze(0)

    def _at(self, labeling: Int[Tensor, " n"], values: Values) -> _Energies:
        return (self._chosen(labeling) * values)[0].sum(0)


def _updated(logits: Values, messages: Values, out: Values) -> Values:
    """``softmax(logits - messages)`` in the memory of ``out``; overwrites the messages."""
    return softmax(torch.sub(logits, messages, out=messages).mT, out.mT).mT


def _column_maxima(table: Float[Tensor, "n l"]) -> Float[Tensor, " l"]:
    """``table.amax(0)``, which on a CPU takes ten times as long where rows are short."""
    at_once = 64
    whole = len(table) // at_once * at_once
    most = (
        table[:whole].reshape(-1, at_once * table.shape[1]).amax(0).view(at_once, -1) if whole else table[:0]
    )
    return torch.cat([most, table[whole:]]).amax(0)
