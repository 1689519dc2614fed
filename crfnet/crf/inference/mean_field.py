"""Parallel mean field: every pixel's marginal at once from the marginals of the step before."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from crfnet.crf.inference.contract import Inference
from crfnet.shapes import Values

__all__ = ["MeanField"]


@dataclass(frozen=True)
class MeanField(Inference):
    """``Q <- softmax(unary - penalty(Q))``, all pixels in parallel (Krahenbuhl & Koltun 2011, algorithm 1).

    Attributes:
        iterations: steps in evaluation mode, >= 0; DeepLab and CRF-as-RNN use 10.
        train_iterations: steps in training mode, >= 0; CRF-as-RNN uses 5.
        damping: share of the old marginals that a step keeps, in [0, 1):
            ``Q <- (1 - damping) new + damping old``.
    """

    iterations: int = 10
    train_iterations: int = 5
    damping: float = 0.0

    def __post_init__(self) -> None:
        for name in ("iterations", "train_iterations"):
            if getattr(self, name) < 0:
                raise ValueError(f"MeanField: {name} is {getattr(self, name)}, must be >= 0")
        if not 0 <= self.damping < 1:
            raise ValueError(f"MeanField: damping is {self.damping}, must be in [0, 1)")

    def run(
        self,
        unary: Values,
        penalty: Callable[[Values], Values],
        iterations: int,
        trace: list[Values] | None = None,
    ) -> Values:
        """Log marginals after ``iterations`` steps from ``softmax(unary)``; see `Inference.run`."""
        with torch.autocast(unary.device.type, enabled=False):
            # The labels of a pixel lie side by side in memory: softmax and lattice run faster so.
            unary = unary.to(torch.promote_types(unary.dtype, torch.float32)).mT.contiguous().mT
            logits = unary
            for _ in range(iterations):
                q = logits.mT.softmax(2).mT
                if trace is not None:
                    trace.append(q)
                logits = self._damped(unary - penalty(q), logits)
            log_q = logits.mT.log_softmax(2).mT.contiguous()
            if trace is not None:
                trace.append(log_q.exp())
            return log_q

    def _damped(self, new: Values, old: Values) -> Values:
        """Logits of the mixture of the two marginals; in logs, finite where both underflow."""
        if self.damping == 0:
            return new
        kept = old.log_softmax(1) + math.log(self.damping)
        return torch.logaddexp(new.log_softmax(1) + math.log1p(-self.damping), kept)
