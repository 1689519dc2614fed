"""Message passing of a mean-field step: all kernels on one group of channels after another; and row sums."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

import numpy as np

from crfnet.kernels.cpu.atomics import claim, finish, wait
from crfnet.kernels.cpu.compile import inline, kernel
from crfnet.kernels.cpu.separable import convolve_group
from crfnet.kernels.cpu.splat_blur_slice import filter_group
from crfnet.kernels.cpu.tables import BLOCKS
from crfnet.kernels.cpu.vectors import filled, store

__all__ = ["first_sent", "normalize", "pass_messages"]

_EPS = 1e-20  # added to row sums before they divide


@inline
def first_sent(groups, most, labels):
    """The slot of ``rows`` in which the first group lies that is sent.

    Messages take the first slots. What is sent lies behind them, so that a step can be redone, and what has
    changed of it behind that. Where every step sends all columns they lie one slot after their messages,
    since nobody reads a slot once the one before it is filled.
    """
    behind = len(labels.weights) * most
    return behind if groups < most or labels.still >= 0 else behind + 1 - most


@kernel
def pass_messages(counters, phase, group, sent, most, few, padded, kernels, tables):
    """Every kernel's messages of one group of channels, ``sent`` the slot of the first; the next phase.

    With ``few`` what active blocks send is added to what they have heard.
    """
    for k in range(len(kernels.slots)):
        slot = kernels.slots[k] * most + group
        adds = few or kernels.adds[k]
        phase = _pass_kernel(counters, phase, k, sent + group, slot, adds, few, padded, kernels, tables)
    return phase


@kernel
def _pass_kernel(counters, phase, k, sent, slot, adds, few, padded, kernels, tables):
    rows, points = tables.rows.shape[1] * 8, tables.send.shape[1]
    if k < len(kernels.lattices):
        entries, size, axes, corners = kernels.lattices[k]
        lattice = (kernels.corners, entries, kernels.weights, kernels.neighbors, axes, size, corners, points)
        return filter_group(
            counters, phase, lattice, kernels.alphas[k], False, tables.send, tables.receive, k * points,
            tables.rows, sent * rows, tables.lattice, tables.pieces, tables.rows, slot * rows, adds, few,
            tables.active,
        )  # fmt: skip
    return convolve_group(
        counters, phase, kernels.shape, kernels.radii, kernels.taps, k - len(kernels.lattices), tables.send,
        tables.receive, k * points, tables.rows, sent * rows, padded, tables.between, tables.rows, slot *
        rows, adds, few, tables.active,
    )  # fmt: skip


@kernel
def normalize(counters, padded, kernels, labels, tables):
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
            phase = _pass_kernel(counters, phase, k, 1, 0, False, False, padded, kernels, tables)
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
