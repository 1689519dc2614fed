"""Parallel mean field: every pixel's marginal at once from the marginals of the step before."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from crfnet import kernels
from crfnet.crf.inference.contract import Inference
from crfnet.crf.inference.softmax import log_softmax, softmax
from crfnet.shapes import Values

__all__ = ["MeanField"]


@dataclass(frozen=True)
class MeanField(Inference):
    """``Q <- softmax(unary - penalty(Q))``, all pixels in parallel (Krahenbuhl & Koltun 2011, algorithm 1).

    Attributes:
        damping: share of the old marginals that a step keeps, in [0, 1):
            ``Q <- (1 - damping) new + damping old``.
        tolerance: without gradients, stop once no marginal of the batch changes by more, >= 0; 0 never
            stops. See `Inference.run`.
        recompute: with gradients, keep one (b, l, n) array per step (two with damping) and compute the rest
            again in the backward pass. See `Inference.run`.
        reduce: in evaluation with Potts and label-by-label weights, messages are those of the fewest leading
            directions of the marginals that leave a part of this root mean square; >= 0. 0 filters every
            label of every pixel. Compiled on a CPU, only those pixels send and hear after two steps whose
            marginals have changed by 0.3 of it. See `crfnet.crf.inference.label_by_label` and
            `crfnet.crf.reduced_messages`.
    """

    damping: float = 0.0
    tolerance: float = 0.0
    recompute: bool = False
    reduce: float = 1e-4

    def __post_init__(self) -> None:
        self._check()
        self._require("damping", 0 <= self.damping < 1, "in [0, 1)")
        self._require("reduce", 0 <= self.reduce < 1, "in [0, 1)")

    def _steps(
        self,
        unary: Values,
        penalty: Callable[[Values], Values],
        iterations: int,
        trace: list[Values] | None,
        begin: Values | None = None,
    ) -> Values:
        start = unary if begin is None else begin
        update = self._kept_small(lambda q, old: self._damped(_local_update(unary, penalty(q)), old))
        # Without gradients and with nobody to keep them, all marginals take turns in one table.
        reuse = not torch.is_grad_enabled() and trace is None and self.tolerance == 0
        table = torch.empty_like(unary.mT) if reuse else None
        if table is not None and not self.damping and kernels.usable(unary):
            return _by_kernel(unary, start, penalty, iterations, table)
        logits, before = start, None
        for _ in range(iterations):
            q = softmax(logits.mT, table).mT
            if self._settled(q, before):
                break
            if trace is not None:
                trace.append(q)
            old = logits if self.damping else None
            logits = start = unary  # the last ones are let go before there are new ones
            logits, before = update(q, old), q
        if table is not None and iterations > 0:  # nobody looks at these logits or marginals any more
            place = table.mT if table.mT.is_contiguous() else table.view(unary.shape)
            return place.copy_(log_softmax(logits.mT, logits.mT).mT)
        log_q = log_softmax(logits.mT).mT.contiguous()
        if trace is not None:
            trace.append(log_q.exp())
        return log_q

    def _damped(self, new: Values, old: Values | None) -> Values:
        """Logits of the mixture of the two marginals; in logs, finite where both underflow."""
        if old is None:
            return new
        kept = old.log_softmax(1) + math.log(self.damping)
        return torch.logaddexp(new.log_softmax(1) + math.log1p(-self.damping), kept)


def _by_kernel(
    unary: Values,
    start: Values,
    penalty: Callable[[Values], Values],
    iterations: int,
    table: Float[Tensor, "b n l"],
) -> Values:
    """The same steps, each update in one kernel; ``table`` receives the marginals."""
    from crfnet.kernels.gpu.update import mean_field_update  # triton takes a second to import

    if iterations == 0:
        return log_softmax(start.mT).mT.contiguous()
    logits = unary.mT.flatten(0, 1)
    minus = logits.new_full((len(logits),), -1.0)
    q = softmax(start.mT, table).mT
    for _ in range(iterations - 1):
        mean_field_update(logits, penalty(q).mT.flatten(0, 1), minus, table.flatten(0, 1))
    return log_softmax(_local_update(unary, penalty(q)).mT).mT.contiguous()


def _local_update(unary: Values, penalty: Values) -> Values:
    """The difference; without gradients in the penalty's memory, which nobody else holds."""
    return unary - penalty if torch.is_grad_enabled() else torch.sub(unary, penalty, out=penalty)
