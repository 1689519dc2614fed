"""Mean field of one image for many points on one lattice.

The bilateral kernel depends on the image, theta_alpha and theta_beta, the spatial one on theta_gamma; weights
change neither. One lattice therefore serves all points, and those that differ in their weights alone run side
by side: on a CPU in a compiled loop, the layer's or one in which pixels settle, elsewhere through operators,
stacked along the label axis.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from crfnet.crf.compatibility import PottsCompatibility
from crfnet.crf.features import KernelInputs
from crfnet.crf.filters import PermutohedralFilter
from crfnet.crf.inference import MeanField, label_by_label
from crfnet.crf.inference.label_by_label import GridKernel, LatticeKernel
from crfnet.crf.normalization import normalized
from crfnet.crf.potentials import BilateralPotential, Potential, SpatialPotential
from crfnet.crf.pruning import Pruning
from crfnet.search.config import SearchConfig
from crfnet.search.grid import Point
from crfnet.shapes import Image, LabelMap, Logits, Values

__all__ = ["sweep", "sweep_labels"]

#: Weights x labels x pixels in one run at most; more weights take turns on the same lattice. The compiled
#: loop holds 20 bytes for each. Operators filter them in one call: 8 MiB of float32 on a CPU, for larger
#: stacks leave the cache (1.7 times as long for 4 weights of 11 labels at 480x360).
_LARGEST_STACK = {"compiled": 2**25, "cpu": 2**21, "cuda": 2**28}
#: Weights x labels at most in the compiled loop, which looks for the leading directions among them.
_MOST_COLUMNS = 128

_Linear = Callable[[Values], Values]
_Weights = Float[Tensor, "v 2"]  #: w1 and w2 of every setting
_Settings = Float[Tensor, "v l n"]


def sweep(
    logits: Logits, image: Image, points: Sequence[Point], config: SearchConfig
) -> Iterator[tuple[Point, Logits]]:
    """Log marginals (1, l, h, w) of a Potts dense CRF on one image: what `DenseCRF` gives for each point.

    Costs one lattice, and for every theta_gamma and number of iterations the run of every pair of weights;
    no gradient.

    Args:
        logits: of one image (b = 1).
        image: that image, 0..255 (b = 1).
        points: all of the same theta_alpha and theta_beta.
        config: normalization is used; prune where operators filter.

    Yields:
        Every point once, with its marginals, in any order.
    """
    unary = logits.detach().float().flatten(2)
    scene = KernelInputs(image=image.float(), grid=tuple(logits.shape[2:]))
    solver_kind = _Compiled if label_by_label.usable(unary) else _Operators
    for point, log_q in _solved(solver_kind(unary, scene, points[0], config), points):
        yield point, log_q.view(logits.shape)


def sweep_labels(
    logits: Logits, image: Image, points: Sequence[Point], config: SearchConfig
) -> Iterator[tuple[Point, LabelMap]]:
    """Labels (h, w) of every point, as `sweep` takes them; on a CPU with pixels that settle.

    Those of `config.tolerance` = 0, and elsewhere than on a CPU, are the most likely ones of `sweep`.
    """
    unary = logits.detach().float().flatten(2)
    if config.tolerance == 0 or not label_by_label.usable(unary):
        for point, log_q in sweep(logits, image, points, config):
            yield (
                point,
                log_q[0].max(0).indices,
            )  # over an axis that is not the last it takes six times as long
        return
    scene = KernelInputs(image=image.float(), grid=tuple(logits.shape[2:]))
    for point, labels in _solved(_Settling(unary, scene, points[0], config), points):
        yield point, labels.view(logits.shape[2:])


def _runs(points: Sequence[Point]) -> dict[tuple[float | None, int], dict[tuple[float, float], list[Point]]]:
    """The points of each theta_gamma, None without the spatial kernel, and iterations, by their weights."""
    runs: dict[tuple[float | None, int], dict[tuple[float, float], list[Point]]] = {}
    for point in points:
        run = point.theta_gamma if point.w2 > 0 else None, point.iterations
        runs.setdefault(run, defaultdict(list))[point.w1, point.w2].append(point)
    return runs


class _Compiled:
    """One lattice of one image in the compiled loop."""

    def __init__(self, unary: Values, scene: KernelInputs, point: Point, config: SearchConfig) -> None:
        assert scene.grid is not None
        self.unary, self.grid, self.normalization = unary, scene.grid, config.normalization
        columns = min(_MOST_COLUMNS, _LARGEST_STACK["compiled"] // unary.shape[2])
        self.side_by_side = max(1, columns // unary.shape[1])
        with torch.no_grad():
            self.bilateral = LatticeKernel(_bilateral(unary, point).features(scene)).built(unary)

    def run(self, weights: _Weights, theta_gamma: float | None, iterations: int) -> _Settings:
        """Log marginals of every pair of weights."""
        kernels: list[LatticeKernel | GridKernel] = [self.bilateral]
        if theta_gamma is not None:
            kernels.append(GridKernel(self.grid, theta_gamma))
        return label_by_label.mean_field(
            self.unary,
            kernels,
            weights[:, : len(kernels)],
            iterations=iterations,
            normalization=self.normalization,
            reduce=MeanField().reduce,
        ).log_q[:, 0]


class _Settling(_Compiled):
    """One lattice of one image in the compiled loop whose pixels settle."""

    def __init__(self, unary: Values, scene: KernelInputs, point: Point, config: SearchConfig) -> None:
        super().__init__(unary, scene, point, config)
        self.tolerance = config.tolerance

    def run(self, weights: _Weights, theta_gamma: float | None, iterations: int) -> Int[Tensor, "v n"]:
        """Labels of every pair of weights."""
        return label_by_label.settled_labels(
            self.unary,
            self.bilateral,
            None if theta_gamma is None else GridKernel(self.grid, theta_gamma),
            weights,
            iterations=iterations,
            normalization=self.normalization,
            tolerance=self.tolerance,
        ).long()


def _largest_stack(device: torch.device) -> int:
    """Of operators; on a GPU half of its memory, of which each number takes 15 in float32 (counted)."""
    most = _LARGEST_STACK[device.type]
    if device.type != "cuda":
        return most
    return min(most, torch.cuda.get_device_properties(device).total_memory // 2 // (15 * 4))


class _Operators:
    """One lattice of one image through operators; labels are pruned once, for Q^0 is the same everywhere."""

    def __init__(self, unary: Values, scene: KernelInputs, point: Point, config: SearchConfig) -> None:
        pruning = Pruning.below(config.prune, unary, None) if config.prune > 0 else None
        self.pruning = None if pruning is None or len(pruning.dropped) == 0 else pruning
        self.unary, self.scene, self.normalization = unary, scene, config.normalization
        self.start = unary if self.pruning is None else self.pruning.reduce(unary)
        self.compatibility = PottsCompatibility(unary.shape[1])
        self.side_by_side = max(1, _largest_stack(unary.device) // self.start.numel())
        self.bilateral = self._normalized(_bilateral(unary, point))

    @torch.no_grad()
    def run(self, weights: _Weights, theta_gamma: float | None, iterations: int) -> _Settings:
        """Log marginals of every pair of weights."""
        spatial = None
        if theta_gamma is not None:
            kernel = SpatialPotential(1.0, theta_gamma, num_classes=self.unary.shape[1])
            spatial = self._normalized(kernel.to(self.unary.device))
        start = self.start.expand(len(weights), -1, -1)
        log_q = MeanField().run(start, self._penalty(weights, spatial), iterations)
        if self.pruning is None:
            return log_q
        return torch.cat([self.pruning.expand(few, self.unary) for few in log_q.split(1)])

    @torch.no_grad()
    def _normalized(self, potential: Potential) -> _Linear:
        operator = potential.operator(self.scene, PermutohedralFilter())
        return normalized(operator, self.unary, self.normalization)

    def _penalty(self, weights: _Weights, spatial: _Linear | None) -> _Linear:
        """``Q -> mu (w1 K~_1 Q + w2 K~_2 Q)``, the weights along the leading axis."""
        w1, w2 = weights.view(-1, 2, 1, 1).unbind(1)

        def penalty(q: Values) -> Values:
            # A pruned problem's last label stands for those that get no message.
            filtered = q if self.pruning is None else q[:, :-1]
            stacked = filtered.reshape(1, -1, q.shape[-1])  # (1, weights * l, n)
            # In place: fresh pages cost more than the product.
            messages = self.bilateral(stacked).reshape(filtered.shape).mul_(w1)
            if spatial is not None:
                messages.add_(spatial(stacked).reshape(filtered.shape).mul_(w2))
            mu_messages = self.compatibility(messages)
            return mu_messages if self.pruning is None else F.pad(mu_messages, (0, 0, 0, 1))

        return penalty


def _bilateral(unary: Values, point: Point) -> BilateralPotential:
    potential = BilateralPotential(1.0, point.theta_alpha, point.theta_beta, num_classes=unary.shape[1])
    return potential.to(unary.device)


def _solved(solver: _Compiled | _Operators, points: Sequence[Point]) -> Iterator[tuple[Point, Tensor]]:
    """Every point with what a solver finds for it."""
    for (theta_gamma, iterations), pairs in _runs(points).items():
        weights = list(pairs)
        for i in range(0, len(weights), solver.side_by_side):
            turn = weights[i : i + solver.side_by_side]
            found = solver.run(torch.tensor(turn).to(solver.unary), theta_gamma, iterations)
            for j, pair in enumerate(turn):
                yield from ((point, found[j]) for point in pairs[pair])
