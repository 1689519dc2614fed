"""A pass over the pixels in blocks of eight: the local update, and what becomes of the marginals."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

from crfnet.kernels.cpu.arithmetic import add
from crfnet.kernels.cpu.atomics import claim, finish, wait
from crfnet.kernels.cpu.compile import inline, kernel
from crfnet.kernels.cpu.messages import first_sent
from crfnet.kernels.cpu.possible_labels import unary_of
from crfnet.kernels.cpu.projection import gram_block, leftover, project, send_change, send_channels
from crfnet.kernels.cpu.update import add_messages, clear_rows, log_marginals, softmax_block, start_logits
from crfnet.kernels.cpu.vectors import at, filled, load, put, store

__all__ = ["ANSWER", "CHANGE", "SAMPLE", "SEND", "visit_blocks"]

SAMPLE, SEND, CHANGE, ANSWER = 0, 1, 2, 3


@kernel
def visit_blocks(
    purpose, counters, phase, tasks, visited, step, last, before, now, groups, labels, tables, scratch
):  # fmt: skip
    """One phase over blocks of pixels; the number of the next phase.

    Args:
        purpose: Gram matrices of a sample of the blocks, or what all blocks send, or what those send that
            are active and whose marginals have changed, or the answer.
        counters: of the call.
        phase: number of this phase.
        tasks: number of tasks.
        visited: number of blocks: that of all, or of the sample.
        step: number of steps before this one.
        last: which basis the messages that came are in.
        before: groups of channels of these.
        now: the basis to send in.
        groups: of channels to send.
        labels: of the call, like the next two.
        tables: see there.
        scratch: see there.
    """
    blocks, most = tables.rows.shape[1] // 8, (labels.weights.shape[1] + 7) // 8
    task = claim(counters, phase)
    while task < tasks:
        if purpose == SAMPLE:
            _clear(tables.grams, task)
        for i in range(visited * task // tasks, visited * (task + 1) // tasks):
            block = i * blocks // visited
            if purpose == ANSWER:
                _answer(block, step, last, before, most, labels, tables, scratch)
                continue
            if purpose == CHANGE and at(tables.active, block) == 0:
                continue
            listed = _possible_logits(block, step, last, before, most, labels, tables, scratch)
            count = _marginals(block, listed, labels, tables, scratch)
            if purpose == SAMPLE:
                gram_block(scratch.q, scratch.active, count, tables.grams[task])
                clear_rows(scratch.q, scratch.active, count)
            else:
                _send(purpose == CHANGE, block, now, count, groups, most, labels, tables, scratch)
        if purpose in (SEND, CHANGE):
            _sum_rest(
                visited * task // tasks, visited * (task + 1) // tasks, tables.rest, tables.active,
                tables.left[step, task],
            )  # fmt: skip
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@inline
def _sum_rest(first, end, rest, active, left):
    """What some blocks leave unsent, and how many of them send."""
    total = most = moved = 0.0
    for block in range(first, end):
        total += rest[block, 0]
        most = max(most, rest[block, 1])
        moved += active[block]
    left[0], left[1], left[2] = total, most, moved


@inline
def _clear(grams, task):
    for place in range(task * grams[0].size, (task + 1) * grams[0].size):
        put(grams, place, 0.0)


@inline
def _possible_logits(block, step, last, before, most, labels, tables, scratch):
    """The logits of the labels that are possible in eight pixels; how many these are."""
    listed, place = tables.counts[block], tables.starts[block]
    some = mine = 0
    for variant in range(labels.variants):
        for k in range(listed):
            column = variant * len(labels.unary) + at(tables.names, place + k)
            store(scratch.x, 8 * column, load(tables.logits, 8 * (place + k)))
            put(scratch.possible, mine, column)
            mine += 1
            if before == most or tables.supported[last, column]:
                put(scratch.some, some, column)
                some += 1
    if step > 0:
        _add_messages(block, last, before, most, scratch.some, some, labels, tables, scratch)
    return listed


@inline
def _add_messages(block, last, before, most, columns, count, labels, tables, scratch):
    for table in range(len(labels.weights)):
        add_messages(
            scratch.x, columns, count, tables.rows, table * most, before, block, before < most,
            tables.basis[last], labels.weights[table], scratch.messages,
        )  # fmt: skip


@inline
def _marginals(block, listed, labels, tables, scratch):
    """Those of eight pixels; how many columns are not 0."""
    counts = -1 if not labels.masked and 8 * block + 8 <= labels.unary.shape[1] else 8 * block
    return softmax_block(
        scratch.x, scratch.q, scratch.possible, listed, scratch.active, labels.variants, labels.cut,
        labels.inside, counts,
    )  # fmt: skip


@inline
def _send(changes, block, now, count, groups, most, labels, tables, scratch):
    """What a block's pixels send: all columns, or their projections; or what has changed of them."""
    if groups == most:
        unsent, moved = _send_channels(changes, scratch.q, block, groups, most, labels, tables, scratch)
        clear_rows(scratch.q, scratch.active, count)
    else:
        basis = tables.basis[now]
        project(scratch.q, scratch.active, count, basis, groups, scratch.channels)
        unsent, moved = _send_channels(
            changes, scratch.channels, block, groups, most, labels, tables, scratch
        )  # fmt: skip
        rest = leftover(
            scratch.q, scratch.active, count, basis, tables.support[now], tables.supported[now],
            tables.minus, groups, scratch.channels,
        )  # fmt: skip
        unsent = add(unsent, rest)
    tables.active[block] = moved
    store(scratch.sums, 0, unsent)
    total = largest = 0.0
    for k in range(8):
        total += at(scratch.sums, k)
        largest = max(largest, at(scratch.sums, k))
    tables.rest[block, 0], tables.rest[block, 1] = total, largest


@inline
def _send_channels(changes, channels, block, groups, most, labels, tables, scratch):
    """The squares of what is left unsent, and whether anything is sent."""
    sent = first_sent(groups, most, labels)
    nothing = filled(channels, 0.0)
    if not changes:
        send_channels(channels, groups, tables.rows, sent, block)
        return nothing, True
    square, moved = send_change(
        channels, groups, tables.rows, sent, sent + most, block, labels.still, scratch.changes
    )
    return nothing if moved else square, moved


@inline
def _answer(block, step, last, before, most, labels, tables, scratch):
    """Log marginals of all labels."""
    unary, place, stride = unary_of(block, labels)
    start_logits(unary, place, stride, labels.variants, len(labels.unary), scratch.x)
    if step > 0:
        some = 0
        for column in range(len(scratch.x)):
            if before == most or tables.supported[last, column]:
                put(scratch.some, some, column)
                some += 1
        _add_messages(block, last, before, most, scratch.some, some, labels, tables, scratch)
    out, place, stride = tables.out, 8 * block, labels.unary.shape[1]
    if place + 8 > stride:
        out, place, stride = tables.last, 0, 8
    log_marginals(scratch.x, labels.variants, len(labels.unary), labels.cut, scratch.sums, out, place, stride)
