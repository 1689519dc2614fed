"""What a piece of work costs: wall-clock seconds and peak memory."""

import resource
import sys
import time
from pathlib import Path
from types import TracebackType

import torch

__all__ = ["Cost"]

_PROC = Path("/proc/self")


class Cost:
    """``with Cost() as cost: work()`` measures ``cost.seconds`` and ``cost.peak_mb``.

    On a GPU the memory is what torch's allocator held there at most; on a CPU it is the largest resident
    size of the whole process while inside (Linux; where the kernel does not let the mark be reset, the
    largest since the process began).
    Unit: seconds, MiB.
    """

    seconds: float = 0.0
    peak_mb: float = 0.0

    def __enter__(self) -> "Cost":
        self._cuda = torch.cuda.is_available()
        if self._cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        else:
            _reset_resident_peak()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cuda:
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._start
        self.peak_mb = torch.cuda.max_memory_allocated() / 2**20 if self._cuda else _resident_peak_mb()


def _reset_resident_peak() -> None:
    try:
        (_PROC / "clear_refs").write_text("5")  # Linux: VmHWM starts again from the present size
    except OSError:
        return  # not Linux, or not allowed: the peak since the process began is all that can be told


def _resident_peak_mb() -> float:
    try:
        for line in (_PROC / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
    except OSError:
        pass
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
