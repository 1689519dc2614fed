"""Threads of our own that run compiled code: no OpenMP, whose regions hang in a forked child.

They sleep until there is work, and a call never waits for them (`crfnet.kernels.cpu.atomics`), so any number
of Python threads may call at once.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import torch

__all__ = ["run", "set_threads", "threads"]

_Job = tuple[Callable[..., Any], int, int, tuple[Any, ...]]


class _Pool:
    """Workers that take jobs from one queue; there are as many as the largest call wanted."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._workers = 0

    def submit(self, job: _Job) -> None:
        self._jobs.put(job)

    def grow(self, workers: int) -> None:
        if self._workers >= workers:
            return
        with self._lock:
            for number in range(self._workers, workers):
                threading.Thread(target=self._work, name=f"crfnet-{number}", daemon=True).start()
            self._workers = max(self._workers, workers)

    def _work(self) -> None:
        while True:
            function, thread, count, arguments = self._jobs.get()
            function(thread, count, *arguments)
            del function, arguments  # while it waits for the next job, the arrays of this one may go


_state: dict[str, Any] = {"pool": _Pool(), "threads": None}


def _forget() -> None:
    """In a forked child: the threads did not come along, and a lock may be held for ever."""
    _state["pool"] = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def threads() -> int:
    """Threads of the next call: as set, else 1 in a child of multiprocessing, else torch's number."""
    if _state["threads"] is not None:
        return int(_state["threads"])
    return 1 if multiprocessing.parent_process() is not None else torch.get_num_threads()


def set_threads(number: int | None) -> None:
    """Sets the number of threads of this process and the children that it forks; None for the default.

    Raises:
        ValueError: ``number`` is less than 1.
    """
    if number is not None and number < 1:
        raise ValueError(f"number of threads is {number}, must be >= 1")
    _state["threads"] = number


def run(function: Callable[..., Any], *arguments: Any, count: int | None = None) -> None:
    """Calls ``function(thread, count, *arguments)`` here and in the workers; returns when all is done.

    Args:
        function: an entry that shares its work by `crfnet.kernels.cpu.atomics`, and returns once all tasks
            are done, whether or not other threads ever came.
        arguments: of all threads.
        count: of threads; None for `threads`.
    """
    count = threads() if count is None else count
    if count > 1:
        pool: _Pool = _state["pool"]
        pool.grow(count - 1)
        for thread in range(1, count):
            pool.submit((function, thread, count, arguments))
    function(0, count, *arguments)
