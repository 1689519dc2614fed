"""Labels after mean field, for a search: one image, several weights side by side, pixels that settle."""

from dataclasses import dataclass

import numpy as np

from crfnet.kernels.cpu.grid import Grid
from crfnet.kernels.cpu.lattice import Lattice
from crfnet.kernels.cpu.mean_field import NORMALIZATIONS
from crfnet.kernels.cpu.settling_steps import run_settling
from crfnet.kernels.cpu.settling_tables import Settings, Tables

__all__ = ["Labels", "settled_labels"]

_LEFT = 0.3  # of the tolerance: what directions may leave of the changes, root mean square over pixels,
_DELAY = 0.05  # or this share of the changes after the first step, to be sent with the next one


@dataclass(frozen=True)
class Labels:
    """Labels, and how much of the image took part in each step."""

    labels: np.ndarray  #: int32 (variants, n)
    active: np.ndarray  #: (steps,) share of the pixels that sent
    channels: np.ndarray  #: (steps,) that were filtered


def settled_labels(
    unary: np.ndarray,
    lattice: Lattice,
    grid: Grid | None,
    weights: np.ndarray,
    *,
    iterations: int,
    normalization: str,
    tolerance: float,
) -> Labels:
    """The labels of ``Q <- softmax(U + w_1 K~_1 Q + w_2 K~_2 Q)``, on one thread.

    A step sends, of eight pixels that lie side by side, what their marginals differ from what they have sent,
    in the leading directions of all these differences; what these leave is sent later. Where no marginal of
    any variant differs by more than the tolerance, the eight pixels are settled: they send and hear no more.

    Args:
        unary: (l, n) logits, float32 or float64, finite.
        lattice: of the n pixels, in the precision of ``unary``.
        grid: of the n pixels, two axes; None without it.
        weights: (variants, 2), or 1 without a grid, >= 0, of the lattice's and the grid's messages.
        iterations: steps, >= 0.
        normalization: one of `NORMALIZATIONS`, by the kernels' row sums.
        tolerance: see above; in (0, 1).
    """
    if iterations == 0:
        labels = np.repeat(unary.argmax(0)[None].astype(np.int32), len(weights), 0)
        return Labels(labels, np.empty(0), np.empty(0, np.int64))
    settings = _settings(unary, lattice, grid, weights, iterations, normalization, tolerance)
    tables = _tables(settings)
    run_settling(settings, tables)
    most = np.array([len(unary)] + [len(unary) * len(weights)] * (iterations - 1))
    return Labels(
        tables.labels[:, : unary.shape[1]],
        tables.trace[:, 0] / len(tables.active),
        np.minimum(8 * tables.trace[:, 1], most),
    )


def _settings(
    unary: np.ndarray,
    lattice: Lattice,
    grid: Grid | None,
    weights: np.ndarray,
    iterations: int,
    normalization: str,
    tolerance: float,
) -> Settings:
    pixels, rest = unary.shape[1], unary.shape[1] % 8
    cut = 2.0 - np.log(tolerance)
    bounded = normalization == "after"  # whose messages are means
    last = np.empty((len(unary), 8), unary.dtype)
    if rest:
        last[:] = np.pad(unary[:, pixels - rest :], ((0, 0), (0, 8 - rest)), mode="edge")
    taps = np.empty((3, 0), unary.dtype)
    sums, width = np.empty(0, unary.dtype), pixels
    if grid is not None:
        taps, (_, height, width) = grid.taps, grid.shape.tolist()
        along = grid.row_sums(unary.dtype)
        sums = np.outer(along[1, :height], along[2, :width]).reshape(-1)
    radii = np.zeros(3, np.int64) if grid is None else grid.radii
    return Settings(
        unary=np.ascontiguousarray(unary),
        last=last,
        weights=np.pad(weights, ((0, 0), (0, 2 - weights.shape[1]))).astype(unary.dtype),
        gain=float(weights.sum(1).max()) if bounded else np.inf,
        cut=cut,
        tolerance=tolerance,
        limit=(_LEFT * tolerance) ** 2,
        delay=_DELAY,
        iterations=iterations,
        normalization=NORMALIZATIONS.index(normalization),
        corners=lattice.corners,
        barycentric=lattice.weights,
        neighbors=lattice.neighbors,
        alpha=lattice.alpha,
        width=width,
        across=np.ascontiguousarray(taps[2, : radii[2] + 1]),
        down=np.ascontiguousarray(taps[1, : radii[1] + 1]),
        sums=sums,
    )


def _tables(settings: Settings) -> Tables:
    (labels, pixels), dtype, variants = settings.unary.shape, settings.unary.dtype, len(settings.weights)
    blocks, columns = -(-pixels // 8), variants * labels
    groups, first = -(-columns // 8), -(-labels // 8)
    above = 2 * max(0, len(settings.down) - 1) * settings.width
    rows = (max(groups, first), blocks, 64)
    return Tables(
        active=np.arange(blocks),
        starts=np.empty(blocks, np.int64),
        counts=np.empty(blocks, np.int64),
        leads=np.empty(labels, dtype),
        names=np.empty(labels * blocks, np.int32),
        logits=np.empty((columns * blocks, 8), dtype),
        sent=np.empty((columns * blocks, 8), dtype),
        change=np.empty((columns * blocks, 8), dtype),
        rows=np.empty(rows, dtype),
        near=np.empty(rows, dtype),
        beside=np.empty(rows if len(settings.across) else (1, 1, 64), dtype),
        vertices=np.empty((2, settings.neighbors.shape[1] + 1, 8), dtype),
        between=np.empty((pixels + above + 8 if len(settings.across) else 0, 8), dtype),
        factors=np.empty((4, pixels), dtype),
        gram=np.empty((labels, labels)),
        grams=np.empty((columns, columns)),
        basis=np.zeros((labels, 8 * first), dtype),
        bases=np.zeros((columns, 8 * groups), dtype),
        x=np.empty((columns, 8), dtype),
        q=np.empty((columns, 8), dtype),
        s=np.empty((columns, 8), dtype),
        behind=np.empty((labels, 8), dtype),
        places=np.empty(labels, np.int64),
        channels=np.empty((2, 8, 8), dtype),
        labels=np.empty((variants, 8 * blocks), np.int32),
        trace=np.zeros((settings.iterations, 2), np.int64),
    )
