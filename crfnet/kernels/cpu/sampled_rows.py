"""The gradient of the features from some rows of the exact kernel; pixels that are far are skipped."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917  # compiled functions take arrays one by one

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crfnet.kernels.cpu import threads
from crfnet.kernels.cpu.arithmetic import add, any_above, exp, fma, maximum, mul, sub, total
from crfnet.kernels.cpu.atomics import claim, counters_for, finish, wait
from crfnet.kernels.cpu.compile import entry, inline, kernel
from crfnet.kernels.cpu.vectors import at, filled, load, put, spread, spread_at, store

__all__ = ["PixelRuns", "pixel_runs", "sampled_rows_gradient", "sums_of_sizes"]

_RUN = 8  # pixels that follow one another in memory and share a bounding box
_PART = 1024  # pixels of a task of `sums_of_sizes`
_NEAREST = 4.0  # |f_i - f_j|^2 of the runs that are summed first: a row comes to that much at least
_MISSED = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-13}
_NOWHERE = 1e15  # bandwidths: a box that no pixel is near


class PixelRuns(NamedTuple):
    """The pixels of one image in runs of eight, each in a box; the last one is filled up."""

    features: np.ndarray  #: (d, m)
    inside: np.ndarray  #: (m,), 1 for pixels that count, else 0
    low: np.ndarray  #: (d, m / 8 or more), the bounding box of those that count, of every run
    high: np.ndarray

    @property
    def farthest(self) -> float:
        """The ``|f_i - f_j|^2`` from which runs are skipped by a row of which no more than K_ii = 1 is known.

        All that a row misses so is at most 1e-5 (float32) or 1e-13 (float64) of its sum. A row that is known
        to come to s or more may miss s times that: 2 log s less far.
        """
        return 2 * math.log(self.inside.size / _MISSED[self.features.dtype])


def pixel_runs(features: np.ndarray, inside: np.ndarray) -> PixelRuns:
    """The boxes of one image.

    Args:
        features: (d, n), float32 or float64, in units of one bandwidth.
        inside: bool (n,), the pixels that count; at least one.
    """
    fill = (0, -features.shape[1] % _RUN)
    features = np.ascontiguousarray(np.pad(features, ((0, 0), fill), mode="edge"))
    inside = np.pad(inside, fill)
    runs, counts = features.reshape(len(features), -1, _RUN), inside.reshape(-1, _RUN)
    more = (0, 0), (0, -len(counts) % 8)
    low, high = np.full(runs.shape[:2], _NOWHERE), np.full(runs.shape[:2], -_NOWHERE)
    for k in range(_RUN):  # numpy's own reduction of so short an axis takes several times as long
        np.minimum(low, runs[:, :, k], out=low, where=counts[:, k])
        np.maximum(high, runs[:, :, k], out=high, where=counts[:, k])
    low, high = (
        np.pad(bound, more, constant_values=_NOWHERE).astype(features.dtype) for bound in (low, high)
    )
    return PixelRuns(features, inside.astype(features.dtype), low, high)


def sampled_rows_gradient(
    runs: Sequence[PixelRuns],
    rows: np.ndarray,
    grad: np.ndarray,
    values: np.ndarray,
    features: np.ndarray,
    scale: np.ndarray | None,
    *,
    count: int | None = None,
) -> np.ndarray:
    """The gradient of ``sum_i g_i . (R K v)_i`` over the drawn rows i, with respect to the features.

    ``R = diag(scale) D^-1``: each row of K scaled to a sum that is held constant. Without ``scale`` the
    average D^-1 K v, whose D changes with the features. All floating arrays have one precision.

    Args:
        runs: of every image.
        rows: int64 (b, r), the drawn pixels.
        grad: g of the drawn pixels (b, r, l), times the row's weight.
        values: v (b, l, n), C-contiguous.
        features: of the drawn pixels (b, r, d), inside or not.
        scale: row sums that the drawn pixels' rows are scaled to (b, r).
        count: of threads; sums round differently with their number.

    Returns:
        (b, d, n).
    """
    count = threads.threads() if count is None else count
    batch, labels, pixels = values.shape
    drawn, whole = rows.shape[1], pixels - pixels % _RUN
    gradient = np.empty((batch, features.shape[2], pixels), values.dtype)
    sums = np.ones((batch, drawn), values.dtype) if scale is None else scale
    for image, (placed, inside, low, high) in enumerate(runs):
        parts = min(count, drawn)
        found = np.zeros((parts, *placed.shape), values.dtype)
        pulls = np.zeros_like(features[image])
        last = np.zeros((labels, _RUN), values.dtype)  # the values of the last run, where it is filled up
        last[:, : pixels - whole] = values[image, :, whole:]
        threads.run(
            _add_rows, counters_for(1), placed, inside, low, high, runs[image].farthest, values[image], last,
            grad[image], features[image], sums[image], scale is None, found, pulls, count=parts,
        )  # fmt: skip
        gradient[image] = (found.sum(0) if parts > 1 else found[0])[:, :pixels]
        np.subtract.at(gradient[image].T, rows[image], pulls)
    return gradient


@entry
def _add_rows(
    thread, count, counters, placed, inside, low, high, farthest, values, last, grad, features, scale,
    averaged, found, pulls,
):  # fmt: skip
    """What the rows of one image pull at each pixel, a part of the rows in each of ``found``."""
    parts, rows = len(found), len(grad)
    near, gaps = np.empty(low.shape[1], np.int64), np.empty(low.shape[1], placed.dtype)
    kernels, dots = np.empty(len(inside), placed.dtype), np.empty(len(inside), placed.dtype)
    task = claim(counters, 0)
    while task < parts:
        for row in range(rows * task // parts, rows * (task + 1) // parts):
            _find_gaps(low, high, features, row, gaps)
            some = _list_between(gaps, -1.0, _NEAREST, near, 0)
            nearest, kept = _sum_row(placed, inside, features, row, near, 0, some, farthest, kernels, 0)
            limit = farthest - 2 * np.log(max(1.0, nearest))
            some = _list_between(gaps, _NEAREST, limit, near, kept)
            rest, runs = _sum_row(placed, inside, features, row, near, kept, some, limit, kernels, kept)
            row_sum = nearest + rest
            weighted = _multiply_values(values, last, grad, row, near, runs, kernels, dots)
            mean = weighted / row_sum if averaged else weighted - weighted
            weight = at(scale, row) / row_sum
            _pull(placed, features, row, near, runs, kernels, dots, weight, mean, found, task, pulls)
        task = finish(counters, 0)
    wait(counters, 0, parts)


@kernel
def _find_gaps(low, high, features, row, gaps):
    """How far away all boxes are at least, squared."""
    dimensions, boxes = low.shape
    zero = filled(low, 0.0)
    for first in range(0, boxes, 8):
        gap = zero
        for k in range(dimensions):
            f, place = spread_at(features, row * dimensions + k), k * boxes + first
            out = maximum(maximum(sub(load(low, place), f), sub(f, load(high, place))), zero)
            gap = fma(out, out, gap)
        store(gaps, first, gap)


@kernel
def _list_between(gaps, nearest, farthest, near, count):
    """Lists the runs that are so far away, behind ``count`` others; says how many there are then."""
    for box in range(len(gaps)):
        put(near, count, box)  # the next one takes its place where it is not
        count += nearest <= at(gaps, box) < farthest
    return count


@kernel
def _sum_row(placed, inside, features, row, near, begin, end, farthest, kernels, kept):
    """K_ij of some of the listed runs, whose list they join behind ``kept`` others if a pixel is that near.

    Returns:
        Their sum; and how many runs are listed then.
    """
    dimensions, pixels = placed.shape
    # What is smaller than exp(-40) or exp(-80) counts for nothing; numbers near the smallest are slow.
    half, lowest = filled(placed, -0.5), filled(placed, -80.0 if placed.itemsize == 8 else -40.0)
    row_sum, limit = filled(placed, 0.0), filled(placed, farthest)
    for n in range(begin, end):
        first = near[n] * _RUN
        square = filled(placed, 0.0)
        for k in range(dimensions):
            away = sub(load(placed, k * pixels + first), spread_at(features, row * dimensions + k))
            square = fma(away, away, square)
        if any_above(limit, square):
            value = mul(exp(maximum(mul(square, half), lowest)), load(inside, first))
            store(kernels, kept * _RUN, value)
            row_sum = add(row_sum, value)
            near[kept] = near[n]
            kept += 1
    return total(row_sum), kept


@kernel
def _multiply_values(values, last, grad, row, near, runs, kernels, dots):
    """g_i . v_j of the listed runs, one after another; the sum of K_ij times it."""
    weighted, pixels = filled(kernels, 0.0), values.shape[1]
    for n in range(runs):
        first = near[n] * _RUN
        if first + _RUN <= pixels:
            dot = _multiply_run(values, first, pixels, grad, row)
        else:
            dot = _multiply_run(last, 0, _RUN, grad, row)
        store(dots, n * _RUN, dot)
        weighted = fma(load(kernels, n * _RUN), dot, weighted)
    return total(weighted)


@inline
def _multiply_run(values, place, stride, grad, row):
    labels = grad.shape[1]
    even = odd = filled(values, 0.0)
    for k in range(0, labels - 1, 2):
        even = fma(spread_at(grad, row * labels + k), load(values, place + k * stride), even)
        odd = fma(spread_at(grad, row * labels + k + 1), load(values, place + (k + 1) * stride), odd)
    if labels % 2 == 1:
        k = labels - 1
        even = fma(spread_at(grad, row * labels + k), load(values, place + k * stride), even)
    return add(even, odd)


@kernel
def _pull(placed, features, row, near, runs, kernels, dots, weight, mean, found, part, pulls):
    """Adds ``share_j (f - f_j)`` to every listed j, and these sums to ``pulls``."""
    dimensions, pixels = placed.shape
    weights, means = spread(weight), spread(mean)
    for n in range(runs):
        share = mul(mul(weights, load(kernels, n * _RUN)), sub(load(dots, n * _RUN), means))
        store(kernels, n * _RUN, share)
    for k in range(dimensions):
        f, pulled, start = spread_at(features, row * dimensions + k), filled(placed, 0.0), k * pixels
        for n in range(runs):
            place = start + near[n] * _RUN
            pull = mul(load(kernels, n * _RUN), sub(f, load(placed, place)))
            store(found, part * placed.size + place, add(load(found, part * placed.size + place), pull))
            pulled = add(pulled, pull)
        put(pulls, row * dimensions + k, total(pulled))


def sums_of_sizes(x: np.ndarray, count: int | None = None) -> np.ndarray:
    """``sum_l |x_l|`` (b, n) of an array (b, l, n), C-contiguous."""
    count = threads.threads() if count is None else count
    out = np.empty((len(x), x.shape[2]), x.dtype)
    threads.run(_add_sizes, counters_for(1), x, out, count=count)
    return out


@entry
def _add_sizes(thread, count, counters, x, out):
    batch, labels, pixels = x.shape
    parts = (pixels + _PART - 1) // _PART
    task = claim(counters, 0)
    while task < batch * parts:
        image, first = task // parts, task % parts * _PART
        end = min(pixels, first + _PART)
        zero = filled(x, 0.0)
        for i in range(first, end - 7, 8):
            size, place = zero, image * x[0].size + i
            for k in range(labels):
                value = load(x, place + k * pixels)
                size = add(size, maximum(sub(zero, value), value))  # NaN stays NaN
            store(out, image * pixels + i, size)
        for i in range(end - (end - first) % 8, end):
            rest = 0.0
            for k in range(labels):
                rest += abs(x[image, k, i])
            out[image, i] = rest
        task = finish(counters, 0)
    wait(counters, 0, batch * parts)
