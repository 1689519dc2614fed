"""The local update of eight pixels at a time: logits and softmax.

Here a vector is one label of eight pixels that lie side by side, as the logits (l, n) are stored; messages
lie as rows of eight channels and are turned around on the way. A label that is far below the best one in all
eight pixels is left out: most pixels know one to three labels.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

import numpy as np

from crfnet.kernels.cpu.arithmetic import add, any_above, exp, fma, inverse, maximum, mul, sub
from crfnet.kernels.cpu.compile import inline
from crfnet.kernels.cpu.projection import expand
from crfnet.kernels.cpu.vectors import at, filled, load, put, spread_at, store, transpose

__all__ = [
    "add_messages",
    "clear_rows",
    "log_marginals",
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
def add_messages(
    x, columns, count, rows, slots, groups, block, reduced, basis, weights, messages
):  # fmt: skip
    """Adds the weighted messages of one table.

    Args:
        x: (columns, 8) logits of all variants' labels.
        columns: int64, to which messages are added, ascending.
        count: how many.
        rows: (slots, pixels, 8), messages of groups of eight channels.
        slots: of the first group.
        groups: how many.
        block: the pixels are 8 block and the seven after it.
        reduced: channels are directions of ``basis`` (columns, channels), else columns.
        basis: see above.
        weights: (columns,).
        messages: (8, 8) to compute in.
    """
    k, width = 0, basis.shape[1]
    for group in range(groups):
        place = ((slots + group) * rows.shape[1] + 8 * block) * 8
        if reduced:
            transpose(rows, place, 8, messages, 0, 8)
            expand(x, columns, 0, count, basis, 8 * group, width, weights, messages, 0)
        elif k < count and at(columns, k) < 8 * group + 8:
            transpose(rows, place, 8, messages, 0, 8)
            while k < count and at(columns, k) < 8 * group + 8:
                c = at(columns, k)
                message = load(messages, 8 * (c - 8 * group))
                store(x, 8 * c, fma(spread_at(weights, c), message, load(x, 8 * c)))
                k += 1


@inline
def softmax_block(x, q, possible, listed, active, variants, cut, inside, place):
    """Marginals of eight pixels; how many columns are not 0.

    Args:
        x: (columns, 8) logits.
        q: (columns, 8) or more rows of zeros, receives the marginals.
        possible: int64, the columns that count, of one variant after another.
        listed: how many of each variant.
        active: int64 (columns,), receives the columns that are not 0.
        variants: softmaxes side by side.
        cut: nats below the best label at which a label counts as 0, where that holds in all eight pixels.
        inside: factors of the pixels from ``place`` on.
        place: -1 where all are 1.
    """
    count = 0
    for variant in range(variants):
        first, end = variant * listed, (variant + 1) * listed
        best = load(x, 8 * at(possible, first))
        for k in range(first + 1, end):
            best = maximum(load(x, 8 * at(possible, k)), best)
        lowest, before, sums = filled(x, -cut), count, filled(x, 0.0)
        for k in range(first, end):
            c = at(possible, k)
            behind = sub(load(x, 8 * c), best)  # of large logits best - cut would be best
            if any_above(behind, lowest):
                value = exp(behind)
                sums = add(sums, value)
                store(q, 8 * c, value)
                put(active, count, c)
                count += 1
        scale = inverse(sums)
        if place >= 0:
            scale = mul(scale, load(inside, place))
        for k in range(before, count):
            c = 8 * at(active, k)
            store(q, c, mul(load(q, c), scale))
    return count


@inline
def clear_rows(q, active, count):
    """Makes 0 what `softmax_block` has set."""
    for k in range(count):
        store(q, 8 * at(active, k), filled(q, 0.0))


@inline
def log_marginals(x, variants, labels, cut, lanes, out, place, stride):
    """Log marginals of eight pixels, all labels; of variant v from ``place + v labels stride`` on."""
    for variant in range(variants):
        first, end = variant * labels, (variant + 1) * labels
        best = load(x, 8 * first)
        for c in range(first + 1, end):
            best = maximum(load(x, 8 * c), best)
        lowest, sums = filled(x, -cut), filled(x, 0.0)
        for c in range(first, end):
            behind = sub(load(x, 8 * c), best)
            if any_above(behind, lowest):
                sums = add(sums, exp(behind))
        store(lanes, 0, sums)
        for k in range(8):
            put(lanes, k, np.log(at(lanes, k)))
        shift = load(lanes, 0)  # apart from the best, beside which it may be lost to rounding
        for c in range(first, end):
            store(out, place + c * stride, sub(sub(load(x, 8 * c), best), shift))
