"""SIGTERM and Ctrl-C: stop training after its current step; at the second signal end the process at once."""

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

__all__ = [
    "StopRequest",
    "TrainingInterrupted",
    "ignore_stop_signals",
    "stop_requests",
    "sum_loss_and_signal",
]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: torchrun forwards the Ctrl-C that the terminal has sent its processes already: seconds within which a
#: second signal counts as the same request.
REPEAT_SECONDS = 2.0


class TrainingInterrupted(KeyboardInterrupt):
    """Training was stopped by a signal, after a step and with a checkpoint; the message says how to resume.

    A `KeyboardInterrupt`, so that no ``except Exception`` takes it for an error.

    Args:
        number: of the signal.
        step: updates done.
        steps: updates of the whole run.

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
    """Signal handler that remembers the signal; 0 while none came.

    Attributes:
        signal: number of the signal that came.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._since = 0.0

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: remember the first one, die of the second."""
        repeated = self.signal != 0
        forwarded = "TORCHELASTIC_RUN_ID" in os.environ and time.monotonic() - self._since < REPEAT_SECONDS
        if repeated and not forwarded:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if not repeated:
            self.signal, self._since = number, time.monotonic()


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn SIGTERM and SIGINT into a `StopRequest` within; restore the earlier handlers afterwards.

    Outside the main thread, where Python handles no signals, the request stays empty.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before: dict[signal.Signals, Any] = {}
    try:
        for number in STOP_SIGNALS:
            before[number] = signal.signal(number, request.receive)
        yield request
    finally:
        for number, handler in before.items():
            # None stands for a handler that was not set from Python, which cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def sum_loss_and_signal(loss: Float[Tensor, ""], request: StopRequest) -> tuple[float, int]:
    """Sum the loss over all ranks; return it with the signal that any of them got, or 0; alike on all."""
    flags = [float(request.signal == number) for number in STOP_SIGNALS]
    total, *counts = all_reduce_sum(
        torch.cat([loss.double()[None], loss.new_tensor(flags).double()])
    ).tolist()
    return total, next((int(number) for number, count in zip(STOP_SIGNALS, counts, strict=True) if count), 0)


def ignore_stop_signals(_: int) -> None:
    """Ignore SIGTERM and SIGINT in a loader's worker: all get them, the main process decides."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
