"""The whole run of mean-field steps on one image as one compiled call of each thread.

A step is message passing, compatibility transform and local update (Zheng et al. 2015, algorithm 1), in the
phases of `crfnet.kernels.cpu.atomics`: marginals of a sample of pixels for the basis, marginals of all pixels
for what they send, then the kernels, group by group of channels. Marginals are not stored.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

from typing import NamedTuple

import numpy as np

from crfnet.kernels.cpu.atomics import claim, finish, wait
from crfnet.kernels.cpu.basis import choose_basis
from crfnet.kernels.cpu.blurring import filter_group
from crfnet.kernels.cpu.compile import entry, inline, kernel, making_arrays
from crfnet.kernels.cpu.separable import convolve_group
from crfnet.kernels.cpu.update import (
    add_messages,
    gram_block,
    leftover,
    log_marginals,
    project,
    send_all,
    softmax_block,
    start_logits,
)
from crfnet.kernels.cpu.vectors import filled, put, store

__all__ = ["BLOCKS", "PIECES", "Kernels", "Labels", "Tables", "run_steps"]

BLOCKS = 64  # of eight pixels, in a task
PIECES = 16  # in which the sample is taken; their number is fixed so that sums do not depend on threads
_SAMPLE, _SEND, _ANSWER = 0, 1, 2
_EPS = 1e-20  # added to row sums before they divide


class Kernels(NamedTuple):
    """The kernels of an image: lattices first, then Gaussians of the grid."""

    corners: np.ndarray  #: int32, flat, of all lattices one after another; likewise the next two
    weights: np.ndarray
    neighbors: np.ndarray
    lattices: np.ndarray  #: int64 (lattices, 4): first entry, d + 1, first neighbor, corners
    alphas: np.ndarray  #: float64 (lattices,)
    shape: np.ndarray  #: int64 (3,), the grid
    radii: np.ndarray  #: int64 (grids, 3)
    taps: np.ndarray  #: (grids, 3, radius + 1)
    sums: np.ndarray  #: (grids, 3, longest axis), row sums along each axis
    normalizations: np.ndarray  #: int64 (kernels,): 0 none, 1 after, 2 before, 3 symmetric
    scales: np.ndarray  #: (kernels,), by which messages are multiplied
    slots: np.ndarray  #: int64 (kernels,), the table of messages to which each adds
    adds: np.ndarray  #: bool (kernels,), False for the first of a table


class Labels(NamedTuple):
    """Unary and weights. A column is a label of a variant."""

    unary: np.ndarray  #: (l, n)
    last: np.ndarray  #: (l, 8), the unary of the last block where n is no multiple of eight, else nothing
    inside: np.ndarray  #: (8 blocks,), 0 for pixels that do not count
    masked: bool  #: some pixel of a whole block does not count
    weights: np.ndarray  #: (tables, columns) of messages
    variants: int
    cut: float  #: nats, see `softmax_block`
    limit: float  #: mean square that the projection may leave of a pixel; negative for no projection
    sample: int  #: blocks from which the basis is taken


class Tables(NamedTuple):
    """Memory to work in, and results."""

    rows: (
        np.ndarray
    )  #: (tables * groups + 1, 8 blocks, 8): messages of group g in slot g, what is sent in g + 1
    lattice: np.ndarray  #: (pieces or 2, corners + 1, 8)
    pieces: int  #: in which points are splatted
    between: np.ndarray  #: (1 or 2, n, 8)
    send: np.ndarray  #: (kernels, n), 1 at first
    receive: np.ndarray  #: likewise
    basis: np.ndarray  #: (2, columns, 8 groups), of this step and of the one before
    minus: np.ndarray  #: (columns,), -1
    grams: np.ndarray  #: float64 (PIECES, columns, columns)
    groups: np.ndarray  #: int64 (steps,), results: groups of channels that were sent
    left: np.ndarray  #: float64 (steps, tasks, 2): sum and maximum of the squares that projections left
    out: np.ndarray  #: (columns, n), log marginals
    last: np.ndarray  #: (columns, 8), those of the last block


class Scratch(NamedTuple):
    """Memory of one thread."""

    x: np.ndarray
    q: np.ndarray
    active: np.ndarray
    messages: np.ndarray
    channels: np.ndarray
    sums: np.ndarray


@entry
def run_steps(thread, count, counters, kernels, labels, tables, iterations):
    """Fills ``tables.out``, ``groups`` and ``left``; see the tuples."""
    columns, blocks = labels.weights.shape[1], tables.rows.shape[1] // 8
    most, before = (columns + 7) // 8, 0
    scratch = _scratch(labels.unary, columns, most)
    longest = kernels.radii[:, 2].max() if len(kernels.radii) > 0 else 0
    padded = np.empty((kernels.shape[2] + 2 * longest, 8), labels.unary.dtype)
    phase = _normalize(counters, padded, kernels, labels, tables)
    for step in range(iterations):
        groups = most
        if labels.limit >= 0 and most > 1:
            phase = _visit_blocks(
                _SAMPLE, counters, phase, PIECES, labels.sample, step, before, most, labels, tables, scratch
            )
            phase = _choose(counters, phase, step, most, labels, tables)
            groups = tables.groups[step]
        tasks = (blocks + BLOCKS - 1) // BLOCKS
        phase = _visit_blocks(
            _SEND, counters, phase, tasks, blocks, step, before, groups, labels, tables, scratch
        )
        for group in range(groups):
            phase = _pass_messages(counters, phase, group, most, padded, kernels, tables)
        before = groups
    tasks = (blocks + BLOCKS - 1) // BLOCKS
    _visit_blocks(_ANSWER, counters, phase, tasks, blocks, iterations, before, most, labels, tables, scratch)


@making_arrays
def _scratch(like, columns, groups):
    x, q = np.zeros((columns, 8), like.dtype), np.zeros((8 * groups, 8), like.dtype)
    channels = np.zeros((8 * groups, 8), like.dtype)
    active = np.zeros(columns, np.int64)
    return Scratch(x, q, active, np.zeros((8, 8), like.dtype), channels, np.zeros((2, 8), like.dtype))


@kernel
def _normalize(counters, padded, kernels, labels, tables):
    """The factors of senders and receivers from the kernels' row sums; the number of the next phase."""
    pixels = labels.unary.shape[1]
    part = 8 * BLOCKS
    tasks = (pixels + part - 1) // part
    task = claim(counters, 0)
    while task < tasks:
        for pixel in range(task * part, min(pixels, (task + 1) * part)):
            store(tables.rows, 8 * (tables.rows.shape[1] + pixel), filled(tables.rows, labels.inside[pixel]))
        task = finish(counters, 0)
    phase = wait(counters, 0, tasks)
    for k in range(len(kernels.slots)):
        known = k >= len(kernels.lattices) and not labels.masked
        if kernels.normalizations[k] != 0 and not known:
            phase = _pass_kernel(counters, phase, k, 1, 0, False, padded, kernels, tables)
        task = claim(counters, phase)
        while task < tasks:
            for pixel in range(task * part, min(pixels, (task + 1) * part)):
                _set_factors(k, pixel, known, kernels, labels, tables)
            task = finish(counters, phase)
        phase = wait(counters, phase, tasks)
    return phase


@inline
def _set_factors(k, pixel, known, kernels, labels, tables):
    one = labels.inside[pixel]
    send = receive = one
    row_sum = tables.rows[0, pixel, 0] + _EPS
    if known:
        sums, width, height = kernels.sums[k - len(kernels.lattices)], kernels.shape[2], kernels.shape[1]
        row_sum = (
            sums[2, pixel % width] * sums[1, pixel // width % height] * sums[0, pixel // width // height]
        )
    if kernels.normalizations[k] == 3:
        send = receive = one / np.sqrt(row_sum) if one > 0 else one
    elif kernels.normalizations[k] == 2:
        send = one / row_sum if one > 0 else one
    elif kernels.normalizations[k] == 1:
        receive = one / row_sum if one > 0 else one
    tables.send[k, pixel] = send
    tables.receive[k, pixel] = receive * kernels.scales[k]


@kernel
def _pass_messages(counters, phase, group, most, padded, kernels, tables):
    """Every kernel's messages of one group of channels; the number of the next phase."""
    sent = (
        len(tables.rows) - most + group
    )  # messages come to lie one slot earlier, where nobody reads any more
    for k in range(len(kernels.slots)):
        slot = kernels.slots[k] * most + group
        phase = _pass_kernel(counters, phase, k, sent, slot, kernels.adds[k], padded, kernels, tables)
    return phase


@kernel
def _pass_kernel(counters, phase, k, sent, slot, adds, padded, kernels, tables):
    rows, points = tables.rows.shape[1] * 8, tables.send.shape[1]
    if k < len(kernels.lattices):
        entries, size, axes, corners = kernels.lattices[k]
        lattice = (kernels.corners, entries, kernels.weights, kernels.neighbors, axes, size, corners, points)
        return filter_group(
            counters, phase, lattice, kernels.alphas[k], False, tables.send, tables.receive, k * points,
            tables.rows, sent * rows, tables.lattice, tables.pieces, tables.rows, slot * rows, adds,
        )  # fmt: skip
    return convolve_group(
        counters, phase, kernels.shape, kernels.radii, kernels.taps, k - len(kernels.lattices), tables.send,
        tables.receive, k * points, tables.rows, sent * rows, padded, tables.between, tables.rows, slot *
        rows, adds,
    )  # fmt: skip


@inline
def _logits(block, step, groups, most, labels, tables, scratch):
    """The logits of eight pixels from the messages of the step before."""
    unary, place, stride = labels.unary, 8 * block, labels.unary.shape[1]
    if place + 8 > stride:
        unary, place, stride = labels.last, 0, 8
    start_logits(unary, place, stride, labels.variants, len(unary), scratch.x)
    if step > 0:
        columns = len(scratch.x)
        for table in range(len(labels.weights)):
            add_messages(
                scratch.x, columns, tables.rows, table * most, groups, block, groups < most,
                tables.basis[(step - 1) % 2], labels.weights[table], scratch.messages,
            )  # fmt: skip


@inline
def _marginals(block, labels, tables, scratch):
    """Those of eight pixels; how many columns are not 0."""
    counts = -1 if not labels.masked and 8 * block + 8 <= labels.unary.shape[1] else 8 * block
    return softmax_block(
        scratch.x,
        scratch.q,
        scratch.active,
        labels.variants,
        len(labels.unary),
        labels.cut,
        labels.inside,
        counts,
    )


@kernel
def _visit_blocks(
    purpose, counters, phase, tasks, visited, step, before, groups, labels, tables, scratch
):  # fmt: skip
    """One phase over blocks of pixels; the number of the next phase.

    Args:
        purpose: Gram matrices of a sample of the blocks, or what all blocks send, or the answer.
        counters: of the call.
        phase: number of this phase.
        tasks: number of tasks.
        visited: number of blocks: that of all, or of the sample.
        step: number of steps before this one.
        before: groups of channels of the messages that came.
        groups: of channels to send.
        labels: of the call, like the next two.
        tables: see above.
        scratch: see above.
    """
    blocks, most = tables.rows.shape[1] // 8, (labels.weights.shape[1] + 7) // 8
    task = claim(counters, phase)
    while task < tasks:
        if purpose == _SAMPLE:
            _clear(tables.grams, task)
        store(scratch.sums, 0, filled(scratch.sums, 0.0))
        store(scratch.sums, 8, filled(scratch.sums, 0.0))
        for i in range(visited * task // tasks, visited * (task + 1) // tasks):
            block = i * blocks // visited
            _logits(block, step, before, most, labels, tables, scratch)
            if purpose == _ANSWER:
                _answer(block, labels, tables, scratch)
                continue
            count = _marginals(block, labels, tables, scratch)
            if purpose == _SAMPLE:
                gram_block(scratch.q, scratch.active, count, tables.grams[task])
            else:
                _send(block, step, count, groups, most, tables, scratch)
        if purpose == _SEND:
            for k in range(8):
                tables.left[step, task, 0] += scratch.sums[0, k]
                tables.left[step, task, 1] = max(tables.left[step, task, 1], scratch.sums[1, k])
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@inline
def _clear(grams, task):
    for place in range(task * grams[0].size, (task + 1) * grams[0].size):
        put(grams, place, 0.0)


@inline
def _send(block, step, count, groups, most, tables, scratch):
    """What a block's pixels send: all columns, or their projections."""
    basis, sent = tables.basis[step % 2], len(tables.rows) - most
    if groups == most:
        send_all(scratch.q, groups, tables.rows, sent, block)
        return
    project(scratch.q, scratch.active, count, basis, groups, scratch.channels, tables.rows, sent, block)
    leftover(scratch.q, len(scratch.x), basis, tables.minus, groups, scratch.channels, scratch.sums)


@making_arrays
def _choose(counters, phase, step, most, labels, tables):
    """One phase: the basis of a step, from the Gram matrices of all pieces of the sample."""
    if claim(counters, phase) == 0:
        gram = tables.grams[0]
        for c in range(len(gram)):
            for b in range(c + 1):
                for piece in range(1, PIECES):
                    gram[c, b] += tables.grams[piece, c, b]
                gram[b, c] = gram[c, b]
        limit = labels.limit * 8 * labels.sample * labels.variants
        tables.groups[step] = choose_basis(gram, limit, most, tables.basis[step % 2])
        finish(counters, phase)
    return wait(counters, phase, 1)


@inline
def _answer(block, labels, tables, scratch):
    out, place, stride = tables.out, 8 * block, labels.unary.shape[1]
    if place + 8 > stride:
        out, place, stride = tables.last, 0, 8
    log_marginals(scratch.x, labels.variants, len(labels.unary), scratch.sums, out, place, stride)
