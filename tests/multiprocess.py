"""Commands in processes of their own, one or several that know one another, as torchrun would start them."""

import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

#: Imported once for all processes.
PRELOADED = ["crfnet.pipeline.compare_arms", "crfnet.pipeline.evaluate_split", "torch.utils.tensorboard"]


def start(
    ranks: int, place: Path, *commands: Sequence[object], patch: Callable[[], None] | None = None
) -> list[BaseProcess]:
    """Begins the commands, one after another, in each of ``ranks`` processes.

    Args:
        ranks: number of processes; 1 is one that knows nothing of others.
        place: what rank i says lies here, in ``i.out`` and ``i.err``.
        commands: arguments of `crfnet.cli.main.main`.
        patch: called first in every process.
    """
    place.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    given = [[str(word) for word in command] for command in commands]
    ports = [_free_port() for _ in commands]
    started: list[BaseProcess] = [
        context.Process(target=_main, args=(rank, ranks, ports, place, given, patch)) for rank in range(ranks)
    ]
    for process in started:
        process.start()
    return started


def ended(processes: Sequence[BaseProcess], seconds: float = 300) -> list[int | None]:
    """Waits for them; their exit codes, None for one that did not end and was killed."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes


def run(ranks: int, place: Path, *commands: Sequence[object]) -> None:
    """The commands to their good end."""
    codes = ended(start(ranks, place, *commands))
    assert codes == [0] * ranks, "".join(path.read_text() for path in place.glob("*.err"))


def said(place: Path, kind: str = "err") -> list[str]:
    """The lines of crfnet itself that all ranks together wrote: ``crfnet: ...``."""
    lines = [line for path in sorted(place.glob(f"*.{kind}")) for line in path.read_text().splitlines()]
    return [line for line in lines if line.startswith("crfnet: ")]


def _main(
    rank: int,
    ranks: int,
    ports: list[int],
    place: Path,
    commands: list[list[str]],
    patch: Callable[[], None] | None,
) -> None:
    for number, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(place / f"{rank}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    import torch

    from crfnet.cli.main import main

    torch.set_num_threads(1)
    if patch is not None:
        patch()
    for port, command in zip(ports, commands, strict=True):
        if ranks > 1:
            os.environ.update(
                RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1"
            )
            os.environ["MASTER_PORT"] = str(port)
        main(command)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
