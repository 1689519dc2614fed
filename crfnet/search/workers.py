"""Worker processes of one machine, which share the tasks of a search."""

import logging
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from crfnet.errors import InputError
from crfnet.files import one_line
from crfnet.search.config import SearchConfig
from crfnet.search.database import open_study
from crfnet.search.images import SearchImages
from crfnet.search.run_tasks import run_tasks
from crfnet.search.task_queue import StudyLocation

if TYPE_CHECKING:
    from multiprocessing.context import (
        ForkServerContext,
        ForkServerProcess,
        SpawnContext,
        SpawnProcess,
    )

    _Process = ForkServerProcess | SpawnProcess

__all__ = ["process_context", "worker_processes"]

_SHUTDOWN_SECONDS = 5.0

logger = logging.getLogger(__name__)


class _OrphanedError(Exception):
    """The process that started this one has ended."""


@contextmanager
def worker_processes(
    location: StudyLocation, images: SearchImages, config: SearchConfig, device: torch.device
) -> Iterator[None]:
    """Run ``config.workers - 1`` other processes on the search; all, this one too, on one thread.

    A script that searches with several workers needs the usual ``if __name__ == "__main__"``.
    """
    num_workers = config.workers or _num_cores()
    if num_workers == 1:
        yield
        return
    threads = torch.get_num_threads()
    torch.cuda.empty_cache()  # what training reserved, others need now
    context = process_context()
    processes = [
        context.Process(target=_run_worker, args=(location, images, config, device, rank), daemon=True)
        for rank in range(1, num_workers)
    ]
    processes = _started(processes)
    torch.set_num_threads(1)
    timeout = 0.0
    try:
        yield
        timeout = _SHUTDOWN_SECONDS
    finally:
        torch.set_num_threads(threads)
        failed = [process.exitcode for process in processes if process.exitcode]
        for process in processes:
            process.join(timeout)  # they end by themselves when no task is left
            process.terminate()
            process.join()
        if failed:
            logger.warning(
                "search: %d of %d workers ended early; the others did their tasks", len(failed), num_workers
            )


def _started(processes: "list[_Process]") -> "list[_Process]":
    """Start them, as many as the system allows; the others' tasks are done by those that run."""
    for number, process in enumerate(processes):
        try:
            process.start()
        except (OSError, EOFError, RuntimeError) as error:  # the last two of the server that forks
            logger.warning(
                "search: %d workers cannot be started (%s; ulimit -u?), the others do their tasks",
                len(processes) - number,
                one_line(error),
            )
            return processes[:number]
    return processes


def process_context() -> "SpawnContext | ForkServerContext":
    """How processes are started: without this one's state, on POSIX forked from one with all imports done."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_worker(
    location: StudyLocation, images: SearchImages, config: SearchConfig, device: torch.device, rank: int
) -> None:
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def check_alive() -> None:
        if parent is not None and not parent.is_alive():
            raise _OrphanedError

    try:
        with open_study(location, None) as queue, tqdm(disable=True) as progress:
            run_tasks(queue, images, config, device, progress=progress, rank=rank, check_alive=check_alive)
    except (_OrphanedError, KeyboardInterrupt):
        return
    except (InputError, OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "start new thread" not in str(error):
            raise
        raise SystemExit(f"crfnet: {error}") from None
