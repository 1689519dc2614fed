"""Regularized Frank-Wolfe: mean field as one of a family of steps, with sparse and line-searched ones."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from crfnet.crf.inference.contract import Inference
from crfnet.crf.inference.softmax import log_softmax
from crfnet.crf.inference.sparsemax import sparsemax
from crfnet.shapes import Values

__all__ = ["REGULARIZERS", "STEPS", "FrankWolfe"]

REGULARIZERS = ("entropy", "euclidean")
STEPS = ("fixed", "decreasing", "line_search")
FLOOR = 1e-9  #: what a label of probability 0 gets in the answer: -20.7 nats
_NEWTON_STEPS = 8  # bisection alone would place the zero to 1/256


@dataclass(frozen=True)
class FrankWolfe(Inference):
    """``s = argmin_s <P x - u, s> + lam r(s)`` over the simplex, then ``x <- x + alpha (s - x)``.

    Minimizes ``J(x) = x . (P x / 2 - u) + lam r(x)``, where u are the logits and P is the linear map
    ``penalty``, from ``x = softmax(u)`` on (Le-Huu & Alahari 2021, "Regularized Frank-Wolfe for Dense
    CRFs"). With the entropy, ``lam = 1`` and ``alpha = 1`` it is mean field, step for step.

    *What holds.* For a symmetric P (normalization ``symmetric`` or ``none``, Potts, the same weight for all
    labels) s - x is a descent direction, and a fixed point is a stationary point of J. For another P the
    steps are still defined (they follow P x, not the gradient ``(P + P^T) x / 2``) but may raise J.

    *Line search* minimizes J along the segment from x to s, for each image by itself, whatever P is
    (``x . P x`` sees its symmetric part alone). Euclidean: J is a parabola there, and the minimizer over
    [0, 1] is exact. Entropy: the parabola may open downwards (attraction), so J need not be convex along the
    segment; a bracketed Newton iteration finds a zero of its derivative, and the best of that point and the
    two ends is taken: the minimizer where J is convex, and in every case J does not rise, up to rounding. A
    step costs one filtering, as with the other schemes, and one more is needed at the start.

    *Gradients* flow through every step to the logits and to what ``penalty`` depends on; the step sizes of
    the line search count as constants. sparsemax has kinks, where a one-sided derivative is taken.

    *Answer.* The entropy is computed in logarithms, and logits of +-1e4 stay finite. Euclidean x have exact
    zeros; the answer is ``log((x + 1e-9) / (1 + 1e-9 l))``: normalized, and never below -20.7 nats.

    Attributes:
        regularizer: ``entropy``: r = sum x log x, s = softmax((u - P x) / lam). ``euclidean``:
            r = |x|^2 / 2, s = sparsemax((u - P x) / lam).
        step: ``fixed``: alpha. ``decreasing``: 2 / (k + 2) for k = 0, 1, ... (the first step forgets the
            start). ``line_search``: as above.
        alpha: the fixed step, in (0, 1]; the other steps do not use it.
        lam: strength of the regularizer (lambda in the paper), in nats, > 0.
        tolerance: without gradients, stop once no marginal of the batch changes by more, >= 0; 0 never
            stops. See `Inference.run`.
        recompute: with gradients, keep only what each step starts from, one or two (b, l, n) arrays, and
            compute the rest again in the backward pass. See `Inference.run`.
    """

    regularizer: Literal["entropy", "euclidean"] = "entropy"
    step: Literal["fixed", "decreasing", "line_search"] = "fixed"
    alpha: float = 1.0
    lam: float = 1.0
    tolerance: float = 0.0
    recompute: bool = False

    def __post_init__(self) -> None:
        self._check()
        for field, allowed in (("regularizer", REGULARIZERS), ("step", STEPS)):
            self._require(field, getattr(self, field) in allowed, f"one of {', '.join(allowed)}")
        self._require("alpha", 0 < self.alpha <= 1, "in (0, 1]")
        self._require("lam", 0 < self.lam < math.inf, "> 0 and finite")

    def _steps(
        self,
        unary: Values,
        penalty: Callable[[Values], Values],
        iterations: int,
        trace: list[Values] | None,
        begin: Values | None = None,
    ) -> Values:
        start = unary if begin is None else begin
        update = self._kept_small(lambda k, state, pairwise: self._update(k, state, pairwise, unary, penalty))
        state = log_softmax(start.mT).mT if self._in_logs else start.softmax(1)
        pairwise = before = None
        for k in range(iterations):
            x = self._marginals(state)
            if self._settled(x, before):
                break
            if trace is not None:
                trace.append(x)
            before = x
            state, pairwise = update(k, state, pairwise)
        if trace is not None:
            trace.append(self._marginals(state))
        if not self._in_logs:
            state = ((state + FLOOR) / (1 + FLOOR * state.shape[1])).log()
        return state.contiguous()

    @property
    def _in_logs(self) -> bool:
        """Whether the state between steps is log x, which the entropy needs and sparsemax has not."""
        return self.regularizer == "entropy"

    def _marginals(self, state: Values) -> Values:
        return state.exp() if self._in_logs else state

    def _update(
        self,
        k: int,
        state: Values,
        pairwise: Values | None,
        unary: Values,
        penalty: Callable[[Values], Values],
    ) -> tuple[Values, Values | None]:
        """The next state, and P of its marginals where the line search has computed that already."""
        x = self._marginals(state)
        pairwise = penalty(x) if pairwise is None else pairwise
        scores = (unary - pairwise) / self.lam
        target = log_softmax(scores.mT).mT if self._in_logs else sparsemax(scores)
        if self.step != "line_search":
            return self._between(state, target, self.alpha if self.step == "fixed" else 2 / (k + 2)), None
        s = self._marginals(target)
        change = penalty(s) - pairwise
        alpha = self._line_search(x, s, unary, pairwise, change)
        return self._between(state, target, alpha), pairwise + alpha * change

    def _between(self, state: Values, target: Values, alpha: float | Tensor) -> Values:
        """The state of ``x + alpha (s - x)``."""
        if not isinstance(alpha, Tensor):
            if alpha == 1:
                return target
            alpha = torch.full_like(state[:, :1, :1], alpha)
        if self._in_logs:  # log 0 is right here: alpha is not 0 and 1 at once
            return torch.logaddexp(state + (1 - alpha).log(), target + alpha.log())
        return state + alpha * (target - state)

    @torch.no_grad()
    def _line_search(self, x: Values, s: Values, unary: Values, pairwise: Values, change: Values) -> Tensor:
        """The alpha (b, 1, 1) in [0, 1] with the least ``J(x + alpha d)``, d = s - x, given P x and P d.

        Up to a constant, ``J = a alpha^2 / 2 + b alpha + lam r(x + alpha d)``.
        """
        d = s - x
        a = _dot(d, change)
        b = (_dot(d, pairwise) + _dot(x, change)) / 2 - _dot(unary, d)
        if self.regularizer == "euclidean":
            a, b = a + self.lam * _dot(d, d), b + self.lam * _dot(x, d)
            inner = torch.where(a > 0, -b / a, torch.zeros_like(a)).clamp(0, 1)
        else:
            inner = self._stationary(x, d, a, b)

        def height(t: Tensor) -> Tensor:
            parabola = t * (t * a / 2 + b)
            if self.regularizer == "euclidean":
                return parabola
            y = x + t * d
            return parabola + self.lam * _dot(y, _positive(y).log())

        candidates = torch.stack([torch.zeros_like(a), inner, torch.ones_like(a)])
        lowest = torch.stack([height(t) for t in candidates]).argmin(0, keepdim=True)
        return candidates.gather(0, lowest).squeeze(0)

    def _stationary(self, x: Values, d: Values, a: Tensor, b: Tensor) -> Tensor:
        """A zero in [0, 1] of J's derivative ``a t + b + lam d . log(x + t d)``.

        Newton's steps within a bracket, which is halved where they leave it or do not shrink fast. Where P is
        symmetric the derivative is not positive at 0; where it stays negative, the answer goes toward 1.
        """
        low, high = torch.zeros_like(a), torch.ones_like(a)
        t, moved = high / 2, high
        for _ in range(_NEWTON_STEPS):
            y = _positive(x + t * d)
            slope = a * t + b + self.lam * _dot(d, y.log())
            low, high = torch.where(slope < 0, t, low), torch.where(slope < 0, high, t)
            newton = t - slope / (a + self.lam * _dot(d, d / y))
            step = (newton - t).abs()
            good = (newton >= low) & (newton <= high) & ((2 * step < moved) | (step < 1e-6))
            following = torch.where(good, newton, (low + high) / 2)
            t, moved = following, (following - t).abs()
        return t


def _dot(x: Values, y: Values) -> Tensor:
    """``x . y`` of every image, (b, 1, 1)."""
    return (x * y).sum((1, 2), keepdim=True)


def _positive(y: Values) -> Values:
    """Off 0, where a label has underflowed in x and in s."""
    return y.clamp_min(torch.finfo(y.dtype).tiny)
