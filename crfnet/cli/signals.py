"""SIGTERM as an exception, and no signal lost in a place where Python drops exceptions."""

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import NoReturn

__all__ = ["Terminated", "terminable"]


class Terminated(SystemExit):
    """SIGTERM came."""


@contextmanager
def terminable() -> Iterator[None]:
    """Within, SIGTERM is an exception, so that files are closed and processes ended; a second one kills.

    Python drops an exception that a signal raises in a finalizer or a weak reference's callback, prints its
    traceback and goes on; within, such a signal comes again when that has returned.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where Python takes no signals
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    hook = sys.unraisablehook

    def dropped(what: "sys.UnraisableHookArgs") -> None:
        if isinstance(what.exc_value, Terminated):
            signal.signal(signal.SIGTERM, _terminate)
            _come_again(signal.SIGTERM, dropped.__code__)
        elif isinstance(what.exc_value, KeyboardInterrupt):
            _come_again(signal.SIGINT, dropped.__code__)
        else:
            hook(what)

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
            signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)
    raise Terminated(128 + number)


def _come_again(number: signal.Signals, hook: CodeType) -> None:
    """As soon as the main thread is out of the hook, in which Python would drop it for good."""
    _thread.start_new_thread(_interrupt_outside, (number, hook))


def _interrupt_outside(number: signal.Signals, hook: CodeType) -> None:
    while True:
        time.sleep(0.01)
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        while frame is not None and frame.f_code is not hook:
            frame = frame.f_back
        if frame is None:
            return _interrupt(number)


def _interrupt(number: signal.Signals) -> None:
    """To the main thread; where the system can, as a signal that ends its sleep."""
    thread = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and thread is not None:
        signal.pthread_kill(thread, number)
    else:
        _thread.interrupt_main(number)
