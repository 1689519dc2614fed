"""Probabilities among scores: how they are recognized, and how they become logits."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["hold_probabilities", "log_probabilities"]

_MIN_PROBABILITY = 1e-5
#: How far the labels of a pixel may sum from 1: room for float16 and for 8 bits a label.
_SUM_TOLERANCE = 1e-2


def hold_probabilities(scores: Float[Tensor, "l hs ws"]) -> bool:
    """Whether the scores of every pixel are >= 0 and sum to 1, which no network's logits do."""
    return bool(scores.min() >= 0 and ((scores.sum(0) - 1).abs() < _SUM_TOLERANCE).all())


def log_probabilities(probabilities: Float[Tensor, "l hs ws"]) -> Float[Tensor, "l hs ws"]:
    """Logarithms of probabilities, clamped to 1e-5..1 first: logits but for a constant per pixel."""
    return probabilities.clamp(_MIN_PROBABILITY, 1.0).log()
