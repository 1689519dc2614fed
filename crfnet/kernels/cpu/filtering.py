"""Gaussian filtering of any number of channels: the lattice, its transpose, the Gaussian of a pixel grid."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

import numpy as np

from crfnet.kernels.cpu import separable, threads
from crfnet.kernels.cpu.atomics import claim, counters_for, finish, wait
from crfnet.kernels.cpu.compile import entry, inline, kernel
from crfnet.kernels.cpu.lattice import Lattice
from crfnet.kernels.cpu.separable import Grid, convolve_group
from crfnet.kernels.cpu.splat_blur_slice import filter_group, phases_of
from crfnet.kernels.cpu.vectors import at, put, transpose

__all__ = ["filter_on_grid", "filter_on_lattice", "pack", "unpack"]

_PIXELS = 1024  # of a task


def filter_on_lattice(
    values: np.ndarray, lattice: Lattice, *, transposed: bool = False, count: int | None = None
) -> np.ndarray:
    """``alpha S^T B_d .. B_0 S v`` for every channel, or the transpose: the axes in reverse order.

    Args:
        values: (b, l, n) in the lattice's precision, C-contiguous.
        lattice: of b n points.
        transposed: the matrix' transpose.
        count: of threads; of several numbers of threads the sums are rounded differently.
    """
    count = threads.threads() if count is None else count
    batch, labels, pixels = values.shape
    groups, pieces = -(-labels // 8), min(count, 8)
    table = np.empty((groups, batch * pixels, 8), values.dtype)
    tables = np.empty((max(pieces, 2), lattice.size + 1, 8), values.dtype)
    factors = np.ones(batch * pixels, values.dtype)
    out = np.empty_like(values)
    counters = counters_for(2 + groups * phases_of(lattice.corners.shape[1]))
    threads.run(
        _through_lattice, counters, lattice.corners, lattice.weights, lattice.neighbors, lattice.alpha,
        transposed, factors, values, table, tables, pieces, out, count=count,
    )  # fmt: skip
    return out


def filter_on_grid(values: np.ndarray, grid: Grid, *, count: int | None = None) -> np.ndarray:
    """``sum_j exp(-|p_i - p_j|^2 / (2 theta^2)) v_j`` for every channel of (b, l, n), C-contiguous."""
    count = threads.threads() if count is None else count
    batch, labels, pixels = values.shape
    groups = -(-labels // 8)
    table = np.empty((groups, batch * pixels, 8), values.dtype)
    between = np.empty((2, pixels, 8), values.dtype)
    factors = np.ones(pixels, values.dtype)
    out = np.empty_like(values)
    counters = counters_for(2 + batch * groups * separable.PHASES)
    threads.run(
        _through_grid, counters, grid.shape, grid.radii[None], grid.taps[None], factors, values, table,
        between, out, count=count,
    )  # fmt: skip
    return out


@entry
def _through_lattice(
    thread, count, counters, corners, weights, neighbors, alpha, transposed, factors, values, table, tables,
    pieces, out,
):  # fmt: skip
    size, rows, points = corners.shape[1], neighbors.shape[1], len(corners)
    lattice = (corners, 0, weights, neighbors, 0, size, rows, points)
    phase = pack(counters, 0, values, table)
    for group in range(len(table)):
        place = group * points * 8
        phase = filter_group(
            counters, phase, lattice, alpha, transposed, factors, factors, 0, table, place, tables, pieces,
            table, place, False,
        )  # fmt: skip
    unpack(counters, phase, table, out)


@entry
def _through_grid(thread, count, counters, shape, radii, taps, factors, values, table, between, out):
    phase = pack(counters, 0, values, table)
    batch, _, pixels = values.shape
    padded = np.empty((shape[2] + 2 * radii[0, 2], 8), values.dtype)
    for image in range(len(table) * batch):
        place = image * pixels * 8
        phase = convolve_group(
            counters,
            phase,
            shape,
            radii,
            taps,
            0,
            factors,
            factors,
            0,
            table,
            place,
            padded,
            between,
            table,
            place,
            False,
        )
    unpack(counters, phase, table, out)


@kernel
def pack(counters, phase, values, table):
    """(b, l, n) -> (groups, b n, 8); channels that fill up a group are 0."""
    batch, labels, pixels = values.shape
    chunks = (pixels + _PIXELS - 1) // _PIXELS
    tasks = len(table) * batch * chunks
    task = claim(counters, phase)
    while task < tasks:
        group, image, first = task // chunks // batch, task // chunks % batch, task % chunks * _PIXELS
        last, few = min(pixels, first + _PIXELS), min(8, labels - 8 * group)
        source = (image * labels + 8 * group) * pixels
        target = (group * batch + image) * pixels * 8
        pixel = first
        while few == 8 and pixel + 8 <= last:
            transpose(values, source + pixel, pixels, table, target + 8 * pixel, 8)
            pixel += 8
        for rest in range(pixel, last):
            for k in range(8):
                put(table, target + 8 * rest + k, _or_zero(values, source + k * pixels + rest, k < few))
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@inline
def _or_zero(values, place, there):
    return at(values, place) if there else values.dtype.type(0)


@kernel
def unpack(counters, phase, table, values):
    """(groups, b n, 8) -> (b, l, n)."""
    batch, labels, pixels = values.shape
    chunks = (pixels + _PIXELS - 1) // _PIXELS
    tasks = len(table) * batch * chunks
    task = claim(counters, phase)
    while task < tasks:
        group, image, first = task // chunks // batch, task // chunks % batch, task % chunks * _PIXELS
        last, few = min(pixels, first + _PIXELS), min(8, labels - 8 * group)
        target = (image * labels + 8 * group) * pixels
        source = (group * batch + image) * pixels * 8
        pixel = first
        while few == 8 and pixel + 8 <= last:
            transpose(table, source + 8 * pixel, 8, values, target + pixel, pixels)
            pixel += 8
        for rest in range(pixel, last):
            for k in range(few):
                put(values, target + k * pixels + rest, at(table, source + 8 * rest + k))
        task = finish(counters, phase)
    return wait(counters, phase, tasks)
