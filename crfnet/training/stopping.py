"""SIGTERM and Ctrl-C ask training to stop behind its current step; asked twice, the process ends at once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from crfnet.distributed import all_reduce_sum

__all__ = ["StopRequest", "TrainingInterrupted", "ignore_stop_signals", "stop_requests", "totals"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: torchrun passes on the Ctrl-C that the terminal has sent its processes already: seconds within which a
#: second signal is the same request.
ECHO = 2.0


class TrainingInterrupted(KeyboardInterrupt):
    """Training was asked to stop, and stopped behind a step with a checkpoint; the message says how to go on.

    A `KeyboardInterrupt`, so that no ``except Exception`` takes it for an error.

    Args:
        number: of the signal.
        step: updates done.
        steps: updates when it is finished.

    Attributes:
        status: the exit status that a process stopped by the signal has: 143 (SIGTERM) or 130 (Ctrl-C).
    """

    def __init__(self, number: int, step: int, steps: int) -> None:
        super().__init__(
            f"interrupted by {signal.Signals(number).name} after iteration {step} of {steps}, with a "
            "checkpoint; the same command with --resume goes on from there"
        )
        self.status = 128 + number


class StopRequest:
    """The signal that came, 0 while there was none.

    Attributes:
        signal: its number.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._since = 0.0

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        again = self.signal != 0
        echo = "TORCHELASTIC_RUN_ID" in os.environ and time.monotonic() - self._since < ECHO
        if again and not echo:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if not again:
            self.signal, self._since = number, time.monotonic()


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within, SIGTERM and SIGINT are requests; the handlers from before are there again afterwards.

    Outside the main thread, where Python takes no signals, there are none.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before: dict[signal.Signals, Any] = {}
    try:
        for number in SIGNALS:
            before[number] = signal.signal(number, request.receive)
        yield request
    finally:
        for number, handler in before.items():
            # None stands for a handler that was not set from Python, which cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def totals(loss: Float[Tensor, ""], request: StopRequest) -> tuple[float, int]:
    """The sum of all processes' losses, and the signal that any of them got or 0; alike in all."""
    flags = [float(request.signal == number) for number in SIGNALS]
    total, *asked = all_reduce_sum(torch.cat([loss.double()[None], loss.new_tensor(flags).double()])).tolist()
    return total, next((int(number) for number, count in zip(SIGNALS, asked, strict=True) if count), 0)


def ignore_stop_signals(_: int) -> None:
    """For a loader's worker: terminals and clusters ask all processes, but only the main one decides."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
