"""The command line: parse, call, and turn whatever ends it into one line and an exit status. No logic."""

import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn

from crfnet.cli import COMMANDS
from crfnet.cli.parser import parse, split
from crfnet.cli.signals import Terminated, terminable
from crfnet.cli.streams import prepare_streams
from crfnet.errors import InputError, how_to_install, is_out_of_memory, is_refusal, printable

__all__ = ["main"]

#: Commands whose work several processes share.
_SHARED = ("train", "scores", "evaluate", "compare")


class _Printable(logging.Formatter):
    """Messages of which a terminal obeys nothing."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command ``crfnet``.

    Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted, 143 terminated; each but a bug with one line
    on stderr. Of several processes the first that fails says it, and all leave with its status.
    """
    # Read when torch is imported: its threads sleep while they wait. Those that spin make a command several
    # times as slow beside other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Tensors of megabytes in pages of megabytes, where the system has them: each is cleared at its first use.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    prepare_streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("crfnet").setLevel(logging.INFO if _rank() == 0 else logging.ERROR)
    try:
        with terminable():
            _run(arguments)
    except (InputError, ModuleNotFoundError, KeyboardInterrupt, BrokenPipeError, Terminated) as error:
        _leave(error, lambda status: (_rank() == 0, status))  # before the ranks know one another all do this


def _run(arguments: list[str]) -> None:
    _check_alone(arguments)
    arguments, overrides = split(arguments)
    options = parse(arguments, COMMANDS.values())
    # torch takes seconds to import, which --help should not.
    from crfnet.distributed import is_rank_zero, process_group, record_failure

    command = shlex.join(["crfnet", *arguments, *overrides])
    with process_group():
        try:
            said = COMMANDS[options.command].run(options, overrides, command)
            if is_rank_zero():
                print(printable(said))
        except BaseException as error:
            _leave(error, record_failure)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _check_alone(arguments: Sequence[str]) -> None:
    number = int(os.environ.get("WORLD_SIZE", "1"))
    if number > 1 and arguments and arguments[0] not in _SHARED:
        raise InputError(
            f"{arguments[0]}: {number} processes were started, must be 1; those that share their work are "
            f"{', '.join(_SHARED)}"
        )


def _leave(error: BaseException, leaving: Callable[[int], tuple[bool, int]]) -> NoReturn:
    """Ends with the error's line and status, or with those of the rank that was faster.

    Args:
        error: a bug is raised again.
        leaving: tells the other ranks; see `crfnet.distributed.record_failure`.
    """
    if "RANK" in os.environ and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which torchrun sends the others when one has left
    line, status = _ending(error)
    says, status = leaving(status)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif says:
        if line is None:
            raise error
        _end_bars()
        print(f"crfnet: {printable(' '.join(line.split()))}", file=sys.stderr)
    raise SystemExit(status) from None


def _end_bars() -> None:
    """Progress bars that are open end their line, or the message would stand in it."""
    if "tqdm" not in sys.modules:
        return
    from tqdm import tqdm

    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()


def _ending(error: BaseException) -> tuple[str | None, int]:
    """What is said of an error, nothing of a bug; and the exit status."""
    refusal = str(error) if is_refusal(error) else how_to_install(error)
    if refusal is not None:
        return refusal, 2
    if isinstance(error, (KeyboardInterrupt, Terminated)):
        if hasattr(error, "status"):  # training stopped behind a step, and says how it goes on
            return str(error), error.status
        word, status = ("terminated", 143) if isinstance(error, Terminated) else ("interrupted", 130)
        return f"{word}; the same command, with --resume where it has that, goes on where it was", status
    from crfnet.training import TrainingDivergedError, TrainingFailedError

    line = str(error) if isinstance(error, (TrainingDivergedError, TrainingFailedError)) else None
    if isinstance(error, OSError) and error.strerror:  # a full disk, a folder that cannot be written
        line = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, BlockingIOError) or "start new thread" in str(error):
        line = f"no more processes or threads can be started ({error}); the limit is that of ulimit -u"
    if is_out_of_memory(error):
        line = f"not enough memory: {str(error) or 'no more to be had'}"
    return line, 1
