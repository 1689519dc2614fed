"""Which labels can count in a block of eight pixels, whatever the steps bring."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import numpy as np

from crfnet.kernels.cpu.arithmetic import add, any_above, maximum, sub
from crfnet.kernels.cpu.atomics import claim, finish, wait
from crfnet.kernels.cpu.compile import inline, kernel
from crfnet.kernels.cpu.tables import BLOCKS
from crfnet.kernels.cpu.vectors import at, filled, load, put, spread_at, store

__all__ = ["largest_marginal", "list_labels", "unary_of"]


@kernel
def largest_marginal(nearest, gain, steps):
    """The most that a label's marginal comes to at any pixel in so many steps.

    Messages are weighted means, at most ``gain`` times the label's largest marginal: from ``softmax(U) <= e``
    follows ``Q <= e exp(gain Q)`` with the largest marginal of the step before.

    Args:
        nearest: log e, how near the label's logit comes to the best one's at any pixel, in nats, <= 0.
        gain: sum of the weights of its messages; inf where messages are no means.
        steps: how many.
    """
    first = largest = min(1.0, np.exp(nearest))
    if gain == np.inf:
        return 1.0
    for _ in range(steps):
        before = largest
        largest = min(1.0, first * np.exp(min(700.0, gain * before)))
        if largest == before:
            break
    return largest


@kernel
def list_labels(counters, phase, labels, tables, scratch, steps):
    """Three phases: the labels that are possible in each block of pixels; the number of the next phase.

    A label is impossible where it stays more than the cut below another one even if messages add the most to
    it, its gain times its `largest_marginal`, and the least to the other. Logits of the others are copied to
    lie side by side.
    """
    blocks = tables.rows.shape[1] // 8
    tasks = (blocks + BLOCKS - 1) // BLOCKS
    task = claim(counters, phase)
    while task < tasks:
        _nearest(task * BLOCKS, min(blocks, (task + 1) * BLOCKS), labels, scratch, tables.nearest[task])
        task = finish(counters, phase)
    phase = wait(counters, phase, tasks)
    if claim(counters, phase) == 0:
        _find_leads(labels, tables, steps)
        finish(counters, phase)
    phase = wait(counters, phase, 1)
    task = claim(counters, phase)
    while task < tasks:
        place = task * BLOCKS * len(labels.unary)
        for block in range(task * BLOCKS, min(blocks, (task + 1) * BLOCKS)):
            place = _list_block(block, place, labels, tables, scratch)
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@inline
def _nearest(start, end, labels, scratch, nearest):
    """How near each label comes to the best one in some blocks, if messages add the least to that."""
    count = len(labels.unary)
    for c in range(count):
        store(scratch.x, 8 * c, filled(scratch.x, -np.inf))
    for block in range(start, end):
        unary, first, stride = unary_of(block, labels)
        best = add(load(unary, first), spread_at(labels.lowest, 0))
        for c in range(1, count):
            best = maximum(add(load(unary, first + c * stride), spread_at(labels.lowest, c)), best)
        for c in range(count):
            behind = sub(load(unary, first + c * stride), best)
            store(scratch.x, 8 * c, maximum(behind, load(scratch.x, 8 * c)))
    for c in range(count):
        most = at(scratch.x, 8 * c)
        for lane in range(1, 8):
            most = max(most, at(scratch.x, 8 * c + lane))
        nearest[c] = most


@inline
def _find_leads(labels, tables, steps):
    """By how many nats another label has to lead one so that this is impossible: ``tables.leads``."""
    for c in range(len(labels.unary)):
        nearest = tables.nearest[0, c]
        for task in range(1, len(tables.nearest)):
            nearest = max(nearest, tables.nearest[task, c])
        for column in range(c, len(labels.gains), len(labels.unary)):
            gain = labels.gains[column]
            tables.leads[column] = gain * largest_marginal(nearest, gain, steps) + labels.cut


@inline
def _list_block(block, place, labels, tables, scratch):
    """Lists the labels of a block from ``place`` on; the place after them."""
    count = len(labels.unary)
    unary, first, stride = unary_of(block, labels)
    for start in range(0, len(scratch.x), count):
        best = add(load(unary, first), spread_at(labels.losses, start))
        for c in range(1, count):
            best = maximum(add(load(unary, first + c * stride), spread_at(labels.losses, start + c)), best)
        store(scratch.x, 8 * start, best)
    tables.starts[block] = place
    for c in range(count):
        logit = load(unary, first + c * stride)
        for start in range(0, len(scratch.x), count):
            behind = sub(logit, load(scratch.x, 8 * start))  # first: of large logits the lead would be lost
            if any_above(add(behind, spread_at(tables.leads, start + c)), filled(scratch.x, 0.0)):
                store(tables.logits, 8 * place, logit)
                put(tables.names, place, c)
                place += 1
                break
    tables.counts[block] = place - tables.starts[block]
    return place


@inline
def unary_of(block, labels):
    """The logits of eight pixels: an array, the place of the first and the distance of labels."""
    if 8 * block + 8 <= labels.unary.shape[1]:
        return labels.unary, 8 * block, labels.unary.shape[1]
    return labels.last, 0, 8
