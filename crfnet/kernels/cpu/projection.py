"""What eight pixels send: all marginals, or their projections on few directions, and what these leave out.

A vector is one label, or one direction, of eight pixels that lie side by side.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

from crfnet.kernels.cpu.arithmetic import add, any_above, fma, mul, sub, total_of_products
from crfnet.kernels.cpu.compile import inline
from crfnet.kernels.cpu.vectors import at, filled, load, put, spread_at, store, transpose

__all__ = ["expand", "gram_block", "leftover", "project", "send_change", "send_channels"]


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
def project(q, active, count, basis, groups, channels):
    """What eight pixels send: ``q V``.

    Args:
        q: (columns, 8) marginals.
        active: the columns that are not 0.
        count: how many.
        basis: V (columns, channels).
        groups: of channels.
        channels: (8 groups or more, 8), receives it.
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


@inline
def send_channels(channels, groups, rows, slot, block):
    """The channels of eight pixels turned around into rows, groups from ``slot`` on.

    They are projections, or all columns, where those that fill up a group are 0.
    """
    for group in range(groups):
        transpose(channels, 64 * group, 8, rows, ((slot + group) * rows.shape[1] + 8 * block) * 8, 8)


@inline
def send_change(channels, groups, rows, sent, slot, block, still, changes):
    """The same less what they have sent before, which lies from slot ``sent`` on and becomes the new.

    Returns:
        Its square for each of the pixels; and whether one is above ``still``: else nothing is sent.
    """
    square = filled(channels, 0.0)
    for group in range(groups):
        transpose(rows, ((sent + group) * rows.shape[1] + 8 * block) * 8, 8, changes, 64 * group, 8)
        for place in range(64 * group, 64 * group + 64, 8):
            change = sub(load(channels, place), load(changes, place))
            square = fma(change, change, square)
            store(changes, place, change)
    moved = any_above(square, filled(channels, still))
    if moved:
        send_channels(changes, groups, rows, slot, block)
        send_channels(channels, groups, rows, sent, block)
    return square, moved


@inline
def leftover(q, active, count, basis, support, supported, minus, groups, channels):
    """The squares of what the projection leaves of eight pixels, ``q - (q V) V^T``; makes ``q`` 0.

    Args:
        q: (columns, 8) marginals.
        active: the columns that are not 0.
        count: how many.
        basis: V (columns, channels).
        support: how many of its rows are not 0, then which.
        supported: the same, of every column.
        minus: (columns,), -1.
        groups: of channels.
        channels: ``q V``.
    """
    end, square = at(support, 0) + 1, filled(q, 0.0)
    for group in range(groups):
        expand(q, support, 1, end, basis, 8 * group, basis.shape[1], minus, channels, 64 * group)
    for k in range(1, end):
        place = 8 * at(support, k)
        rest = load(q, place)
        square = fma(rest, rest, square)
        store(q, place, filled(q, 0.0))
    for k in range(count):
        column = at(active, k)
        if not supported[column]:
            rest = load(q, 8 * column)
            square = fma(rest, rest, square)
            store(q, 8 * column, filled(q, 0.0))
    return square


@inline
def expand(x, columns, first, end, basis, place, width, weights, channels, start):
    """``x_c += weight_c sum_k basis_ck channel_k`` over eight channels, c some of ``columns``."""
    a, b = load(channels, start), load(channels, start + 8)
    c, d = load(channels, start + 16), load(channels, start + 24)
    e, f = load(channels, start + 32), load(channels, start + 40)
    g, h = load(channels, start + 48), load(channels, start + 56)
    for j in range(first, end):
        column = at(columns, j)
        k = place + column * width
        left, right = mul(spread_at(basis, k), a), mul(spread_at(basis, k + 1), b)
        left, right = fma(spread_at(basis, k + 2), c, left), fma(spread_at(basis, k + 3), d, right)
        left, right = fma(spread_at(basis, k + 4), e, left), fma(spread_at(basis, k + 5), f, right)
        left, right = fma(spread_at(basis, k + 6), g, left), fma(spread_at(basis, k + 7), h, right)
        store(x, 8 * column, fma(spread_at(weights, column), add(left, right), load(x, 8 * column)))
