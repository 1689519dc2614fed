"""Functions in processes of their own, one or several that know one another, as torchrun would start them."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from crfnet.distributed import process_group
from tests.multiprocess import PRELOADED, ended

__all__ = ["begin", "ended", "run"]


def begin(ranks: int, place: Path, work: Callable[..., None], *arguments: object) -> list[BaseProcess]:
    """Begins ``work(*arguments)`` in each of ``ranks`` processes; 1 is one that knows nothing of others.

    What rank i says lies in ``place``, in ``i.txt``.
    """
    place.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = (ranks, port, place, work, arguments)
    processes: list[BaseProcess] = [
        context.Process(target=_main, args=(rank, *given)) for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    return processes


def run(ranks: int, place: Path, work: Callable[..., None], *arguments: object) -> None:
    """The same to its good end."""
    codes = ended(begin(ranks, place, work, *arguments), 300)
    assert codes == [0] * ranks, "".join(path.read_text() for path in place.glob("*.txt"))


def _main(
    rank: int, ranks: int, port: int, place: Path, work: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    said = os.open(place / f"{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(said, number)
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of loaders' workers, as in a process of one's own
    if ranks > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with process_group():
        work(*arguments)
