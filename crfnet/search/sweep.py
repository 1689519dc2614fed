"""Mean field of one image for many weights w1 on one lattice.

The kernels depend on the image, theta_alpha and theta_beta, not on w1. One operator therefore serves every
w1, and one call filters the marginals of as many of them as fit the cache, stacked along the label axis.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from crfnet.crf.features import bilateral_features
from crfnet.crf.filters import PermutohedralFilter, SeparableGaussian
from crfnet.crf.inference import MeanField
from crfnet.crf.normalization import normalized
from crfnet.search.grid import SearchConfig
from crfnet.shapes import Image, Logits, Values

__all__ = ["sweep_w1"]

#: Weights x labels x pixels in one filter call at most (8 MiB of float32); more weights take turns on the
#: same lattice. Larger stacks leave the cache: 1.7 times as long for 4 weights of 11 labels at 480x360.
_LARGEST_STACK = 2**21

_Linear = Callable[[Values], Values]


@torch.no_grad()
def sweep_w1(
    logits: Logits,
    image: Image,
    w1: Sequence[float],
    theta_alpha: float,
    theta_beta: float,
    config: SearchConfig,
) -> Float[Tensor, "w1 l h w"]:
    """Log marginals of a Potts dense CRF on one image for each of `w1`: what `DenseCRF` gives for each alone.

    Costs one lattice, and w1 x l filtered channels an iteration; no gradient.

    Args:
        logits: of one image (b = 1).
        image: that image, 0..255 (b = 1).
        w1: weights of the bilateral kernel, > 0.
        theta_alpha: its width over positions, in pixels.
        theta_beta: its width over colours, on the scale 0..255.
        config: w2, theta_gamma, iterations and normalization are used.
    """
    height, width = logits.shape[-2:]
    unary = logits.float().flatten(2)
    operator = PermutohedralFilter().operator(bilateral_features(image.float(), theta_alpha, theta_beta))
    bilateral = normalized(operator, unary, config.normalization)
    spatial = normalized(SeparableGaussian((height, width), config.theta_gamma), unary, config.normalization)
    field = MeanField(config.iterations)
    turns = torch.tensor(w1).split(max(1, _LARGEST_STACK // unary.numel()))
    log_q = [
        field.run(
            unary.expand(len(turn), -1, -1),
            _potts_penalty(turn.to(unary).view(-1, 1, 1), config.w2, bilateral, spatial),
            config.iterations,
        )
        for turn in turns
    ]
    return torch.cat(log_q).view(len(w1), -1, height, width)


def _potts_penalty(w1: Float[Tensor, "w1 1 1"], w2: float, bilateral: _Linear, spatial: _Linear) -> _Linear:
    """``Q -> -(w1 K~_1 Q + w2 K~_2 Q)``, w1 along the leading axis (the sign as of `PottsCompatibility`)."""

    def penalty(q: Values) -> Values:
        stacked = q.reshape(1, -1, q.shape[-1])  # (1, w1 * l, n)
        messages = (
            bilateral(stacked).reshape(q.shape).mul_(-w1)
        )  # in place: fresh pages cost more than the product
        if w2 > 0:
            messages.sub_(spatial(stacked).reshape(q.shape), alpha=w2)
        return messages

    return penalty
