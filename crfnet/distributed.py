"""Distributed processes, as ``torchrun`` starts them; in a single process everything here does nothing.

    torchrun --nproc-per-node=2 -m crfnet train CONFIG

Rank 0 writes the files and the messages. What only it does, `on_rank_zero` broadcasts, exceptions included;
what all ranks do, `on_all_ranks` gathers in the same way: no rank waits for one that has failed. An exception
that one rank raises elsewhere ends that rank; this breaks the connections of the others, and `record_failure`
tells which was first.
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

from crfnet.errors import InputError, is_refusal

__all__ = [
    "all_gather",
    "all_reduce_sum",
    "broadcast",
    "distributed_data_parallel",
    "is_rank_zero",
    "local_device",
    "no_sync",
    "on_all_ranks",
    "on_rank_zero",
    "process_group",
    "rank",
    "record_failure",
    "shard",
    "world_size",
]

T = TypeVar("T")

#: Ranks may wait for hours while rank 0 searches; one that is gone is noticed without a timeout.
_TIMEOUT = timedelta(days=30)
_LEAVE_SECONDS = 2.0  #: how long a failing rank 0 waits for the others to fail, too
_in_rank_zero_work = False  # within `on_rank_zero`, where rank 0 works while the others wait
_failure_store: PrefixStore | None = None  # read and written without waiting for other ranks


@contextmanager
def process_group() -> Iterator[None]:
    """Join the process group that ``torchrun`` started, and leave it at the end; do nothing in one process.

    NCCL between GPUs, gloo between CPUs and for everything that is no tensor on a GPU.
    """
    if "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        yield
        return
    global _failure_store  # noqa: PLW0603 - of this process, as the process group is
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(local_device("cuda"))
    store, number, size = next(rendezvous("env://"))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpus else "gloo",
        store=PrefixStore("group", store),
        rank=number,
        world_size=size,
        timeout=_TIMEOUT,
    )
    _failure_store = PrefixStore("failures", store)
    try:
        yield
    finally:
        _failure_store = None
        dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process, from 0 on."""
    return dist.get_rank() if _is_distributed() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _is_distributed() else 1


def is_rank_zero() -> bool:
    """Whether this process is the one that writes files and messages."""
    return rank() == 0


def local_device(name: str) -> torch.device:
    """Return the device of this process: for ``cuda`` the GPU of its local rank.

    Raises:
        InputError: ``cuda`` where torch finds no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device is 'cuda', must be auto or cpu: torch finds no GPU that it can use here")
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]) % max(1, torch.cuda.device_count()))
    return torch.device(name)


def shard(items: Sequence[T]) -> Sequence[T]:
    """Return this rank's part of ``items``: every item belongs to exactly one rank."""
    return items[rank() :: world_size()]


def all_gather(value: T) -> list[T]:
    """Return the values of all ranks, by rank, on every rank. All ranks must call it; values are pickled."""
    if not _is_distributed():
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def on_rank_zero(work: Callable[[], T]) -> T:
    """Run ``work`` on rank 0; return its result, or raise its exception, on every rank.

    Also a barrier: no rank passes before rank 0 has done the work. Within ``work`` everything, the functions
    of this file included, behaves as in a single process.
    """
    global _in_rank_zero_work  # noqa: PLW0603 - of this process, as the process group is
    if not _is_distributed():
        return work()
    result: list[tuple[T | None, Exception | None]] = [(None, None)]
    if is_rank_zero():
        _in_rank_zero_work = True
        try:
            result = [(work(), None)]
        except Exception as error:  # whatever it was, the others must not wait for ever
            error.refusal = is_refusal(error)  # type: ignore[attr-defined]  # read by the others' command lines
            result = [(None, error)]
        finally:
            _in_rank_zero_work = False
    dist.broadcast_object_list(result, src=0)
    value, failure = result[0]
    if failure is not None:
        raise failure
    return value  # type: ignore[return-value]


def on_all_ranks(work: Callable[[], T]) -> list[T]:
    """Run ``work`` on every rank; return all results, by rank, on every rank; where one fails, all fail.

    Also a barrier: no rank passes before all have done the work, which must not wait for other ranks itself.
    """
    if not _is_distributed():
        return [work()]
    own: tuple[T | None, Exception | None]
    try:
        own = (work(), None)
    except Exception as error:  # as in `on_rank_zero`
        error.refusal = is_refusal(error)  # type: ignore[attr-defined]
        own = (None, error)
    results = all_gather(own)
    # This rank's own exception, which has a traceback, before those of others.
    for failure in [own[1], *(failure for _, failure in results)]:
        if failure is not None:
            raise failure
    return [value for value, _ in results]  # type: ignore[misc]


def record_failure(status: int) -> tuple[bool, int]:
    """Record that this rank ends with an error; call it inside `process_group`, before that is left.

    Args:
        status: the exit status of this rank's own error, not 0.

    Returns:
        Whether this rank was the first to fail, and so prints its message; the exit status of the first.
    """
    if _failure_store is None:  # one process, or several that have not joined yet and all fail alike
        return os.environ.get("RANK", "0") == "0", status
    own = f"{dist.get_rank()} {status}"
    try:
        first = _failure_store.compare_set("first", "", own).decode()
        _failure_store.add("count", 1)
        # Rank 0 may host the store: where all fail alike, the others still have to read it.
        deadline = time.monotonic() + _LEAVE_SECONDS
        while dist.get_rank() == 0 and time.monotonic() < deadline:
            if _failure_store.add("count", 0) == dist.get_world_size():
                break
            time.sleep(0.01)
    except RuntimeError:  # the rank that hosts the store is gone
        return True, status
    return first == own, int(first.split()[1])


def all_reduce_sum(values: Tensor) -> Tensor:
    """Return the sum over all ranks, on every rank. All ranks must call it."""
    if not _is_distributed():
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Overwrite every rank's tensors by those of rank 0. All ranks must call it."""
    if _is_distributed():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def distributed_data_parallel(module: nn.Module) -> nn.Module:
    """Wrap the module in `DistributedDataParallel`; in one process return the module itself.

    Each backward pass leaves the mean of all ranks' gradients. Parameters become those of rank 0 now, buffers
    before every forward pass. Parameters without a gradient in a step, on one rank or all, are allowed.
    """
    if not _is_distributed():
        return module
    return DistributedDataParallel(module, find_unused_parameters=True)


def no_sync(module: nn.Module, active: bool) -> AbstractContextManager[None]:
    """Accumulate gradients without averaging them over ranks, while ``active``."""
    return module.no_sync() if active and isinstance(module, DistributedDataParallel) else nullcontext()


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and not _in_rank_zero_work
