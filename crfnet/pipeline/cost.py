"""The cost of a piece of work: wall-clock seconds and peak memory."""

import time
from types import TracebackType

import torch

from crfnet.memory import peak_memory_mb, reset_peak_memory

__all__ = ["Cost"]


class Cost:
    """``with Cost() as cost: work()`` measures ``cost.seconds`` and ``cost.peak_mb``.

    On a GPU the memory is what torch's allocator held there at most; on a CPU it is the largest resident
    size of the whole process, as far as the platform tells; see `crfnet.memory`.
    Unit: seconds, MiB.
    """

    seconds: float = 0.0
    peak_mb: float = 0.0

    def __enter__(self) -> "Cost":
        self._cuda = torch.cuda.is_initialized()  # not where a CPU was asked for
        if self._cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        else:
            reset_peak_memory()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cuda:
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._start
        self.peak_mb = torch.cuda.max_memory_allocated() / 2**20 if self._cuda else peak_memory_mb()
