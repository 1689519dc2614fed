"""The local update of eight pixels at a time: logits, softmax, and what is sent in the next step.

Here a vector is one label of eight pixels that lie side by side, as the logits (l, n) are stored; messages
lie as rows of eight channels and are turned around on the way. A label that is far below the best one in all
eight pixels is left out: most pixels know one to three labels.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

import numpy as np

from crfnet.kernels.cpu.compile import inline
from crfnet.kernels.cpu.vectors import (
    add,
    any_above,
    at,
    exp,
    filled,
    fma,
    inverse,
    load,
    maximum,
    mul,
    put,
    spread_at,
    store,
    sub,
    total_of_products,
    transpose,
)

__all__ = [
    "add_messages",
    "gram_block",
    "leftover",
    "log_marginals",
    "project",
    "send_all",
    "softmax_block",
    "start_logits",
]


@inline
def start_logits(unary, place, stride, variants, labels, x):
    """The logits of all variants before any message: rows (variant, label) of ``x``."""
    for variant in range(variants):
        for label in range(labels):
            store(x, 8 * (variant * labels + label), load(unary, place + label * stride))


@inline
def add_messages(x, columns, rows, slots, groups, block, reduced, basis, weights, messages):
    """Adds the weighted messages of one table.

    Args:
        x: (columns, 8) logits.
        columns: labels of all variants.
        rows: (slots, pixels, 8), messages of groups of eight channels.
        slots: of the first group.
        groups: how many.
        block: the pixels are 8 block and the seven after it.
        reduced: channels are directions of ``basis`` (columns, channels), else columns.
        basis: see above.
        weights: (columns,).
        messages: (8, 8) to compute in.
    """
    width = basis.shape[1]
    for group in range(groups):
        transpose(rows, ((slots + group) * rows.shape[1] + 8 * block) * 8, 8, messages, 0, 8)
        if reduced:
            _expand(x, columns, basis, 8 * group, width, weights, messages, 0)
        else:
            for c in range(8 * group, min(columns, 8 * group + 8)):
                message = load(messages, 8 * (c - 8 * group))
                store(x, 8 * c, fma(spread_at(weights, c), message, load(x, 8 * c)))


@inline
def _expand(x, columns, basis, place, width, weights, channels, start):
    """``x_c += weight_c sum_k basis_ck channel_k`` over eight channels."""
    a, b = load(channels, start), load(channels, start + 8)
    c, d = load(channels, start + 16), load(channels, start + 24)
    e, f = load(channels, start + 32), load(channels, start + 40)
    g, h = load(channels, start + 48), load(channels, start + 56)
    for column in range(columns):
        k = place + column * width
        left, right = mul(spread_at(basis, k), a), mul(spread_at(basis, k + 1), b)
        left, right = fma(spread_at(basis, k + 2), c, left), fma(spread_at(basis, k + 3), d, right)
        left, right = fma(spread_at(basis, k + 4), e, left), fma(spread_at(basis, k + 5), f, right)
        left, right = fma(spread_at(basis, k + 6), g, left), fma(spread_at(basis, k + 7), h, right)
        store(x, 8 * column, fma(spread_at(weights, column), add(left, right), load(x, 8 * column)))


@inline
def softmax_block(x, q, active, variants, labels, cut, inside, place):
    """Marginals of eight pixels; how many columns are not 0.

    Args:
        x: (columns, 8) logits.
        q: (columns, 8) or more rows, receives the marginals.
        active: int64 (columns,), receives the columns that are not 0.
        variants: softmaxes side by side.
        labels: of each.
        cut: nats below the best label at which a label counts as 0, where that holds in all eight pixels.
        inside: factors of the pixels from ``place`` on.
        place: -1 where all are 1.
    """
    count = 0
    for variant in range(variants):
        first, end = variant * labels, (variant + 1) * labels
        best = load(x, 8 * first)
        for c in range(first + 1, end):
            best = maximum(load(x, 8 * c), best)
        lowest, before, sums = add(best, filled(x, -cut)), count, filled(x, 0.0)
        for c in range(first, end):
            logit = load(x, 8 * c)
            if any_above(logit, lowest):
                value = exp(sub(logit, best))
                sums = add(sums, value)
                store(q, 8 * c, value)
                put(active, count, c)
                count += 1
            else:
                store(q, 8 * c, filled(x, 0.0))
        scale = inverse(sums)
        if place >= 0:
            scale = mul(scale, load(inside, place))
        for k in range(before, count):
            c = 8 * at(active, k)
            store(q, c, mul(load(q, c), scale))
    return count


@inline
def gram_block(q, active, count, gram):
    """Adds ``q q^T`` of eight pixels: below the diagonal, and on it."""
    for k in range(count):
        mine = at(active, k)
        for j in range(k + 1):
            other = at(active, j)
            place = mine * gram.shape[1] + other
            put(gram, place, at(gram, place) + total_of_products(load(q, 8 * mine), load(q, 8 * other)))


@inline
def project(q, active, count, basis, groups, channels, rows, slot, block):
    """What eight pixels send: ``q V``, turned around into groups of rows of eight channels.

    Args:
        q: (columns, 8) marginals.
        active: the columns that are not 0.
        count: how many.
        basis: V (columns, channels).
        groups: of channels.
        channels: (8 groups or more, 8), receives ``q V``.
        rows: (slots, pixels, 8), receives it turned around.
        slot: of the first group.
        block: the pixels are 8 block and the seven after it.
    """
    width = basis.shape[1]
    for group in range(groups):
        a = b = c = d = e = f = g = h = filled(q, 0.0)
        for j in range(count):
            column = at(active, j)
            value, k = load(q, 8 * column), column * width + 8 * group
            a, b = fma(spread_at(basis, k), value, a), fma(spread_at(basis, k + 1), value, b)
            c, d = fma(spread_at(basis, k + 2), value, c), fma(spread_at(basis, k + 3), value, d)
            e, f = fma(spread_at(basis, k + 4), value, e), fma(spread_at(basis, k + 5), value, f)
            g, h = fma(spread_at(basis, k + 6), value, g), fma(spread_at(basis, k + 7), value, h)
        start = 64 * group
        store(channels, start, a)
        store(channels, start + 8, b)
        store(channels, start + 16, c)
        store(channels, start + 24, d)
        store(channels, start + 32, e)
        store(channels, start + 40, f)
        store(channels, start + 48, g)
        store(channels, start + 56, h)
        transpose(channels, start, 8, rows, ((slot + group) * rows.shape[1] + 8 * block) * 8, 8)


@inline
def send_all(q, groups, rows, slot, block):
    """What eight pixels send where every column is a channel; columns that fill up a group are 0."""
    for group in range(groups):
        transpose(q, 64 * group, 8, rows, ((slot + group) * rows.shape[1] + 8 * block) * 8, 8)


@inline
def leftover(q, columns, basis, minus, groups, channels, sums):
    """What the projection leaves of eight pixels: ``q - (q V) V^T``, which is in ``q`` afterwards.

    ``sums`` (2, 8) takes its square, summed, and the largest.
    """
    for group in range(groups):
        _expand(q, columns, basis, 8 * group, basis.shape[1], minus, channels, 64 * group)
    square = filled(q, 0.0)
    for c in range(columns):
        rest = load(q, 8 * c)
        square = fma(rest, rest, square)
    store(sums, 0, add(load(sums, 0), square))
    store(sums, 8, maximum(load(sums, 8), square))


@inline
def log_marginals(x, variants, labels, lanes, out, place, stride):
    """Log marginals of eight pixels, all labels; of variant v from ``place + v labels stride`` on."""
    for variant in range(variants):
        first, end = variant * labels, (variant + 1) * labels
        best = load(x, 8 * first)
        for c in range(first + 1, end):
            best = maximum(load(x, 8 * c), best)
        sums = filled(x, 0.0)
        for c in range(first, end):
            sums = add(sums, exp(sub(load(x, 8 * c), best)))
        store(lanes, 0, sums)
        for k in range(8):
            put(lanes, k, np.log(at(lanes, k)))
        shift = load(lanes, 0)  # apart from the best, beside which it may be lost to rounding
        for c in range(first, end):
            store(out, place + c * stride, sub(sub(load(x, 8 * c), best), shift))
