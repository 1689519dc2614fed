"""Labels that cannot matter: those of low probability at every pixel are not filtered."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crfnet.shapes import Channel, Mask, Values

__all__ = ["Pruning"]


@dataclass(frozen=True)
class Pruning:
    """Mean field on the labels ``kept``, with all others summed up as one label that gets no message.

    The others keep their proportions to one another at every pixel, for each has its unary alone.

    Attributes:
        kept: indices of the labels that are filtered.
        dropped: indices of the others; empty for none.
    """

    kept: Int[Tensor, " kept"]
    dropped: Int[Tensor, " dropped"]

    @classmethod
    def below(cls, threshold: float, unary: Values, mask: Mask | None) -> "Pruning":
        """Drops labels whose ``softmax(unary)`` is below ``threshold`` at every pixel of every image."""
        q = unary.softmax(1)
        if mask is not None:
            q = q * mask.unsqueeze(1)
        matters = q.amax((0, 2)) >= threshold
        matters.index_fill_(0, q.sum((0, 2)).argmax(), True)  # at least one
        keep = matters.tolist()  # the one wait for a GPU
        kept, dropped = (
            torch.tensor([k for k, one in enumerate(keep) if one is wanted], dtype=torch.int64, device="cpu")
            for wanted in (True, False)
        )
        return cls(*(some.to(unary.device, non_blocking=True) for some in (kept, dropped)))

    def reduce(self, unary: Values) -> Float[Tensor, "b few n"]:
        """Logits of the kept labels, and last of the dropped ones together: (b, kept + 1, n)."""
        return torch.cat([unary[:, self.kept], self._rest(unary)], dim=1)

    def expand(self, log_q: Float[Tensor, "b few n"], unary: Values) -> Values:
        """Log marginals of all labels from those of the reduced problem."""
        full = torch.empty_like(unary)
        full[:, self.kept] = log_q[:, :-1]
        full[:, self.dropped] = log_q[:, -1:] + unary[:, self.dropped] - self._rest(unary)
        return full

    def _rest(self, unary: Values) -> Channel:
        return unary[:, self.dropped].logsumexp(1, keepdim=True)
