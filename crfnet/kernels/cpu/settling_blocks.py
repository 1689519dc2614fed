"""What becomes of one block of eight pixels: its labels, its logits, its marginals, what it sends.

Labels of a block are counted from 0 in the order of ``names``; those of variant v come after those of the
variants before it.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

from crfnet.kernels.cpu.arithmetic import (
    add,
    any_above,
    exp,
    fma,
    inverse,
    maximum,
    mul,
    sub,
    total_of_products,
)  # fmt: skip
from crfnet.kernels.cpu.compile import inline
from crfnet.kernels.cpu.settling_labels import unary_of_block
from crfnet.kernels.cpu.vectors import at, filled, load, put, spread_at, store, transpose

__all__ = [
    "add_messages", "changes", "expand_sent", "gram_entry", "project_entry", "softmax", "start_logits",
]  # fmt: skip


@inline
def start_logits(block, place, listed, variants, settings, names, x):
    """The unary of the labels of a block, for each variant."""
    unary, first, stride = unary_of_block(block, settings)
    for k in range(listed):
        logit = load(unary, first + at(names, place + k) * stride)
        for variant in range(variants):
            store(x, 8 * (variant * listed + k), logit)


@inline
def softmax(x, q, listed, variants, cut):
    """Marginals of each variant; those far below the best are 0."""
    for variant in range(variants):
        first, end = variant * listed, (variant + 1) * listed
        best = load(x, 8 * first)
        for j in range(first + 1, end):
            best = maximum(load(x, 8 * j), best)
        lowest, sums = filled(x, -cut), filled(x, 0.0)
        for j in range(first, end):
            behind = sub(load(x, 8 * j), best)  # of large logits best - cut would be best
            value = filled(x, 0.0)
            if any_above(behind, lowest):
                value = exp(behind)
            sums = add(sums, value)
            store(q, 8 * j, value)
        scale = inverse(sums)
        for j in range(first, end):
            store(q, 8 * j, mul(load(q, 8 * j), scale))


@inline
def changes(q, s, columns):
    """Makes ``q - s`` of ``q``; the largest of all columns, of each pixel."""
    largest, zero = filled(q, 0.0), filled(q, 0.0)
    for j in range(columns):
        change = sub(load(q, 8 * j), load(s, 8 * j))
        largest = maximum(maximum(change, sub(zero, change)), largest)
        store(q, 8 * j, change)
    return largest


@inline
def expand_sent(place, listed, variants, row, groups, basis, names, tables):
    """What a block has sent, of every label: ``s = V (V^T q)``, the same for all variants."""
    width, stride = basis.shape[1], 64 * tables.rows.shape[1]
    for k in range(listed):
        store(tables.s, 8 * k, filled(tables.s, 0.0))
    for group in range(groups):
        transpose(tables.rows, group * stride + row, 8, tables.channels, 0, 8)
        for k in range(listed):
            start = at(names, place + k) * width + 8 * group
            total = load(tables.s, 8 * k)
            for i in range(8):
                total = fma(spread_at(basis, start + i), load(tables.channels, 8 * i), total)
            store(tables.s, 8 * k, total)
    for j in range(listed, variants * listed):
        store(tables.s, 8 * j, load(tables.s, 8 * (j - listed)))


@inline
def add_messages(place, listed, variants, labels, row, groups, basis, spatial, names, settings, tables):
    """Adds the messages of an entry to its logits ``x``.

    Args:
        place: of its first label in ``names``.
        listed: how many it has.
        variants: settings side by side.
        labels: how far the columns of a variant lie apart in the basis; 0 where they have the same.
        row: place of the entry in a group of messages.
        groups: of channels.
        basis: (columns, 8 groups).
        spatial: whether there is a spatial kernel.
        names: labels.
        settings: of the call.
        tables: see there.
    """
    width, stride = basis.shape[1], 64 * tables.near.shape[1]
    for group in range(groups):
        transpose(tables.near, group * stride + row, 8, tables.channels, 0, 8)
        if spatial:
            transpose(tables.beside, group * stride + row, 8, tables.channels, 64, 8)
        for variant in range(variants):
            near = spread_at(settings.weights, 2 * variant)
            a, b = mul(near, load(tables.channels, 0)), mul(near, load(tables.channels, 8))
            c, d = mul(near, load(tables.channels, 16)), mul(near, load(tables.channels, 24))
            e, f = mul(near, load(tables.channels, 32)), mul(near, load(tables.channels, 40))
            g, h = mul(near, load(tables.channels, 48)), mul(near, load(tables.channels, 56))
            if spatial:
                beside = spread_at(settings.weights, 2 * variant + 1)
                a = fma(beside, load(tables.channels, 64), a)
                b = fma(beside, load(tables.channels, 72), b)
                c = fma(beside, load(tables.channels, 80), c)
                d = fma(beside, load(tables.channels, 88), d)
                e = fma(beside, load(tables.channels, 96), e)
                f = fma(beside, load(tables.channels, 104), f)
                g = fma(beside, load(tables.channels, 112), g)
                h = fma(beside, load(tables.channels, 120), h)
            for k in range(listed):
                i = (variant * labels + at(names, place + k)) * width + 8 * group
                j = 8 * (variant * listed + k)
                left = fma(spread_at(basis, i), a, load(tables.x, j))
                right = mul(spread_at(basis, i + 1), b)
                left, right = fma(spread_at(basis, i + 2), c, left), fma(spread_at(basis, i + 3), d, right)
                left, right = fma(spread_at(basis, i + 4), e, left), fma(spread_at(basis, i + 5), f, right)
                left, right = fma(spread_at(basis, i + 6), g, left), fma(spread_at(basis, i + 7), h, right)
                store(tables.x, j, add(left, right))


@inline
def gram_entry(q, place, listed, variants, labels, names, gram):
    """Adds ``q q^T`` of eight pixels: below the diagonal, and on it."""
    for j in range(variants * listed):
        mine = j // listed * labels + at(names, place + j % listed)
        value = load(q, 8 * j)
        for i in range(j + 1):
            other = i // listed * labels + at(names, place + i % listed)
            entry = mine * gram.shape[1] + other
            put(gram, entry, at(gram, entry) + total_of_products(value, load(q, 8 * i)))


@inline
def project_entry(entry, place, listed, variants, labels, groups, basis, updates, tables):
    """What an entry sends, ``V^T change``, as rows; where ``updates``, ``sent`` knows of it."""
    width, columns = basis.shape[1], variants * listed
    first = 8 * place * variants
    for group in range(groups):
        a = b = c = d = e = f = g = h = filled(tables.change, 0.0)
        for variant in range(variants):
            for k in range(listed):
                value = load(tables.change, first + 8 * (variant * listed + k))
                i = (variant * labels + at(tables.names, place + k)) * width + 8 * group
                a, b = fma(spread_at(basis, i), value, a), fma(spread_at(basis, i + 1), value, b)
                c, d = fma(spread_at(basis, i + 2), value, c), fma(spread_at(basis, i + 3), value, d)
                e, f = fma(spread_at(basis, i + 4), value, e), fma(spread_at(basis, i + 5), value, f)
                g, h = fma(spread_at(basis, i + 6), value, g), fma(spread_at(basis, i + 7), value, h)
        store(tables.channels, 0, a)
        store(tables.channels, 8, b)
        store(tables.channels, 16, c)
        store(tables.channels, 24, d)
        store(tables.channels, 32, e)
        store(tables.channels, 40, f)
        store(tables.channels, 48, g)
        store(tables.channels, 56, h)
        row = 64 * (group * tables.rows.shape[1] + entry)
        transpose(tables.channels, 0, 8, tables.rows, row, 8)
        if updates:
            for variant in range(variants):
                for k in range(listed):
                    j = first + 8 * (variant * listed + k)
                    i = (variant * labels + at(tables.names, place + k)) * width + 8 * group
                    left, right = load(tables.sent, j), mul(spread_at(basis, i + 1), b)
                    left, right = fma(spread_at(basis, i), a, left), fma(spread_at(basis, i + 3), d, right)
                    left, right = (
                        fma(spread_at(basis, i + 2), c, left), fma(spread_at(basis, i + 5), f, right),
                    )  # fmt: skip
                    left, right = (
                        fma(spread_at(basis, i + 4), e, left), fma(spread_at(basis, i + 7), h, right),
                    )  # fmt: skip
                    store(tables.sent, j, add(fma(spread_at(basis, i + 6), g, left), right))
    return columns
