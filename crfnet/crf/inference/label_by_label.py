"""Mean field in evaluation where each label hears its own messages alone: one compiled loop on a CPU.

Potts and weights that are one number, or one per label, leave ``Q <- softmax(U + sum_m w_m K~_m Q)``:
messages of a label come from that label. The whole run of steps is then one call of `crfnet.kernels.cpu`, for
any number of settings of the weights side by side, on shared lattices. Everything else (gradients, full
weights, matrices, damping, other filters, a GPU) goes through operators; on a GPU, and on a CPU without
numba, with messages reduced by `crfnet.crf.reduced_messages`.

*Reduced messages.* Messages are linear in Q, and the marginals of a network have low rank, the lower the
surer they become. Before each step the leading directions V of Q are found, the fewest that leave a residual
R = Q - Q V V^T of a root mean square of at most ``reduce``; K~ Q V is filtered, in groups of eight channels,
and expanded. K~ Q = K~ Q V V^T + K~ R, so with the normalization "after", whose rows are weighted means, a
message is off by at most w times the largest row of R, which is measured at every step.

*Resting pixels.* After two steps most marginals stay. Then blocks of eight pixels send only what has changed,
and hear, where that has a norm above 0.3 ``reduce``; what was left unsent is part of R. In every eighth step
and the last one all send and hear, so what a block at rest has missed reaches it there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crfnet.crf.filters.contract import features_inside
from crfnet.kernels import hidden
from crfnet.shapes import Features, Grid, Mask, Values

if TYPE_CHECKING:
    from crfnet.kernels.cpu.lattice import Lattice

__all__ = ["GridKernel", "LatticeKernel", "Marginals", "mean_field", "settled_labels", "usable"]

_DTYPES = (torch.float32, torch.float64)
#: Where `settled_labels` cuts the spatial kernel off: what is beyond comes to 1e-4 of a row's sum.
_RADIUS_IN_SIGMAS = 4.0


@dataclass(frozen=True)
class LatticeKernel:
    """A Gaussian of features, on the permutohedral lattice."""

    features: Features  #: in bandwidths; of every image, or one for all
    lattices: Sequence["Lattice"] = ()  #: of every image, see `built`; else each call builds its own

    def built(self, unary: Values, mask: Mask | None = None) -> "LatticeKernel":
        """With its lattices, for several calls of `mean_field` with this precision, batch and mask."""
        return replace(self, lattices=[self.lattice(i, unary.dtype, mask) for i in range(len(unary))])

    def lattice(self, image: int, dtype: torch.dtype, mask: Mask | None) -> "Lattice":
        """That of an image; the mask is that of all."""
        from crfnet.kernels.cpu.lattice import build_lattice  # numba takes half a second to import

        if self.lattices:
            return self.lattices[image]
        features = self.features[image : image + 1] if len(self.features) > 1 else self.features
        inside = None if mask is None else mask[image : image + 1]
        return build_lattice(_array(features_inside(features.to(dtype), inside)))


@dataclass(frozen=True)
class GridKernel:
    """A Gaussian of the pixels' positions on a grid: one convolution per axis."""

    grid: Grid
    theta: float  #: bandwidth in units of the spacing
    spacing: Tensor | None = None  #: (axes,) or (b, axes)

    def apart(self, image: int) -> list[float] | None:
        """Distances between neighbors in an image."""
        if self.spacing is None:
            return None
        spacing = self.spacing.reshape(-1, len(self.grid))
        return [float(step) for step in spacing[image if len(spacing) > 1 else 0]]


@dataclass(frozen=True)
class Marginals:
    """What came of the steps, and what reduced messages left out on the way."""

    log_q: Float[Tensor, "v b l n"]  #: log marginals of every setting and image
    channels: list[list[int]]  #: of each image and step: how many were filtered
    largest_residual: list[list[float]]  #: of each image and step: the largest norm of R at a pixel


def usable(unary: Tensor) -> bool:
    """Whether the compiled loop takes these logits: on a CPU, in float32 or float64, where numba is.

    Not within ``kernels.using("off")``.
    """
    on_cpu = unary.device.type == "cpu" and unary.dtype in _DTYPES
    return on_cpu and _has_numba() and not hidden()


@cache
def _has_numba() -> bool:
    return find_spec("numba") is not None


def mean_field(
    unary: Values,
    kernels: Sequence[LatticeKernel | GridKernel],
    weights: Float[Tensor, "v k *l"],
    *,
    iterations: int,
    normalization: str,
    mask: Mask | None = None,
    reduce: float = 1e-4,
    stop: np.ndarray | None = None,
) -> Marginals:
    """Log marginals after that many steps from ``softmax(unary)``, without gradients.

    Args:
        unary: logits in nats, finite.
        kernels: at least one.
        weights: of every setting and kernel, one number, or one per label; of messages, which attract.
        iterations: number of steps, >= 0.
        normalization: one of `crfnet.crf.normalization.NORMALIZATIONS`, of each kernel matrix.
        mask: the pixels that send and receive; others keep their unary.
        reduce: root mean square that the messages' directions may leave; 0.3 of it is the norm of a change
            that pixels may leave unsent. 0 filters every label of every pixel in every step.
        stop: (1,) bool; once another thread sets it to True no step is begun, and what is returned means
            nothing.

    Raises:
        ValueError: features are not finite, or too far apart.
    """
    from crfnet.kernels.cpu import mean_field as compiled  # numba takes half a second to import
    from crfnet.kernels.cpu.grid import grid_of

    ordered = sorted(range(len(kernels)), key=lambda k: isinstance(kernels[k], GridKernel))  # lattices first
    table = weights.detach().to(unary.dtype)[:, ordered].numpy()
    kinds = [kernels[k] for k in ordered]
    images = []
    for i in range(len(unary)):
        lattices = [kind.lattice(i, unary.dtype, mask) for kind in kinds if isinstance(kind, LatticeKernel)]
        grids = [
            grid_of(kind.grid, kind.theta, _array(unary).dtype, kind.apart(i))
            for kind in kinds
            if isinstance(kind, GridKernel)
        ]
        images.append(
            compiled.mean_field(
                _array(unary[i]),
                lattices,
                grids,
                table,
                iterations=iterations,
                normalization=normalization,
                mask=None if mask is None else _array(mask[i]),
                reduce=reduce,
                stop=stop,
            )
        )
    log_q = [torch.from_numpy(run.log_marginals) for run in images]
    return Marginals(
        log_q=torch.stack(log_q, 1) if len(log_q) > 1 else log_q[0].unsqueeze(1),  # stacking one copies it
        channels=[run.channels.tolist() for run in images],
        largest_residual=[run.largest.tolist() for run in images],
    )


def settled_labels(
    unary: Values,
    bilateral: LatticeKernel,
    spatial: GridKernel | None,
    weights: Float[Tensor, "v k"],
    *,
    iterations: int,
    normalization: str,
    tolerance: float,
) -> Int[Tensor, "v n"]:
    """The labels that `mean_field` finds on one image, but for pixels that settle too early.

    Eight pixels that lie side by side are settled when no marginal of theirs, of any setting, differs by more
    than ``tolerance`` from what the others have heard of it: then they send and hear no more. On one thread.

    Args:
        unary: logits in nats of one image (b = 1), finite.
        bilateral: on the lattice.
        spatial: on a grid of two axes; None without it.
        weights: >= 0, of every setting and kernel, one number; the bilateral kernel's first.
        iterations: number of steps, >= 0.
        normalization: one of `crfnet.crf.normalization.NORMALIZATIONS`, of each kernel matrix.
        tolerance: in (0, 1); as it gets smaller, so does the share of labels that differ.

    Raises:
        ValueError: features are not finite, or too far apart.
    """
    from crfnet.kernels.cpu import settling  # numba takes half a second to import
    from crfnet.kernels.cpu.grid import grid_of

    grid = None
    if spatial is not None:
        dtype = _array(unary).dtype
        grid = grid_of(spatial.grid, spatial.theta, dtype, spatial.apart(0), _RADIUS_IN_SIGMAS)
    run = settling.settled_labels(
        _array(unary[0]),
        bilateral.lattice(0, unary.dtype, None),
        grid,
        _array(weights.to(unary.dtype)),
        iterations=iterations,
        normalization=normalization,
        tolerance=tolerance,
    )
    return torch.from_numpy(run.labels)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()
