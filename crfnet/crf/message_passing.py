"""What pixels tell one another: the sum of the kernels' weighted messages, of some labels after others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from crfnet.crf.potentials import PotentialWeight
from crfnet.shapes import Values

__all__ = ["Term", "labels_at_once", "message_passing"]

_MEMORY = 1 << 30  # bytes; of a GPU an eighth of what it has
#: Arrays of the labels at hand that are alive while they are filtered: their copy, messages of kernels, what
#: lies between two axes; or tables of 2.5 lattice corners for each pixel.
_ARRAYS = 6


@dataclass(frozen=True)
class Term:
    """``Q -> W K~ Q`` of one kernel, for all labels or for some that lie side by side.

    Attributes:
        filtered: ``K~ Q``, with the weight where that is one number; label by label.
        weight: one number per label (l,), or a matrix (l, l); None where ``filtered`` has it.
    """

    filtered: Callable[[Values], Values]
    weight: Tensor | None = None

    @property
    def mixes(self) -> bool:
        """The messages of a label come from all labels."""
        return self.weight is not None and self.weight.ndim == 2

    def __call__(self, q: Values, labels: slice) -> Values:
        """The messages of some labels, whose marginals are ``q``."""
        if self.weight is None:
            return self.filtered(q)
        return PotentialWeight.weigh(self.filtered(q), self.weight if self.mixes else self.weight[labels])


def message_passing(terms: Sequence[Term], q: Values, memory: int | None = None) -> Values:
    """The sum of the terms, at least one.

    Args:
        terms: of all kernels.
        q: marginals.
        memory: as of `labels_at_once`; with gradients, and where labels are mixed, all are filtered at once.
    """
    size = q.shape[1] if torch.is_grad_enabled() else labels_at_once(q, memory)
    if size >= q.shape[1] or any(term.mixes for term in terms):
        return reduce(_plus, (term(q, slice(None)) for term in terms))
    out = torch.empty_like(q)
    for some in torch.arange(q.shape[1], device="cpu").tensor_split(
        -(-q.shape[1] // size)
    ):  # groups of equal size, or nearly
        labels = slice(int(some[0]), int(some[-1]) + 1)
        out[:, labels] = reduce(_plus, (term(q[:, labels], labels) for term in terms))
    return out


def labels_at_once(q: Values, memory: int | None = None) -> int:
    """How many labels are filtered together so that what is made meanwhile fits into the memory; at least 1.

    Args:
        q: marginals; their content is not read.
        memory: MiB; None for 1024, on a GPU for an eighth of what it has.
    """
    if memory is not None:
        room = memory << 20
    else:
        room = torch.cuda.get_device_properties(q.device).total_memory // 8 if q.is_cuda else _MEMORY
    return max(1, room // (_ARRAYS * q.element_size() * q.shape[0] * q.shape[2]))


def _plus(x: Tensor, y: Tensor) -> Tensor:
    """The sum; in place where no gradient is recorded, since fresh memory costs more than it does."""
    return x + y if torch.is_grad_enabled() else x.add_(y)
