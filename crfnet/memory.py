"""Peak memory of this process: measured on Linux and macOS, NaN where the platform does not tell.

| platform | what is measured |
| --- | --- |
| Linux | largest resident size since `reset_peak_memory`; since the start where the kernel refuses that |
| macOS, other POSIX systems | largest resident size since the process started |
| Windows, which has no module ``resource`` | nothing: NaN |
"""

import math
import sys
from pathlib import Path

__all__ = ["peak_memory_mb", "reset_peak_memory"]

_PROC = Path("/proc/self")


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
