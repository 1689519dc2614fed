"""Several processes that do one job, as ``torchrun`` starts them; alone, everything here does nothing.

    torchrun --nproc-per-node=2 -m crfnet train CONFIG

Rank 0 is the one that writes and speaks. Whatever only it does, `first` hands on to the others, its failures
too: no rank waits for one that is gone.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist

__all__ = ["device", "first", "gathered", "is_first", "ranks", "rank", "share", "together"]

T = TypeVar("T")


@contextmanager
def together() -> Iterator[None]:
    """Within, the processes that ``torchrun`` started know one another; does nothing in one process.

    Over NCCL between GPUs, over gloo between CPUs and for everything that is no tensor on a GPU.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield
        return
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(device("cuda"))
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0 on."""
    return dist.get_rank() if _several() else 0


def ranks() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _several() else 1


def is_first() -> bool:
    """Whether this process is the one that writes files and speaks."""
    return rank() == 0


def device(name: str) -> torch.device:
    """The device of this process: of several GPUs of a machine its own, where ``name`` is just ``cuda``."""
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % max(1, torch.cuda.device_count()))
    return torch.device(name)


def share(items: Sequence[T]) -> Sequence[T]:
    """This rank's part of ``items``: every item is in exactly one rank's, none twice."""
    return items[rank() :: ranks()]


def gathered(value: T) -> list[T]:
    """The values of all ranks, in their order, on every rank. All have to call it; picklable."""
    if not _several():
        return [value]
    values: list[T | None] = [None] * ranks()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def first(work: Callable[[], T]) -> T:
    """What ``work`` returns on rank 0, on every rank; its exception is raised on every rank, too.

    Also a point that no rank passes before rank 0 has done the work.
    """
    if not _several():
        return work()
    outcome: list[tuple[T | None, Exception | None]] = [(None, None)]
    if is_first():
        try:
            outcome = [(work(), None)]
        except Exception as error:  # whatever it was, the others must not wait for ever
            outcome = [(None, error)]
    dist.broadcast_object_list(outcome, src=0)
    value, failure = outcome[0]
    if failure is not None:
        raise failure
    return value  # type: ignore[return-value]


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()
