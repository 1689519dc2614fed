"""Mean field of one image for many points on one lattice.

The bilateral kernel depends on the image, theta_alpha and theta_beta, the spatial one on theta_gamma; weights
and the number of iterations change neither. One operator therefore serves every weight, and one call filters
the marginals of as many of them as fit the cache, stacked along the label axis. The points that differ in the
number of iterations alone are steps of one run.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from crfnet.crf.compatibility import PottsCompatibility
from crfnet.crf.features import KernelInputs
from crfnet.crf.filters import PermutohedralFilter
from crfnet.crf.inference import MeanField
from crfnet.crf.normalization import normalized
from crfnet.crf.potentials import BilateralPotential, SpatialPotential
from crfnet.crf.pruning import Pruning
from crfnet.search.config import SearchConfig
from crfnet.search.grid import Point
from crfnet.shapes import Image, Logits, Values

__all__ = ["sweep"]

#: Weights x labels x pixels in one filter call at most (8 MiB of float32 on a CPU); more weights take turns
#: on the same lattice. Larger stacks leave the cache: 1.7 times as long for 4 weights of 11 labels at
#: 480x360.
_LARGEST_STACK = {"cpu": 2**21, "cuda": 2**28}

_Linear = Callable[[Values], Values]


def sweep(
    logits: Logits, image: Image, points: Sequence[Point], config: SearchConfig
) -> Iterator[tuple[Point, Logits]]:
    """Log marginals (1, l, h, w) of a Potts dense CRF on one image: what `DenseCRF` gives for each point.

    Costs one lattice, and an iteration of every pair of weights; no gradient. Labels are pruned once, for
    Q^0 = softmax(logits) is the same at every point.

    Args:
        logits: of one image (b = 1).
        image: that image, 0..255 (b = 1).
        points: all of the same theta_alpha and theta_beta.
        config: normalization and prune are used.

    Yields:
        Every point once, with its marginals; sorted by theta_gamma, w1, w2 and iterations.
    """
    unary = logits.detach().float().flatten(2)
    scene = KernelInputs(image=image.float(), grid=tuple(logits.shape[2:]))
    pruning = Pruning.below(config.prune, unary, None) if config.prune > 0 else None
    if pruning is not None and len(pruning.dropped) == 0:
        pruning = None
    problem = _Problem(unary, scene, config, pruning)
    bilateral = problem.bilateral(points[0].theta_alpha, points[0].theta_beta)
    ordered = sorted(points, key=lambda p: (p.theta_gamma, p.w1, p.w2, p.iterations))
    for theta_gamma, part in groupby(ordered, lambda p: p.theta_gamma):
        same = list(part)
        spatial = problem.spatial(theta_gamma) if any(p.w2 > 0 for p in same) else None
        yield from problem.solve(same, bilateral, spatial, tuple(logits.shape))


class _Problem:
    """One image: its unary, whole or pruned, and what the points share."""

    def __init__(
        self, unary: Values, scene: KernelInputs, config: SearchConfig, pruning: Pruning | None
    ) -> None:
        self.unary, self.scene, self.config, self.pruning = unary, scene, config, pruning
        self.start = unary if pruning is None else pruning.reduce(unary)
        self.compatibility = PottsCompatibility(unary.shape[1])

    @torch.no_grad()
    def bilateral(self, theta_alpha: float, theta_beta: float) -> _Linear:
        """K~_1, normalized."""
        kernel = BilateralPotential(1.0, theta_alpha, theta_beta, num_classes=self.unary.shape[1])
        operator = kernel.to(self.unary.device).operator(self.scene, PermutohedralFilter())
        return normalized(operator, self.unary, self.config.normalization)

    @torch.no_grad()
    def spatial(self, theta_gamma: float) -> _Linear:
        """K~_2, normalized."""
        kernel = SpatialPotential(1.0, theta_gamma, num_classes=self.unary.shape[1])
        operator = kernel.to(self.unary.device).operator(self.scene, PermutohedralFilter())
        return normalized(operator, self.unary, self.config.normalization)

    def solve(
        self, points: Sequence[Point], bilateral: _Linear, spatial: _Linear | None, shape: tuple[int, ...]
    ) -> Iterator[tuple[Point, Logits]]:
        """The points of one theta_gamma, as many weights at once as fit."""
        runs = {weights: list(part) for weights, part in groupby(points, lambda point: (point.w1, point.w2))}
        size = max(1, _LARGEST_STACK[self.unary.device.type] // self.start.numel())
        pairs = list(runs)
        for i in range(0, len(pairs), size):
            turn = pairs[i : i + size]
            most = max(point.iterations for pair in turn for point in runs[pair])
            several = any(point.iterations != most for pair in turn for point in runs[pair])
            steps: list[Values] | None = [] if several else None
            last = self._run(self._penalty(turn, bilateral, spatial), len(turn), most, steps)
            for j, pair in enumerate(turn):
                for point in runs[pair]:
                    step = None if steps is None else steps[point.iterations]
                    log_q = last if step is None else step.clamp_min(torch.finfo(step.dtype).tiny).log()
                    yield point, self._whole(log_q[j : j + 1]).view(shape)

    @torch.no_grad()
    def _run(self, penalty: _Linear, pairs: int, iterations: int, steps: list[Values] | None) -> Values:
        """Mean field of several pairs of weights, along the leading axis."""
        start = self.start.expand(pairs, -1, -1)
        return MeanField().run(start, penalty, iterations, steps)

    def _penalty(
        self, weights: Sequence[tuple[float, float]], bilateral: _Linear, spatial: _Linear | None
    ) -> _Linear:
        """``Q -> mu (w1 K~_1 Q + w2 K~_2 Q)``, the weights along the leading axis."""
        w1, w2 = torch.tensor(weights).to(self.unary).view(-1, 2, 1, 1).unbind(1)

        def penalty(q: Values) -> Values:
            # A pruned problem's last label stands for those that get no message.
            filtered = q if self.pruning is None else q[:, :-1]
            stacked = filtered.reshape(1, -1, q.shape[-1])  # (1, weights * l, n)
            # In place: fresh pages cost more than the product.
            messages = bilateral(stacked).reshape(filtered.shape).mul_(w1)
            if spatial is not None:
                messages.add_(spatial(stacked).reshape(filtered.shape).mul_(w2))
            mu_messages = self.compatibility(messages)
            return mu_messages if self.pruning is None else F.pad(mu_messages, (0, 0, 0, 1))

        return penalty

    def _whole(self, log_q: Float[Tensor, "b few n"]) -> Values:
        """Log marginals of all labels."""
        return log_q if self.pruning is None else self.pruning.expand(log_q, self.unary)
