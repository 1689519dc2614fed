"""Several processes that do one job, as ``torchrun`` starts them; alone, everything here does nothing.

    torchrun --nproc-per-node=2 -m crfnet train CONFIG

Rank 0 is the one that writes and speaks. Whatever only it does, `on_rank_zero` hands on to the others, its
failures too, and so does `on_all_ranks` with what all of them do: no rank waits for one that is gone. What
one rank alone runs into elsewhere ends it; that breaks the others' connections, and `first_to_fail` says
which was first.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from crfnet.errors import InputError

__all__ = [
    "broadcast",
    "no_sync",
    "device",
    "on_all_ranks",
    "on_rank_zero",
    "all_gather",
    "is_rank_zero",
    "first_to_fail",
    "world_size",
    "rank",
    "data_parallel",
    "shard",
    "all_reduce_sum",
    "process_group",
]

T = TypeVar("T")

#: Ranks may wait for hours while the first one searches; one that is gone is noticed without a clock.
_PATIENCE = timedelta(days=30)
_PARTING = 2.0  #: seconds that rank 0 waits for ranks that leave, too
_alone = False  # within `on_rank_zero`, where rank 0 works while the others wait
_notes: PrefixStore | None = None  # what ranks say to one another without waiting


@contextmanager
def process_group() -> Iterator[None]:
    """Within, the processes that ``torchrun`` started know one another; does nothing in one process.

    Over NCCL between GPUs, over gloo between CPUs and for everything that is no tensor on a GPU.
    """
    if "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    global _notes  # noqa: PLW0603 - of this process, as the process group is
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(device("cuda"))
    store, number, size = next(rendezvous("env://"))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpus else "gloo",
        store=PrefixStore("group", store),
        rank=number,
        world_size=size,
        timeout=_PATIENCE,
    )
    _notes = PrefixStore("notes", store)
    try:
        yield
    finally:
        _notes = None
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0 on."""
    return dist.get_rank() if _several() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _several() else 1


def is_rank_zero() -> bool:
    """Whether this process is the one that writes files and speaks."""
    return rank() == 0


def device(name: str) -> torch.device:
    """The device of this process: of several GPUs of a machine its own, where ``name`` is just ``cuda``.

    Raises:
        InputError: ``cuda`` where torch finds no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device: cuda, but torch finds no GPU that it can use here; allowed are auto and cpu"
        )
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % max(1, torch.cuda.device_count()))
    return torch.device(name)


def shard(items: Sequence[T]) -> Sequence[T]:
    """This rank's part of ``items``: every item is in exactly one rank's, none twice."""
    return items[rank() :: world_size()]


def all_gather(value: T) -> list[T]:
    """The values of all ranks, in their order, on every rank. All have to call it; picklable."""
    if not _several():
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def on_rank_zero(work: Callable[[], T]) -> T:
    """What ``work`` returns on rank 0, on every rank; its exception is raised on every rank, too.

    Also a point that no rank passes before rank 0 has done the work. Within, everything is as in one process,
    the functions of this file too.
    """
    global _alone  # noqa: PLW0603 - of this process, as the process group is
    if not _several():
        return work()
    outcome: list[tuple[T | None, Exception | None]] = [(None, None)]
    if is_rank_zero():
        _alone = True
        try:
            outcome = [(work(), None)]
        except Exception as error:  # whatever it was, the others must not wait for ever
            outcome = [(None, error)]
        finally:
            _alone = False
    dist.broadcast_object_list(outcome, src=0)
    value, failure = outcome[0]
    if failure is not None:
        raise failure
    return value  # type: ignore[return-value]


def on_all_ranks(work: Callable[[], T]) -> list[T]:
    """What ``work`` returns on every rank, in their order, on every rank; where one fails, all fail.

    A point that no rank passes before all have done the work, which must not wait for others itself.
    """
    if not _several():
        return [work()]
    mine: tuple[T | None, Exception | None]
    try:
        mine = (work(), None)
    except Exception as error:  # as in `on_rank_zero`
        mine = (None, error)
    found = all_gather(mine)
    failures = [
        mine[1],
        *(failure for _, failure in found),
    ]  # one's own, which has a traceback, before others'
    for failure in failures:
        if failure is not None:
            raise failure
    return [value for value, _ in found]  # type: ignore[misc]


def first_to_fail(status: int) -> tuple[bool, int]:
    """Note that this rank ends with an error; to be called inside `process_group`, before it is left.

    Args:
        status: the exit status that it would have by itself, not 0.

    Returns:
        Whether this rank is the first to leave, and so the one that says why; the exit status of the first.
    """
    if _notes is None:  # one process, or several that do not know one another yet and all fail alike
        return os.environ.get("RANK", "0") == "0", status
    mine = f"{dist.get_rank()} {status}"
    try:
        noted = _notes.compare_set("left", "", mine).decode()
        _notes.add("gone", 1)
        # Rank 0 may keep the notes itself: where all fail alike, the others still have to look.
        deadline = time.monotonic() + _PARTING
        while dist.get_rank() == 0 and time.monotonic() < deadline:
            if _notes.add("gone", 0) == dist.get_world_size():
                break
            time.sleep(0.01)
    except RuntimeError:  # the rank that keeps the notes is gone without a word
        return True, status
    return noted == mine, int(noted.split()[1])


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum of the tensors of all ranks, on every rank; alone the tensor itself. All have to call it."""
    if not _several():
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Every rank's tensors become those of rank 0, in place. All have to call it."""
    if _several():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def data_parallel(module: nn.Module) -> nn.Module:
    """The module with gradients that are the mean over the ranks after each backward pass.

    Its parameters become those of rank 0 now, its buffers before every forward pass. Parameters that a step
    leaves out, in one rank or in all, are allowed.
    """
    if not _several():
        return module
    return DistributedDataParallel(module, find_unused_parameters=True)


def no_sync(module: nn.Module, active: bool) -> AbstractContextManager[None]:
    """While ``active``, backward passes of a `data_parallel` module add to this rank's own gradient alone."""
    return module.no_sync() if active and isinstance(module, DistributedDataParallel) else nullcontext()


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and not _alone
