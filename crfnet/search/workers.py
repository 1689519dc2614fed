"""Processes of one machine that share a search: each does what any process at the same database would."""

import logging
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from crfnet.errors import InputError
from crfnet.search.config import SearchConfig
from crfnet.search.database import open_study
from crfnet.search.images import Images
from crfnet.search.run_tasks import run_tasks
from crfnet.search.task_queue import StudyLocation

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

__all__ = ["helpers", "new_processes"]

_GRACE = 5.0  #: seconds

logger = logging.getLogger(__name__)


class _OrphanedError(Exception):
    """The process that started this one is gone."""


@contextmanager
def helpers(
    where: StudyLocation, images: Images, config: SearchConfig, device: torch.device
) -> Iterator[None]:
    """Within, ``config.workers - 1`` other processes do the same search; all, this one too, on one thread.

    A script that searches with several needs the usual ``if __name__ == "__main__"``.
    """
    number = config.workers or _cores()
    if number == 1:
        yield
        return
    threads = torch.get_num_threads()
    context = new_processes()
    processes = [
        context.Process(target=_help, args=(where, images, config, device, rank), daemon=True)
        for rank in range(1, number)
    ]
    for process in processes:
        process.start()
    torch.set_num_threads(1)
    grace = 0.0
    try:
        yield
        grace = _GRACE
    finally:
        torch.set_num_threads(threads)
        failed = [process.exitcode for process in processes if process.exitcode]
        for process in processes:
            process.join(grace)  # they notice by themselves that nothing is left
            process.terminate()
            process.join()
        if failed:
            logger.warning(
                "search: %d of %d workers ended early; the others did their work", len(failed), number
            )


def new_processes() -> "SpawnContext | ForkServerContext":
    """How processes are started: clean ones, on POSIX as forks of one that has imported all this."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _help(
    where: StudyLocation, images: Images, config: SearchConfig, device: torch.device, rank: int
) -> None:
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def alive() -> None:
        if parent is not None and not parent.is_alive():
            raise _OrphanedError

    try:
        with open_study(where, None) as study, tqdm(disable=True) as bar:
            run_tasks(study, images, config, device, bar=bar, rank=rank, alive=alive)
    except (_OrphanedError, KeyboardInterrupt):
        return
    except (InputError, OSError) as error:
        raise SystemExit(f"crfnet: {error}") from None
