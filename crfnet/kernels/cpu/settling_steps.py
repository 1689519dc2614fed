"""Mean field with settling pixels: all steps on one image, as one compiled call.

Messages are linear, so a step sends what has changed since a block last sent, and adds what comes of it to
the logits. A block none of whose marginals has changed by more than a tolerance is settled: it sends no more
and hears no more, its labels are final. Those that are left are stored one behind another.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

import numpy as np

from crfnet.kernels.cpu.arithmetic import any_above
from crfnet.kernels.cpu.compile import entry, kernel, making_arrays
from crfnet.kernels.cpu.possible_labels import largest_marginal
from crfnet.kernels.cpu.reduced_basis import choose_basis
from crfnet.kernels.cpu.settling_blocks import (
    add_messages,
    changes,
    expand_sent,
    gram_entry,
    project_entry,
    softmax,
    start_logits,
)
from crfnet.kernels.cpu.settling_filter import convolve_active, filter_active, set_factors
from crfnet.kernels.cpu.settling_labels import best_labels, leads_of_block, list_block, shorten
from crfnet.kernels.cpu.vectors import at, filled, load, put, store

__all__ = ["run_settling"]

_SLACK = 2.0  # nats beyond the cut at which a label no longer counts in a block
_TOLD = 0.3  # of the tolerance: what others may have heard of it then
_SAMPLE = 1024  # blocks from which the directions of a step are taken, about


@entry
def run_settling(settings, tables):
    """Fills ``tables.labels`` and ``tables.trace``."""
    spatial = len(settings.across) > 0
    line = np.empty((settings.width + 2 * len(settings.across) + 8, 8), settings.unary.dtype)
    flags = np.empty(settings.width // 8 + 1, np.int64)
    for place in range(0, tables.between.size, 8):
        store(tables.between, place, filled(tables.between, 0.0))
    set_factors(settings, tables)
    count, variants = len(tables.active), len(settings.weights)
    sampled = _first_marginals(settings, tables)
    groups = _choose(tables.gram, count, sampled, 1, False, settings, tables.basis)
    _send(count, 1, 0, groups, tables.basis, False, tables)
    for step in range(settings.iterations):
        tables.trace[step, 0], tables.trace[step, 1] = count, groups
        for group in range(groups):
            filter_active(group, count, settings, tables)
            if spatial:
                convolve_active(group, count, settings, tables, line, flags)
        last, basis = step + 1 == settings.iterations, tables.bases
        if step == 0:
            basis = tables.basis
        count, sampled = _visit(step == 0, last, groups, count, spatial, basis, settings, tables)
        if count == 0:
            break
        groups = _choose(tables.grams, count, sampled, variants, True, settings, tables.bases)
        _send(count, variants, len(settings.unary), groups, tables.bases, True, tables)


@kernel
def _send(count, variants, labels, groups, basis, updates, tables):
    for e in range(count):
        project_entry(e, tables.starts[e], tables.counts[e], variants, labels, groups, basis, updates, tables)


@kernel
def _first_marginals(settings, tables):
    """Lists labels and computes the softmax of the unary, the same for all variants; the blocks sampled."""
    _clear(tables.gram)
    _find_leads(settings, tables)
    place = sampled = 0
    every = max(1, len(tables.active) // _SAMPLE) | 1
    for block in range(len(tables.active)):
        listed = list_block(block, place, settings, tables.leads, tables.names)
        tables.starts[block], tables.counts[block] = place, listed
        start_logits(block, place, listed, 1, settings, tables.names, tables.x)
        softmax(tables.x, tables.q, listed, 1, settings.cut)
        for j in range(listed):
            store(tables.change, 8 * (place + j), load(tables.q, 8 * j))
        if block % every == 0:
            gram_entry(tables.q, place, listed, 1, 0, tables.names, tables.gram)
            sampled += 1
        place += listed
    return sampled


@kernel
def _find_leads(settings, tables):
    """By how much another label has to lead each of them; messages are at least 0."""
    labels = len(settings.unary)
    for label in range(labels):
        store(tables.x, 8 * label, filled(tables.x, -np.inf))
    for block in range(len(tables.active)):
        leads_of_block(block, settings, tables.x)
    for label in range(labels):
        nearest = at(tables.x, 8 * label)
        for lane in range(1, 8):
            nearest = max(nearest, at(tables.x, 8 * label + lane))
        largest = largest_marginal(nearest, settings.gain, settings.iterations)
        tables.leads[label] = settings.gain * largest + settings.cut
        if largest < settings.tolerance and settings.gain < np.inf:
            tables.leads[label] = 0.0


@kernel
def _visit(first, last, groups, count, spatial, basis, settings, tables):
    """Adds messages and finds which blocks are settled; how many are left, and how many were sampled."""
    _clear(tables.grams)
    variants, labels = len(settings.weights), len(settings.unary)
    tolerance = filled(tables.x, settings.tolerance)
    kept = sampled = behind = 0
    every = max(1, count // _SAMPLE) | 1
    for e in range(count):
        block, place, listed = tables.active[e], tables.starts[e], tables.counts[e]
        columns = variants * listed
        _load_logits(first, block, place, listed, columns, settings, tables)
        apart = 0 if first else labels
        add_messages(
            place, listed, variants, apart, 64 * e, groups, basis, spatial, tables.names, settings, tables
        )
        if not last:
            softmax(tables.x, tables.q, listed, variants, settings.cut)
            _load_sent(first, e, listed, columns, groups, basis, tables)
        if last or not any_above(changes(tables.q, tables.s, columns), tolerance):
            best_labels(block, place, listed, variants, tables.names, tables.x, tables.labels)
            continue
        if e % every == 0:
            gram_entry(tables.q, place, listed, variants, labels, tables.names, tables.grams)
            sampled += 1
        stay = shorten(
            place, listed, variants, settings.cut + _SLACK, _TOLD * settings.tolerance, tables.names, tables
        )
        _keep(kept, behind, block, place, stay, variants * stay, tables)
        kept, behind = kept + 1, behind + stay
    return kept, sampled


@kernel
def _load_logits(first, block, place, listed, columns, settings, tables):
    """Those of an entry before the messages of this step: the unary, or what is stored."""
    variants = columns // listed
    if first:
        start_logits(block, place, listed, variants, settings, tables.names, tables.x)
        return
    source = 8 * variants * place
    for j in range(0, 8 * columns, 8):
        store(tables.x, j, load(tables.logits, source + j))


@kernel
def _load_sent(first, e, listed, columns, groups, basis, tables):
    """What an entry has sent so far: in the first step its rows say it."""
    place, variants = tables.starts[e], columns // listed
    if first:
        expand_sent(place, listed, variants, 64 * e, groups, basis, tables.names, tables)
        return
    source = 8 * variants * place
    for j in range(0, 8 * columns, 8):
        store(tables.s, j, load(tables.sent, source + j))


@kernel
def _keep(kept, behind, block, place, listed, columns, tables):
    """Stores an entry behind those that are kept; its own place is there or further back."""
    target = 8 * behind * (columns // listed)
    for j in range(0, 8 * columns, 8):
        store(tables.logits, target + j, load(tables.x, j))
        store(tables.sent, target + j, load(tables.s, j))
        store(tables.change, target + j, load(tables.q, j))
    for k in range(listed):
        put(tables.names, behind + k, at(tables.names, place + k))
    tables.active[kept], tables.starts[kept], tables.counts[kept] = block, behind, listed


@kernel
def _clear(gram):
    for place in range(gram.size):
        put(gram, place, 0.0)


@making_arrays
def _choose(gram, count, sampled, variants, later, settings, basis):
    """The directions of a step; how many groups of eight. The columns themselves where all are needed."""
    columns = len(gram)
    for c in range(columns):
        for b in range(c):
            gram[b, c] = gram[c, b]
    most = (columns + 7) // 8
    share = sampled / count if count > 0 else 1.0
    limit = settings.limit * settings.unary.shape[1] * variants * share
    if later:
        limit = max(limit, settings.delay**2 * np.trace(gram))
    groups = most
    if sampled > 0:
        groups = choose_basis(gram, limit, most, basis, np.zeros(columns, np.bool_))
    if groups == most:
        basis[:] = 0.0
        for c in range(columns):
            basis[c, c] = 1.0
    return groups
