"""Mean field in evaluation: one image, label-by-label weights, any number of settings side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crfnet.kernels.cpu import separable, threads
from crfnet.kernels.cpu.atomics import counters_for
from crfnet.kernels.cpu.grid import Grid
from crfnet.kernels.cpu.lattice import Lattice
from crfnet.kernels.cpu.splat_blur_slice import phases_of
from crfnet.kernels.cpu.steps import phases_of_steps, run_steps, steps_of_few
from crfnet.kernels.cpu.tables import BLOCKS, PIECES, Kernels, Labels, Tables

__all__ = ["NORMALIZATIONS", "Run", "mean_field"]

NORMALIZATIONS = ("none", "after", "before", "symmetric")

_CUT = {"float32": 16.0, "float64": 40.0}  # nats; what is left out is below one rounding of the largest
_SHARE = 17  # one block in so many is sampled; odd, so that the sample wanders over the columns of an image
_FEWEST = 256  # blocks of a sample
_STILL = 0.3  # of ``reduce``: the norm of a change that a pixel leaves unsent
_MOST_PIECES = 8  # tables into which points are splatted


@dataclass(frozen=True)
class Run:
    """Log marginals, and what reduced messages left out on the way to them."""

    log_marginals: np.ndarray  #: (variants, l, n)
    channels: np.ndarray  #: (steps,) that were filtered: directions, or all columns
    active: np.ndarray  #: (steps,) share of the pixels that sent and heard
    rms: np.ndarray  #: (steps,) root mean square over pixels and variants of the marginals' part left out
    largest: np.ndarray  #: (steps,) its largest norm at a pixel, all variants together


def mean_field(
    unary: np.ndarray,
    lattices: Sequence[Lattice],
    grids: Sequence[Grid],
    weights: np.ndarray,
    *,
    iterations: int,
    normalization: str | Sequence[str] = "after",
    mask: np.ndarray | None = None,
    reduce: float = 1e-4,
    count: int | None = None,
    stop: np.ndarray | None = None,
) -> Run:
    """``Q <- softmax(U + sum_m w_m K~_m Q)``, all pixels in parallel, from ``Q = softmax(U)``.

    With ``reduce`` a step filters the fewest leading directions V of Q, in groups of eight, that leave a part
    R = Q - Q V V^T of a root mean square of at most that; where it takes as many groups as all labels fill,
    all are filtered. The messages then lack ``w K~ R``: for "after", whose rows are means, at most w times
    the largest norm of R, which is measured. The basis is taken from a sample of the pixels, the parts left
    out are measured on all.

    Between the second step and the last one, but for every eighth, only those send and hear whose marginals
    have changed: of eight pixels that lie side by side, the change of one, all variants together, from what
    it last sent has to have a norm above 0.3 ``reduce``. The others are still until all take part again.

    Args:
        unary: (l, n) logits, float32 or float64, finite.
        lattices: of the n pixels, in the precision of ``unary``.
        grids: of the n pixels, row-major; of one shape.
        weights: (variants, kernels) or (variants, kernels, l), lattices first; of messages, which attract.
        iterations: steps, >= 0; none are done without a kernel.
        normalization: one of `NORMALIZATIONS` for all kernels, or one for each, by its row sums.
        mask: (n,) bool, pixels that send and receive; others keep their unary. None for all.
        reduce: see above; 0 filters every label of every pixel in every step.
        count: of threads; of several numbers of threads the sums are rounded differently.
        stop: (1,) bool, which another thread may set to True: then no further step is begun, and what is
            returned means nothing.

    Returns:
        The marginals of every variant; pixels outside the mask keep softmax(unary).
    """
    labels_count, pixels = unary.shape
    iterations = iterations if lattices or grids else 0
    count = threads.threads() if count is None else count
    kernels, tables_count, columns_weights = _weighed(lattices, grids, weights, labels_count, unary.dtype)
    names = [normalization] * len(kernels.slots) if isinstance(normalization, str) else list(normalization)
    kernels = kernels._replace(normalizations=np.array([NORMALIZATIONS.index(n) for n in names], np.int64))
    labels = _labels(unary, mask, weights, columns_weights, names, reduce, iterations)
    tables = _tables(unary, kernels, lattices, labels, tables_count, iterations, min(count, _MOST_PIECES))
    if stop is not None:
        tables = tables._replace(stop=stop)
    groups = -(-columns_weights.shape[1] // 8)
    phases = sum(phases_of(lattice.corners.shape[1]) for lattice in lattices) + separable.PHASES * len(grids)
    counters = counters_for(2 + 2 * len(kernels.slots) + phases + phases_of_steps(iterations, groups, phases))
    threads.run(run_steps, counters, kernels, labels, tables, iterations, count=count)
    if labels.last.size:
        tables.out[:, pixels - pixels % 8 :] = tables.last[:, : pixels % 8]
    sent = np.where(tables.again, tables.chosen[:, 1], tables.chosen[:, 0])
    return Run(
        tables.out.reshape(len(weights), labels_count, pixels),
        np.minimum(8 * sent, columns_weights.shape[1]),
        tables.left[:, :, 2].sum(1) / len(tables.active),
        np.sqrt(tables.left[:, :, 0].sum(1) / (len(weights) * pixels)),
        np.sqrt(tables.left[:, :, 1].max(1, initial=0)),
    )


def _weighed(
    lattices: Sequence[Lattice], grids: Sequence[Grid], weights: np.ndarray, labels: int, dtype: np.dtype
) -> tuple[Kernels, int, np.ndarray]:
    """The kernels; how many tables of messages; and the weights (tables, columns) of their messages.

    One number per kernel goes into what receivers multiply with, and one table holds all messages.
    """
    variants, number = weights.shape[:2]
    together = variants == 1 and weights.ndim == 2
    if together:
        scales, slots, adds = weights[0], np.zeros(number, np.int64), np.arange(number) > 0
        columns = np.ones((1, labels))
    else:
        scales, slots, adds = np.ones(number), np.arange(number), np.zeros(number, bool)
        each = weights if weights.ndim == 3 else np.repeat(weights[:, :, None], labels, 2)
        columns = each.transpose(1, 0, 2).reshape(number, variants * labels)
    radius = max([grid.taps.shape[1] for grid in grids], default=1)
    taps = np.zeros((len(grids), 3, radius), dtype)
    for k, grid in enumerate(grids):
        taps[k, :, : grid.taps.shape[1]] = grid.taps
    kernels = Kernels(
        corners=_joined([lattice.corners for lattice in lattices], np.int32),
        weights=_joined([lattice.weights for lattice in lattices], dtype),
        neighbors=_joined([lattice.neighbors for lattice in lattices], np.int32),
        lattices=_places(lattices),
        alphas=np.array([lattice.alpha for lattice in lattices]),
        shape=grids[0].shape if grids else np.ones(3, np.int64),
        radii=np.array([grid.radii for grid in grids], np.int64).reshape(-1, 3),
        taps=taps,
        sums=np.array([grid.row_sums(dtype) for grid in grids], dtype).reshape(len(grids), 3, -1)
        if grids
        else np.empty((0, 3, 0), dtype),
        normalizations=np.zeros(number, np.int64),
        scales=scales.astype(dtype),
        slots=slots.astype(np.int64),
        adds=adds,
    )
    return kernels, len(columns), columns.astype(dtype)


def _joined(parts: Sequence[np.ndarray], dtype: type | np.dtype) -> np.ndarray:
    flat = [part.reshape(-1).astype(dtype, copy=False) for part in parts]
    return flat[0] if len(flat) == 1 else np.concatenate([*flat, np.empty(0, dtype)])


def _places(lattices: Sequence[Lattice]) -> np.ndarray:
    places, entries, axes = np.empty((len(lattices), 4), np.int64), 0, 0
    for k, lattice in enumerate(lattices):
        places[k] = entries, lattice.corners.shape[1], axes, lattice.size
        entries, axes = entries + lattice.corners.size, axes + lattice.neighbors.size
    return places


def _labels(
    unary: np.ndarray,
    mask: np.ndarray | None,
    weights: np.ndarray,
    columns: np.ndarray,
    names: Sequence[str],
    reduce: float,
    iterations: int,
) -> Labels:
    labels, pixels = unary.shape
    blocks, rest = -(-pixels // 8), pixels % 8
    cut = _CUT[str(unary.dtype)]
    inside = np.zeros(8 * blocks, unary.dtype)
    inside[:pixels] = 1 if mask is None else mask
    losses = -_sums(np.maximum(-weights, 0), names, labels)
    last = np.zeros((labels if rest else 0, 8), unary.dtype)
    if rest:
        last[:] = unary[:, -1:]  # what fills up the block makes no further label possible
        last[:, :rest] = unary[:, pixels - rest :]
    return Labels(
        unary=np.ascontiguousarray(unary),
        last=last,
        inside=inside,
        masked=mask is not None,
        weights=columns,
        gains=_sums(np.maximum(weights, 0), names, labels).astype(unary.dtype),
        losses=losses.astype(unary.dtype),
        lowest=losses.reshape(-1, labels).min(0).astype(unary.dtype),
        variants=len(weights),
        cut=cut,
        limit=reduce**2 if reduce > 0 else -1.0,
        still=(_STILL * reduce) ** 2 if reduce > 0 and steps_of_few(iterations) else -1.0,
        sample=min(blocks, max(_FEWEST, blocks // _SHARE)),
    )


def _sums(weights: np.ndarray, names: Sequence[str], labels: int) -> np.ndarray:
    """The most that messages of weights >= 0 come to, (variants l,): those of "after" are means."""
    if set(names) - {"after"}:
        return np.full(len(weights) * labels, np.inf)
    sums = weights.sum(1)
    return (sums if sums.ndim == 2 else np.repeat(sums[:, None], labels, 1)).reshape(-1)


def _tables(
    unary: np.ndarray,
    kernels: Kernels,
    lattices: Sequence[Lattice],
    labels: Labels,
    tables: int,
    iterations: int,
    pieces: int,
) -> Tables:
    pixels, dtype = unary.shape[1], unary.dtype
    columns = labels.weights.shape[1]
    blocks, groups = -(-pixels // 8), -(-columns // 8)
    apart = 2 * groups if labels.still >= 0 else max(1, groups - 1)  # see `first_sent`
    rows = np.empty((tables * groups + apart, 8 * blocks, 8), dtype)
    rows[:, pixels:] = 0  # pixels that fill up the last block
    corners = max([lattice.size for lattice in lattices], default=0)
    reduced = labels.limit >= 0 and groups > 1
    return Tables(
        rows=rows,
        lattice=np.empty((max(pieces, 2), corners + 1, 8), dtype),
        pieces=pieces,
        between=np.empty((2 if kernels.shape[0] > 1 else 1, pixels if len(kernels.radii) else 0, 8), dtype),
        send=np.ones((len(kernels.slots), pixels), dtype),
        receive=np.ones((len(kernels.slots), pixels), dtype),
        logits=np.empty((len(unary) * blocks, 8), dtype),
        names=np.empty(len(unary) * blocks, np.int32),
        nearest=np.empty((-(-blocks // BLOCKS), len(unary)), dtype),
        leads=np.empty(columns, dtype),
        starts=np.empty(blocks, np.int64),
        counts=np.empty(blocks, np.int64),
        basis=np.zeros((2, columns, 8 * groups if reduced else 0), dtype),
        support=np.zeros((2, columns + 1), np.int64),
        supported=np.zeros((2, columns), bool),
        minus=np.full(columns, -1, dtype),
        grams=np.empty((PIECES, columns, columns) if reduced else (PIECES, 0, 0)),
        chosen=np.full((iterations, 2), groups),
        again=np.zeros(iterations, bool),
        active=np.ones(blocks, np.int64),
        rest=np.zeros((blocks, 2)),
        left=np.zeros((iterations, -(-blocks // BLOCKS), 3)),
        out=np.empty((columns, pixels), dtype),
        last=np.empty((columns if labels.last.size else 0, 8), dtype),
        stop=np.zeros(1, bool),
    )
