"""How a run stands: ``state.json``, from its first step to its end, whatever that end was."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crfnet.distributed import is_rank_zero, on_rank_zero
from crfnet.files import write_json
from crfnet.training.stopping import TrainingInterrupted

__all__ = ["RunState", "TrainingDivergedError", "TrainingFailedError", "track_status"]


class TrainingDivergedError(RuntimeError):
    """The loss, its gradient or a weight is no longer finite; the message says where, and what is left."""


class TrainingFailedError(RuntimeError):
    """A file could not be written or read in the middle of training; one line with the reason."""


class RunState:
    """``state.json`` in a run's folder: state, step, message, time (Unix seconds) and pid.

    ``running`` with the pid of no process means that it was killed. Written by the first process alone, and
    whole or not at all.

    Args:
        path: the file.
        step: updates done.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self.step = step

    def write(self, state: str, message: str = "") -> None:
        """Replaces what was written before."""
        if not is_rank_zero():
            return
        told = {
            "state": state,
            "step": self.step,
            "message": message,
            "time": time.time(),
            "pid": os.getpid(),
        }
        write_json(self._path, told)

    def end(self, state: str, message: str = "") -> None:
        """The same for the last time; where it cannot be written, the reason for the end matters more."""
        with suppress(OSError):
            self.write(state, message)


@contextmanager
def track_status(folder: Path, step: int) -> Iterator[RunState]:
    """A `RunState` that begins as ``running`` and ends as what happened within.

    ``finished``, ``interrupted``, ``diverged``, or ``failed`` for any other exception. A kill at once, which
    Python never hears of, leaves ``running``.

    Raises:
        TrainingFailedError: an `OSError` came from within (disk full, folder not writable), told in one line.
    """
    state = RunState(folder / "state.json", step)
    try:
        on_rank_zero(lambda: state.write("running"))
        yield state
    except TrainingInterrupted as error:
        state.end("interrupted", str(error))
        raise
    except (TrainingDivergedError, TrainingFailedError) as error:
        state.end("diverged" if isinstance(error, TrainingDivergedError) else "failed", str(error))
        raise
    except OSError as error:
        checkpoint = folder / "checkpoint.pt"
        kept = f"the last good one is {checkpoint}" if checkpoint.exists() else "there is no checkpoint yet"
        reason = f"{error.filename or folder}: {error.strerror or error}"
        message = f"training failed after iteration {state.step}: {reason}; {kept}"
        state.end("failed", message)
        raise TrainingFailedError(message) from error
    except BaseException as error:
        state.end("failed", f"{type(error).__name__}: {error}".strip().splitlines()[0])
        raise
    state.end("finished")
