"""What an inference scheme promises."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from crfnet import kernels
from crfnet.errors import require
from crfnet.shapes import Values

__all__ = ["Inference"]


class Inference(ABC):
    """How the marginals Q are found: a frozen dataclass of the scheme's own parameters, nothing to learn.

    Its fields are the keys of its section in a configuration file, its docstring explains them there. The
    number of steps is not among them: it comes with the call.
    """

    tolerance: float = 0.0  #: without gradients, stop once no marginal changes by more; 0 never stops
    recompute: bool = False  #: with gradients, compute every step again in the backward pass

    def run(
        self,
        unary: Values,
        penalty: Callable[[Values], Values],
        iterations: int,
        trace: list[Values] | None = None,
        *,
        begin: Values | None = None,
    ) -> Values:
        """Log marginals after ``iterations`` steps from ``softmax(unary)``.

        Computes in float32 whatever autocast says and whatever lower precision comes in; float64 stays
        float64. The leading axis may be anything that ``penalty`` keeps: images, or many settings for one.

        *Early stop.* With ``tolerance`` > 0 and gradients off (``torch.no_grad()`` or inference mode) the
        steps end when the largest change of any marginal of the whole batch is at most ``tolerance``; so an
        image's answer then depends, within about that, on its batch. Each step waits for the device once.
        With gradients on all steps are done: their number is part of what is differentiated.

        *Recomputation.* With ``recompute`` and gradients on, a step keeps only what it starts from, and its
        insides (the filters' inputs above all) are computed once more in the backward pass: the same
        gradients, one more forward pass of time. ``penalty`` has to give the same again: do not change or
        swap parameters in between, as `torch.func.functional_call` does.

        Args:
            unary: logits, in nats, finite (a per-pixel constant changes nothing).
            penalty: maps marginals to what is subtracted from the logits, of the same shape; linear. Without
                gradients its result is overwritten: it must be a tensor that nobody else holds.
            iterations: number of steps, >= 0.
            trace: a list to which the marginals Q^0 ... Q^t are appended; t, the number of steps done, is
                ``iterations`` unless they stopped early.
            begin: logits whose softmax is Q^0 instead, finite; None for ``unary``.
        """
        with torch.autocast(unary.device.type, enabled=False):
            unary = _laid_out(unary.to(torch.promote_types(unary.dtype, torch.float32)))
            if begin is None:
                return self._steps(unary, penalty, iterations, trace)
            return self._steps(unary, penalty, iterations, trace, _laid_out(begin.to(unary.dtype)))

    @abstractmethod
    def _steps(
        self,
        unary: Values,
        penalty: Callable[[Values], Values],
        iterations: int,
        trace: list[Values] | None,
        begin: Values | None = None,
    ) -> Values:
        """`run` on logits of at least float32, whose memory is (b, l, n) or (b, n, l), without autocast."""

    def _check(self) -> None:
        """Refuse fields that every scheme has and that are outside their ranges."""
        self._require("tolerance", 0 <= self.tolerance < math.inf, ">= 0 and finite")

    def _require(self, field: str, holds: bool, allowed: str) -> None:
        require(field, getattr(self, field), holds, allowed)

    def _settled(self, q: Values, before: Values | None) -> bool:
        """Whether the steps may end at ``q``, which came from ``before``."""
        if self.tolerance == 0 or before is None or torch.is_grad_enabled():
            return False
        return bool((q - before).abs().max() <= self.tolerance)

    def _kept_small(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """``step``, or with ``recompute`` one that keeps nothing but its arguments for the backward pass."""
        if not (self.recompute and torch.is_grad_enabled()):
            return step
        return partial(checkpoint, step, use_reentrant=False)


def _laid_out(logits: Values) -> Values:
    """In the order of memory in which steps are fastest.

    Compiled kernels want the pixels of a label side by side; torch's softmax and lattice run faster on the
    labels of a pixel.
    """
    return logits.contiguous() if kernels.compiled(logits) else logits.mT.contiguous().mT
