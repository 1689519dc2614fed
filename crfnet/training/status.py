"""Status of a run in ``state.json``, from its first step to its end, whatever that end was."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crfnet.distributed import is_rank_zero, on_rank_zero
from crfnet.files import write_json
from crfnet.training.failures import TrainingDivergedError, TrainingFailedError
from crfnet.training.stop_signals import TrainingInterrupted

__all__ = ["RunStatus", "track_status"]


class RunStatus:
    """Writer of ``state.json`` in a run's folder: state, step, message, time (Unix seconds) and pid.

    ``running`` with the pid of no process means that the run was killed. Rank 0 alone writes.

    Args:
        path: the file.
        step: updates done.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self.step = step

    def write(self, state: str, message: str = "") -> None:
        """Replace the status that was written before."""
        if not is_rank_zero():
            return
        content = {
            "state": state,
            "step": self.step,
            "message": message,
            "time": time.time(),
            "pid": os.getpid(),
        }
        write_json(self._path, content)

    def end(self, state: str, message: str = "") -> None:
        """Write the last status; if that fails, stay silent: the reason for the end matters more."""
        with suppress(OSError):
            self.write(state, message)


@contextmanager
def track_status(folder: Path, step: int) -> Iterator[RunStatus]:
    """Track the status of the run within: ``running``, and at the end how it ended.

    ``finished``, ``interrupted``, ``diverged``, or ``failed`` for any other exception. SIGKILL leaves
    ``running``.

    Raises:
        TrainingFailedError: an `OSError` came from within (disk full, folder not writable), told in one line.
    """
    status = RunStatus(folder / "state.json", step)
    try:
        on_rank_zero(lambda: status.write("running"))
        yield status
    except TrainingInterrupted as error:
        status.end("interrupted", str(error))
        raise
    except (TrainingDivergedError, TrainingFailedError) as error:
        status.end("diverged" if isinstance(error, TrainingDivergedError) else "failed", str(error))
        raise
    except OSError as error:
        checkpoint = folder / "checkpoint.pt"
        kept = f"the last good one is {checkpoint}" if checkpoint.exists() else "there is no checkpoint yet"
        reason = f"{error.filename or folder}: {error.strerror or error}"
        message = f"training failed after iteration {status.step}: {reason}; {kept}"
        status.end("failed", message)
        raise TrainingFailedError(message) from error
    except BaseException as error:
        status.end("failed", f"{type(error).__name__}: {error}".strip().splitlines()[0])
        raise
    status.end("finished")
