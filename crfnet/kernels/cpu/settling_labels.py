"""Which labels a block of eight pixels knows: those that can count, those that still do, and the best."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import numpy as np

from crfnet.kernels.cpu.arithmetic import add, any_above, maximum, sub
from crfnet.kernels.cpu.compile import inline
from crfnet.kernels.cpu.vectors import at, filled, load, put, spread_at, store

__all__ = ["best_labels", "leads_of_block", "list_block", "shorten", "unary_of_block"]


@inline
def leads_of_block(block, settings, x):
    """Rows of ``x`` become the least by which each label has been behind the best one at a pixel."""
    unary, first, stride = unary_of_block(block, settings)
    best = load(unary, first)
    for label in range(1, len(settings.unary)):
        best = maximum(load(unary, first + label * stride), best)
    for label in range(len(settings.unary)):
        ahead = sub(load(unary, first + label * stride), best)
        store(x, 8 * label, maximum(load(x, 8 * label), ahead))


@inline
def list_block(block, place, settings, leads, names):
    """Labels that can come within ``cut`` of the best, in ``names`` from ``place`` on; how many."""
    unary, first, stride = unary_of_block(block, settings)
    count, best, zero = 0, load(unary, first), filled(settings.unary, 0.0)
    for label in range(1, len(settings.unary)):
        best = maximum(load(unary, first + label * stride), best)
    for label in range(len(settings.unary)):
        behind = sub(load(unary, first + label * stride), best)
        if any_above(add(behind, spread_at(leads, label)), zero):
            put(names, place + count, label)
            count += 1
    return count


@inline
def unary_of_block(block, settings):
    """The logits of eight pixels: an array, the place of the first and the distance of labels."""
    if 8 * block + 8 <= settings.unary.shape[1]:
        return settings.unary, 8 * block, settings.unary.shape[1]
    return settings.last, 0, 8


@inline
def shorten(place, listed, variants, lead, told, names, tables):
    """Takes labels off an entry that are far behind in all variants and that nobody heard of; how many stay.

    Rows of ``x``, ``q``, ``s`` and places in ``names`` move up.
    """
    _find_behind(listed, variants, lead, told, tables)
    stay, zero = 0, filled(tables.x, 0.0)
    for k in range(listed):
        if any_above(load(tables.behind, 8 * k), zero):
            put(names, place + stay, at(names, place + k))
            put(tables.places, stay, k)
            stay += 1
    if stay < listed:
        for j in range(variants * stay):
            source = 8 * (j // stay * listed + at(tables.places, j % stay))
            store(tables.x, 8 * j, load(tables.x, source))
            store(tables.s, 8 * j, load(tables.s, source))
            store(tables.q, 8 * j, load(tables.q, source))
    return stay


@inline
def _find_behind(listed, variants, lead, told, tables):
    """Rows of ``behind`` are above 0 at pixels where a label still counts."""
    for k in range(listed):
        store(tables.behind, 8 * k, filled(tables.x, -np.inf))
    for variant in range(variants):
        first, end = 8 * variant * listed, 8 * (variant + 1) * listed
        best = load(tables.x, first)
        for j in range(first + 8, end, 8):
            best = maximum(load(tables.x, j), best)
        for k in range(listed):
            j = first + 8 * k
            ahead = add(sub(load(tables.x, j), best), filled(tables.x, lead))
            counts = maximum(ahead, add(load(tables.s, j), filled(tables.x, -told)))
            store(tables.behind, 8 * k, maximum(load(tables.behind, 8 * k), counts))


@inline
def best_labels(block, place, listed, variants, names, x, labels):
    """The label of each pixel and variant: that of the largest logit."""
    for variant in range(variants):
        where = variant * labels.shape[1] + 8 * block
        for lane in range(8):
            j = 8 * variant * listed + lane
            best, value = 0, at(x, j)
            for k in range(1, listed):
                if at(x, j + 8 * k) > value:
                    best, value = k, at(x, j + 8 * k)
            put(labels, where + lane, at(names, place + best))
