"""Unary energies: pydensecrf's `Unary` objects."""

import torch
from jaxtyping import Float
from torch import Tensor

from crfnet.pydensecrf._arrays import as_tensor, check_finite

__all__ = ["ConstUnary", "LogisticUnary", "Unary", "energies"]

_MAX_ENERGY = 1e30  # replaces +inf: its softmax is 0 as well, and 0 times it is 0


class Unary:
    """Argument of `DenseCRF.setUnary`, which may be used again. The base class is empty."""

    values: Float[Tensor, "l n"] | None = None  #: energies, in nats


class ConstUnary(Unary):
    """Given energies.

    Args:
        u: energies (labels, points), in nats: negative log-probabilities. +inf for impossible labels.

    Raises:
        TypeError: ``u`` is None.
        ValueError: not two axes of real numbers, or a NaN; see `energies`.
    """

    def __init__(self, u: object) -> None:
        self.values = energies("u", u).clone()


class LogisticUnary(Unary):
    """Energies ``L f`` that are linear in features.

    Args:
        L: weights (labels, features).
        f: features (features, points).

    Raises:
        TypeError: one of them is None.
        ValueError: not two axes of finite numbers each, or they do not multiply.
    """

    def __init__(self, L: object, f: object) -> None:
        self.values = self.product(L, f)

    @staticmethod
    def product(L: object, f: object) -> Float[Tensor, "l n"]:
        """Multiply weights and features."""
        weights, features = as_tensor("L", L, 2), as_tensor("f", f, 2)
        if weights.shape[1] != len(features):
            raise ValueError(
                f"Bad shape for logistic unary (L is {tuple(weights.shape)}, f is {tuple(features.shape)}; "
                "L needs one column per row of f)"
            )
        check_finite("L", weights)
        check_finite("f", features)
        return weights @ features


def energies(name: str, value: object) -> Float[Tensor, "l n"]:
    """Convert energies to float32 on the CPU; +inf becomes 1e30. May share memory with ``value``.

    Raises:
        TypeError: ``value`` is None.
        ValueError: not two axes of real numbers; NaN or -inf; or a point all of whose energies are +inf.
    """
    u = as_tensor(name, value, 2)
    if u.numel() and not torch.isfinite(u.amin(0)).all():
        point = int((~torch.isfinite(u.amin(0))).byte().argmax())
        raise ValueError(
            f"{name}: point {point} has an energy NaN or -inf, or none below inf; energies must be numbers, "
            "inf only where a label cannot be"
        )
    return u.clamp_max(_MAX_ENERGY) if u.numel() and u.max() > _MAX_ENERGY else u
