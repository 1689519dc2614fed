"""Memory of this process: its peak, and whether it keeps what it frees.

The peak is measured on Linux and macOS, and NaN where the platform does not tell.

| platform | what is measured |
| --- | --- |
| Linux | largest resident size since `reset_peak_memory`; since the start where the kernel refuses that |
| macOS, other POSIX systems | largest resident size since the process started |
| Windows, which has no module ``resource`` | nothing: NaN |
"""

import ctypes
import math
import sys
from pathlib import Path

__all__ = ["keep_freed_memory", "keeps_freed_memory", "peak_memory_mb", "reset_peak_memory"]

_PROC = Path("/proc/self")
#: Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_state = {"kept": False}  # of the process


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, for what it allocates next; return whether it does so.

    A training step frees and allocates gigabytes. glibc gives each large block back to the system, which
    clears it page by page when it is wanted again: a fifth of a step. With another C library nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows
        return False
    _state["kept"] = bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
    return _state["kept"]


def keeps_freed_memory() -> bool:
    """Whether `keep_freed_memory` was called in this process, and does so."""
    return _state["kept"]


def reset_peak_memory() -> None:
    """Begin anew from the present size; does nothing where that is not possible."""
    try:
        (_PROC / "clear_refs").write_text("5")  # Linux: VmHWM starts again from the present size
    except OSError:
        return


def peak_memory_mb() -> float:
    """Return the largest resident size of this process, MiB, see the table above; NaN where nobody tells."""
    try:
        for line in (_PROC / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
    except OSError:
        pass
    try:
        import resource  # POSIX only
    except ImportError:
        return math.nan
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
