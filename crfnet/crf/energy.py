"""What inference minimizes, as numbers: the free energy of marginals, the energy of a labeling, a trace.

All in nats, and up to log Z, which nobody can compute. ``penalty`` is here the whole map
``Q -> mu sum_m W_m K~_m Q``, with the constant per pixel that `Compatibility.forward` may leave out: use
`Compatibility.penalty`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crfnet.shapes import Mask, Values

__all__ = ["Trace", "energy", "free_energy", "trace_of"]


def free_energy(
    q: Values, unary: Values, penalty: Callable[[Values], Values], mask: Mask | None = None
) -> Float[Tensor, " b"]:
    """``F(Q) = sum Q log Q - sum U Q + 1/2 sum Q . penalty(Q)`` of every image, in nats.

    ``KL(Q | P) = F(Q) + log Z`` (Krahenbuhl & Koltun 2011, section 3), with the pair of a pixel with itself
    counted like the others, half, as in the update: it is that F that mean field descends where the penalty
    is symmetric (normalization ``symmetric`` or ``none``, scalar weights, a symmetric mu). The 2011 and 2013
    codes (and pydensecrf's ``klDivergence``) leave the 1/2 out. F may well be negative.

    Args:
        q: marginals, summing to 1 over labels; 0 log 0 is 0.
        unary: logits, in nats.
        penalty: see the top of this file.
        mask: the pixels that count; the others neither cost nor send messages, and may hold anything.
    """
    if mask is not None:
        inside = mask.unsqueeze(1)
        q, unary = torch.where(inside, q, 0.0), torch.where(inside, unary, 0.0)
    return (torch.xlogy(q, q) + q * (penalty(q) / 2 - unary)).sum((1, 2))


def energy(
    labels: Int[Tensor, "b n"],
    unary: Values,
    penalty: Callable[[Values], Values],
    mask: Mask | None = None,
) -> Float[Tensor, " b"]:
    """Gibbs energy ``E(x) = -sum_i U_i(x_i) + 1/2 sum_ij mu(x_i, x_j) k_ij`` of one labeling per image.

    Every pair of pixels counts once. The pair of a pixel with itself counts half, which is 0 where mu has
    a zero diagonal (Potts); with another diagonal it adds ``1/2 sum_i mu(x_i, x_i) k_ii``. It is the free
    energy of marginals that are 0 and 1: subtract two of them to compare labelings of one image.

    Args:
        labels: a class index per pixel; those outside the mask may be anything, 255 say.
        unary: logits, in nats.
        penalty: see the top of this file.
        mask: the pixels that count.

    Raises:
        ValueError: a label inside the mask is not one of the classes.
    """
    classes = unary.shape[1]
    if mask is not None:
        labels = torch.where(mask, labels, 0)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(f"labels: values from {low} to {high}, must be in 0..{classes - 1} inside the mask")
    x = torch.zeros_like(unary).scatter_(1, labels.long().unsqueeze(1), 1.0)
    return free_energy(x, unary, penalty, mask)


@dataclass(frozen=True)
class Trace:
    """How an inference went, step by step; t is the number of steps really done.

    Attributes:
        free_energy: of Q^0 .. Q^t, in nats up to log Z.
        change: the largest change of a marginal from Q^k to Q^(k+1), in 0..1.
        marginals: Q^0 .. Q^t, or None where they were not to be kept.
    """

    free_energy: Float[Tensor, "points b"]
    change: Float[Tensor, "steps b"]
    marginals: tuple[Values, ...] | None


@torch.no_grad()
def trace_of(
    marginals: Sequence[Values],
    unary: Values,
    penalty: Callable[[Values], Values],
    mask: Mask | None = None,
    *,
    keep_marginals: bool = False,
) -> Trace:
    """The `Trace` of the marginals that `Inference.run` appended to its ``trace``.

    Filters every one of them once more, so that a traced inference costs about twice as much. Arguments as
    of `free_energy`; the changes, too, are of the pixels inside the mask.
    """
    unary = unary.to(marginals[0].dtype)
    energies = torch.stack([free_energy(q, unary, penalty, mask) for q in marginals])
    changes = energies.new_zeros(len(marginals) - 1, len(unary))
    for k, (before, q) in enumerate(pairwise(marginals)):
        change = (q - before).abs().amax(1)
        changes[k] = (change if mask is None else torch.where(mask, change, 0.0)).amax(1)
    return Trace(energies, changes, tuple(marginals) if keep_marginals else None)
