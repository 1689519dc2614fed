"""Eight channels of some pixels: from values (b, l, n) into rows of eight, and back."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"

from crfnet.kernels.cpu.atomics import claim, finish, wait
from crfnet.kernels.cpu.compile import kernel
from crfnet.kernels.cpu.vectors import at, filled, load, put, store, transpose

__all__ = [
    "gather_batch",
    "gather_channels",
    "gather_image",
    "scatter_batch",
    "scatter_channels",
    "scatter_image",
]

_PIXELS = 1024  # of a task


@kernel
def gather_channels(values, place, pixels, few, count, rows, where):
    """So many pixels from ``place`` on, of ``few`` <= 8 channels of ``pixels`` each; others are 0."""
    zero, done = filled(rows, 0.0), 0
    while done + 8 <= count:
        target = where + 8 * done
        if few == 8:
            transpose(values, place + done, pixels, rows, target, 8)
        else:
            for k in range(8):
                store(rows, target + 8 * k, load(values, place + k * pixels + done) if k < few else zero)
            transpose(rows, target, 8, rows, target, 8)
        done += 8
    for i in range(done, count):
        store(rows, where + 8 * i, zero)
    for k in range(few):
        for i in range(done, count):
            put(rows, where + 8 * i + k, at(values, place + k * pixels + i))


@kernel
def scatter_channels(rows, where, count, values, place, pixels, few):
    """The way back; the rows are overwritten."""
    done = 0
    while done + 8 <= count:
        source = where + 8 * done
        if few == 8:
            transpose(rows, source, 8, values, place + done, pixels)
        else:
            transpose(rows, source, 8, rows, source, 8)
            for k in range(few):
                store(values, place + k * pixels + done, load(rows, source + 8 * k))
        done += 8
    for k in range(few):
        for i in range(done, count):
            put(values, place + k * pixels + i, at(rows, where + 8 * i + k))


@kernel
def gather_image(counters, phase, values, place, pixels, few, table):
    """One phase: `gather_channels` of all pixels."""
    tasks = (pixels + _PIXELS - 1) // _PIXELS
    task = claim(counters, phase)
    while task < tasks:
        first = task * _PIXELS
        some = min(_PIXELS, pixels - first)
        gather_channels(values, place + first, pixels, few, some, table, 8 * first)
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@kernel
def scatter_image(counters, phase, table, values, place, pixels, few):
    """One phase: `scatter_channels` of all pixels."""
    tasks = (pixels + _PIXELS - 1) // _PIXELS
    task = claim(counters, phase)
    while task < tasks:
        first = task * _PIXELS
        some = min(_PIXELS, pixels - first)
        scatter_channels(table, 8 * first, some, values, place + first, pixels, few)
        task = finish(counters, phase)
    return wait(counters, phase, tasks)


@kernel
def gather_batch(counters, phase, values, table):
    """One phase: all channels of all images (b, l, n) into a table (groups, b n, 8)."""
    return _move_batch(counters, phase, values, table, True)


@kernel
def scatter_batch(counters, phase, table, values):
    """The way back; the table is overwritten."""
    return _move_batch(counters, phase, values, table, False)


@kernel
def _move_batch(counters, phase, values, table, gathers):
    batch, labels, pixels = values.shape
    chunks = (pixels + _PIXELS - 1) // _PIXELS
    tasks = len(table) * batch * chunks
    task = claim(counters, phase)
    while task < tasks:
        group, image, first = task // chunks // batch, task // chunks % batch, task % chunks * _PIXELS
        some, few = min(_PIXELS, pixels - first), min(8, labels - 8 * group)
        place, where = (image * labels + 8 * group) * pixels + first, (group * batch + image) * pixels + first
        if gathers:
            gather_channels(values, place, pixels, few, some, table, 8 * where)
        else:
            scatter_channels(table, 8 * where, some, values, place, pixels, few)
        task = finish(counters, phase)
    return wait(counters, phase, tasks)
