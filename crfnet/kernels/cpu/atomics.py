"""What threads in compiled code share: counters from which they take tasks, and waiting for the last of them.

The work of a call is a sequence of phases; each has so many tasks. A thread takes the next task until there
is none, then waits until those that others took are done. Nobody waits for a thread as such: one that comes
late, or never, costs nothing, and one that lost its core costs the task that it holds.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: D103

import platform
import sys

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from crfnet.kernels.cpu.compile import inline, kernel
from crfnet.kernels.cpu.vectors import intrinsic, place_of

__all__ = ["added", "claim", "counters_for", "exchanged", "finish", "read", "wait"]

_LINE = 16  # int64: two cache lines of 64 bytes, since they are fetched in pairs
_SPINS = 4000  # about 50 us; then the core may go to somebody else
_NAP = 40  # us


def counters_for(phases: int) -> np.ndarray:
    """The counters of a call with at most so many phases."""
    return np.zeros(2 * _LINE * phases, np.int64)


@inline
def claim(counters, phase):
    """The next task of a phase; beyond the last one where there is none."""
    return added(counters, 2 * _LINE * phase, 1)


@inline
def finish(counters, phase):
    """The task that was claimed is done; the next one."""
    added(counters, 2 * _LINE * phase + _LINE, 1)
    return claim(counters, phase)


@kernel
def wait(counters, phase, tasks):
    """Until all tasks of a phase are done; the number of the next phase."""
    place = 2 * _LINE * phase + _LINE
    spins = 0
    while read(counters, place) < tasks:
        spins += 1
        if spins < _SPINS:
            _pause()
        else:
            _sleep(_NAP)
    return phase + 1


@intrinsic
def added(typing, array, place, x):
    """Adds, and returns what was there before."""

    def code(context, builder, sig, args):
        pointer = place_of(context, builder, sig.args[0], args[0], sig.args[1], args[1])
        value = context.cast(builder, args[2], sig.args[2], sig.args[0].dtype)
        return builder.atomic_rmw("add", pointer, value, "seq_cst")

    return array.dtype(array, place, x), code


@intrinsic
def read(typing, array, place):
    def code(context, builder, sig, args):
        pointer = place_of(context, builder, sig.args[0], args[0], sig.args[1], args[1])
        return builder.load_atomic(pointer, "acquire", 8)

    return array.dtype(array, place), code


@intrinsic
def exchanged(typing, array, place, expected, x):
    """What is there; where that is ``expected``, x takes its place."""

    def code(context, builder, sig, args):
        pointer = place_of(context, builder, sig.args[0], args[0], sig.args[1], args[1])
        pair = builder.cmpxchg(pointer, args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 0)

    return array.dtype(array, place, array.dtype, array.dtype), code


@intrinsic
def _pause(typing):
    """Tells the processor that this is a loop that waits."""

    def code(context, builder, sig, args):
        if platform.machine().lower() in {"x86_64", "amd64"}:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def _sleep(typing, microseconds):
    """Leaves the core to others."""
    windows = sys.platform == "win32"

    def code(context, builder, sig, args):
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32)])
        function = cgutils.get_or_insert_function(builder.module, kind, "SleepEx" if windows else "usleep")
        time = context.cast(builder, args[0], sig.args[0], types.int32)
        if windows:
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
            function = cgutils.get_or_insert_function(builder.module, kind, "Sleep")
            time = ir.Constant(ir.IntType(32), 0)
        builder.call(function, [time])
        return context.get_dummy_value()

    return types.void(microseconds), code
