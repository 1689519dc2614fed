"""The whole run of mean-field steps on one image as one compiled call of each thread.

A step is message passing, compatibility transform and local update (Zheng et al. 2015, algorithm 1), in the
phases of `crfnet.kernels.cpu.atomics`: marginals of a sample of pixels for the basis, marginals of all pixels
for what they send, then the kernels, group by group of channels. Marginals are not stored.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: PLR0917

import numpy as np

from crfnet.kernels.cpu.atomics import claim, finish, wait
from crfnet.kernels.cpu.compile import entry, kernel, making_arrays
from crfnet.kernels.cpu.messages import first_sent, normalize, pass_messages
from crfnet.kernels.cpu.possible_labels import list_labels
from crfnet.kernels.cpu.reduced_basis import choose_basis
from crfnet.kernels.cpu.tables import BLOCKS, PIECES, Scratch
from crfnet.kernels.cpu.visits import ANSWER, CHANGE, SAMPLE, SEND, visit_blocks

__all__ = ["phases_of_steps", "run_steps", "steps_of_few"]

_ALL_AGAIN = 8  # steps
_KEPT = 0.1  # share of the limit that a basis may use up in the steps after its own
_MARGIN = 0.9  # share of the limit that a basis may use up in the sample: other pixels differ a little


def phases_of_steps(iterations: int, groups: int, phases: int) -> int:
    """How many phases steps take at most, and the answer, of kernels with so many phases for each group."""
    return 3 + iterations * (7 + groups * phases)


def steps_of_few(iterations: int) -> bool:
    """Whether there are steps in which only pixels send whose marginals have changed."""
    return iterations > 3


@entry
def run_steps(thread, count, counters, kernels, labels, tables, iterations):
    """Fills ``tables.out``, ``chosen`` and ``left``; see the tuples. Stopped, it fills none of them whole.

    Threads may come late to a phase: they decide by ``chosen`` and ``again``, which are written once, and by
    ``left`` of steps of few, likewise.
    """
    columns, blocks = labels.weights.shape[1], tables.rows.shape[1] // 8
    tasks, most = (blocks + BLOCKS - 1) // BLOCKS, (columns + 7) // 8
    scratch = _scratch(labels.unary, columns, most)
    longest = kernels.radii[:, 2].max() if len(kernels.radii) > 0 else 0
    padded = np.empty((kernels.shape[2] + 2 * longest, 8), labels.unary.dtype)
    phase = normalize(counters, padded, kernels, labels, tables)
    phase = list_labels(counters, phase, labels, tables, scratch, iterations)
    next_look = pause = before = last = 0
    for step in range(iterations):
        if tables.stop[0]:
            return  # the others do what is left of a phase, until they come here
        few = labels.still >= 0 and _few(step, iterations)
        groups, now, purpose = (before, last, CHANGE) if few else (most, 1 - last, SEND)
        if not few and labels.limit >= 0 and most > 1 and step >= next_look:
            phase = visit_blocks(
                SAMPLE, counters, phase, PIECES, labels.sample, step, last, before, now, most, labels, tables,
                scratch,
            )  # fmt: skip
            phase = _choose(counters, phase, step, 0, now, labels.sample, most, labels, tables)
            groups = tables.chosen[step, 0]
            pause = _pause(step, pause, groups == most)
            next_look = step + 1 + pause
        phase = visit_blocks(
            purpose, counters, phase, tasks, blocks, step, last, before, now, groups, labels, tables, scratch
        )
        if groups < most:
            phase = _judge(counters, phase, step, few, groups, labels, tables)
        if tables.again[step]:
            few, now = False, 1 - last
            phase = visit_blocks(
                SAMPLE, counters, phase, PIECES, blocks, step, last, before, now, most, labels, tables,
                scratch,
            )  # fmt: skip
            phase = _choose(counters, phase, step, 1, now, blocks, most, labels, tables)
            groups = tables.chosen[step, 1]
            phase = visit_blocks(
                SEND, counters, phase, tasks, blocks, step, last, before, now, groups, labels, tables, scratch
            )
        sent = first_sent(groups, most, labels) + (most if few else 0)
        if not few or tables.left[step, :, 2].sum() > 0:
            for group in range(groups):
                phase = pass_messages(counters, phase, group, sent, most, few, padded, kernels, tables)
        before, last = groups, now
    visit_blocks(
        ANSWER, counters, phase, tasks, blocks, iterations, last, before, last, most, labels, tables, scratch
    )


@kernel
def _few(step, iterations):
    """Whether only blocks send whose marginals have changed.

    In the first two steps most have; in the last step all send and hear, and in every eighth until then.
    """
    return step >= 2 and step + 1 < iterations and step % _ALL_AGAIN != 1


@making_arrays
def _scratch(like, columns, groups):
    x, q = np.zeros((columns, 8), like.dtype), np.zeros((8 * groups, 8), like.dtype)
    channels, messages = np.zeros((8 * groups, 8), like.dtype), np.zeros((8, 8), like.dtype)
    changes = np.zeros((8 * groups, 8), like.dtype)
    possible, some, active = (
        np.zeros(columns, np.int64), np.zeros(columns, np.int64), np.zeros(columns, np.int64),
    )  # fmt: skip
    sums = np.zeros((2, 8), like.dtype)
    return Scratch(x, q, possible, some, active, messages, channels, changes, sums)


@kernel
def _pause(step, pause, full):
    """Steps in which all columns are sent unseen.

    The first step says nothing: marginals are surer after it. Where the rank stays high after that, looks
    become rarer.
    """
    if not full or step == 0:
        return 0
    return 2 * pause + 1


@making_arrays
def _choose(counters, phase, step, tried, now, visited, most, labels, tables):
    """One phase: the basis of a step, from the Gram matrices of all pieces of so many blocks."""
    if claim(counters, phase) == 0:
        gram = tables.grams[0]
        for c in range(len(gram)):
            for b in range(c + 1):
                for piece in range(1, PIECES):
                    gram[c, b] += tables.grams[piece, c, b]
                gram[b, c] = gram[c, b]
        limit = _MARGIN * labels.limit * 8 * visited * labels.variants
        supported = tables.supported[now]
        tables.chosen[step, tried] = choose_basis(gram, limit, most, tables.basis[now], supported)
        count = 0
        for c in range(len(supported)):
            if supported[c]:
                count += 1
                tables.support[now, count] = c
        tables.support[now, 0] = count
        finish(counters, phase)
    return wait(counters, phase, 1)


@making_arrays
def _judge(counters, phase, step, few, groups, labels, tables):
    """One phase: whether a basis leaves too much of all pixels, although not of the sample.

    One that is kept from a step before may leave less: a new one would mostly leave far less.
    """
    if claim(counters, phase) == 0:
        tables.chosen[step, 0] = groups
        total = tables.left[step, :, 0].sum()
        limit = labels.limit * labels.unary.shape[1] * labels.variants
        tables.again[step] = total > (_KEPT * limit if few else limit)
        finish(counters, phase)
    return wait(counters, phase, 1)
