"""Reduced messages by torch: on a GPU, and on a CPU without numba.

As in `crfnet.crf.inference.label_by_label`, the leading directions V of the marginals are filtered in the
place of all labels, the fewest groups of eight that leave a root mean square of at most ``reduce``; but
through operators, so that any filter is served, and every pixel sends and hears in every step. The mean m of
the marginals is taken off first and sent as it is, for K~ 1 is known: ``K~ Q = (K~ 1) m + K~ (Q - m) V V^T +
K~ R``.

*One wait a step.* The Gram matrix of a sample of pixels goes to the host, whose float64 eigenvectors decide
how many channels there are; with it goes what the step before left out of all pixels. A sample that was not
enough is noticed one step later: from then on all pixels are looked at (that step waits twice).
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from crfnet.crf.inference.label_by_label import Marginals
from crfnet.crf.message_passing import Term, message_passing
from crfnet.shapes import Mask, Values

__all__ = ["GROUP", "ReducedMessages", "leading_directions"]

GROUP = 8  #: channels; labels that fill no more than one are not reduced
_STRIDE = 17  # of the sample; odd, so that it wanders over the columns of an image
_FEWEST = 2048  # pixels of a sample
_MARGIN = 0.9  # share of the limit that the sample may leave: other pixels differ a little
_NOTHING = 1e-5  # share of the limit that labels may come to that the basis leaves out

_Gram = Float[np.ndarray, "l l"]


class ReducedMessages:
    """The Potts penalty ``Q -> -sum_m w_m K~_m Q`` of one run of steps, whose calls it counts.

    Args:
        terms: of all kernels, at least one; each weight is one number, or one per label. Without gradients.
        unary: its batch, labels, pixels, precision and device are those of Q; its content is not read.
        reduce: the root mean square of a pixel's marginals that may be left out, > 0.
        mask: the pixels that send and receive; None for all.
        memory: as of `labels_at_once`.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        unary: Values,
        *,
        reduce: float,
        mask: Mask | None = None,
        memory: int | None = None,
    ) -> None:
        together = [term for term in terms if term.weight is None]
        apart = [term for term in terms if term.weight is not None]
        self._terms, self._memory = terms, memory
        self._sums: list[tuple[list[Term], Tensor | None]] = [(together, None)] if together else []
        self._sums += [([Term(term.filtered)], term.weight) for term in apart]
        ones = torch.ones_like(unary[:, :1])
        self._of_ones = [message_passing(some, ones, memory) for some, _ in self._sums]
        self._inside = None if mask is None else mask.unsqueeze(1).to(unary.dtype)
        self._reduce = reduce
        batch, labels, pixels = unary.shape
        self._most = -(-labels // GROUP)
        self._stride = min(_STRIDE, max(1, pixels // _FEWEST)) | 1
        self._pixels = unary.new_full((batch,), pixels) if mask is None else mask.sum(1)
        self._next_look = self._pause = 0
        self._groups: list[int] = []
        self._left: list[Float[Tensor, "b 2"]] = []  # mean square of R, largest square; of every step

    def __call__(self, q: Values) -> Values:
        """The penalty of the next step, in memory of its own."""
        chosen = self._choose(q) if len(self._groups) >= self._next_look else None
        self._groups.append(self._most if chosen is None else chosen[1].shape[2] // GROUP)
        if chosen is None:
            self._left.append(q.new_zeros(len(q), 2))
            return message_passing(self._terms, q, self._memory).neg_()
        mean, basis = chosen
        rest = q.mT - mean.mT  # (b, n, l)
        sent = (rest @ basis).mT
        channels, coefficients = [], []
        for (some, weight), of_ones in zip(self._sums, self._of_ones, strict=True):
            columns = torch.cat([basis, mean], dim=2)
            channels += [message_passing(some, sent, self._memory), of_ones]
            coefficients.append(columns if weight is None else columns * weight.view(-1, 1))
        self._left.append(self._measured(rest.baddbmm_(sent.mT, basis.mT, alpha=-1)))
        return (torch.cat(channels, dim=1).mT @ torch.cat(coefficients, dim=2).mT.neg()).mT

    def marginals(self, log_q: Values) -> Marginals:
        """What `MeanField` found with this penalty, and what was left out on the way; waits for a GPU."""
        batch, labels, _ = log_q.shape
        channels = [min(GROUP * groups, labels) for groups in self._groups]
        left = torch.stack(self._left).sqrt() if self._left else log_q.new_zeros(0, batch, 2)
        return Marginals(log_q.unsqueeze(0), [channels] * batch, left[:, :, 1].T.tolist())

    @property
    def rms(self) -> Float[Tensor, "steps b"]:
        """The root mean square of R over the pixels, at every step so far."""
        return torch.stack(self._left)[:, :, 0].sqrt()

    def _measured(self, rest: Float[Tensor, "b n l"]) -> Float[Tensor, "b 2"]:
        squares = rest.square_().sum(2)
        if self._inside is not None:
            squares = squares * self._inside[:, 0]
        return torch.stack([squares.sum(1) / self._pixels, squares.amax(1)], 1)

    def _choose(self, q: Values) -> tuple[Float[Tensor, "b l 1"], Float[Tensor, "b l k"]] | None:
        """The mean and the basis of a step; None where all labels are to be filtered."""
        mean, basis = self._look(q)
        step = len(self._groups)
        # The first step says nothing: marginals are surer after it. Where the rank stays high, looks get
        # rare.
        self._pause = 2 * self._pause + 1 if basis is None and step > 0 else 0
        self._next_look = step + 1 + self._pause
        if basis is None:
            return None
        directions = torch.tensor(basis, dtype=q.dtype, device="cpu")
        return mean.to(q.dtype), directions.to(q.device, non_blocking=True)

    def _look(self, q: Values) -> tuple[Float[Tensor, "b l 1"], list[list[list[float]]] | None]:
        """The mean of a sample, and its basis (b, l, k) if fewer groups than all do; the wait of a step."""
        sample = q[:, :, :: self._stride].double()
        counts = torch.ones_like(sample[:, :1])
        if self._inside is not None:
            counts = self._inside[:, :, :: self._stride].to(sample.dtype)
        number = counts.sum(2, keepdim=True).clamp_min(1)
        mean = (sample * counts).sum(2, keepdim=True) / number
        sample = (sample - mean) * counts
        gram = sample @ sample.mT / number
        before = self._left[-1][:, :1].double() if self._left else torch.zeros_like(number[:, 0])
        known = torch.cat([gram, before[:, :, None].expand(-1, 1, q.shape[1])], 1).cpu().numpy()
        if self._stride > 1 and known[:, -1].max() > self._reduce**2:
            self._stride = 1
            return self._look(q)
        found = [leading_directions(each, _MARGIN * self._reduce**2) for each in known[:, :-1]]
        groups = max(1, -(-max(rank for _, rank in found) // GROUP))
        if groups >= self._most:
            return mean, None
        return mean, [directions[:, : GROUP * groups].tolist() for directions, _ in found]


def leading_directions(gram: _Gram, limit: float) -> tuple[Float[np.ndarray, "l l"], int]:
    """Eigenvectors, those of most variance first, and how many of them leave at most ``limit`` of the trace.

    Labels that come to nearly nothing have a part in none: as many columns are 0.
    """
    square = gram.diagonal()
    kept = np.flatnonzero(square > _NOTHING * limit / len(gram))
    directions = np.zeros_like(gram)
    values, vectors = np.linalg.eigh(gram[np.ix_(kept, kept)])
    directions[kept, : len(kept)] = vectors[:, ::-1]
    lost = square.sum() - square[kept].sum()
    left = lost + np.append(np.cumsum(values.clip(min=0))[::-1], 0.0)  # by none of them, by one, by two ...
    return directions, int(np.flatnonzero(left <= limit)[0])
