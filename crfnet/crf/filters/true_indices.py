"""Where a mask is True, once it is known how often: `torch.nonzero` without its wait for the device."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["places_of"]


def places_of(mask: Bool[Tensor, " m"], count: int) -> Int[Tensor, " count"]:
    """Where the mask is True, in ascending order; ``count`` is how often that is, at most 2^31 - 1.

    The k-th place is the first at which the running count reaches k, found by bisection.
    """
    wanted = torch.arange(1, count + 1, dtype=torch.int32, device=mask.device)
    return torch.searchsorted(mask.cumsum(0, dtype=torch.int32), wanted)
