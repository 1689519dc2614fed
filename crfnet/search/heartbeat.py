"""Who works on what: whether the process that claimed a piece of work still lives."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["EXPIRY", "Watch", "beating", "gone", "this_process"]

BEAT = 10.0  #: seconds between two signs of life
EXPIRY = 60.0  #: seconds without one after which a claim is free again


def this_process() -> str:
    """This process among those of all machines: where it runs, its number, when it started."""
    return "|".join((_place(), str(os.getpid()), _state(os.getpid())[1]))


def gone(owner: str) -> bool:
    """Whether the process `owner` has ended for certain; never, if it runs on another machine."""
    place, pid, started = owner.rsplit("|", 2)
    if place != _place() or not Path("/proc/self/stat").exists():
        return False
    state, start = _state(int(pid))
    return state in ("", "Z", "X") or start != started


class Watch:
    """Notices claims whose owner no longer shows signs of life, by this process's own clock."""

    def __init__(self) -> None:
        self._changed: dict[int, tuple[int, float]] = {}

    def expired(self, claim: int, beat: int) -> bool:
        """Whether `claim` has shown the same `beat` for longer than `EXPIRY`; call again and again."""
        now = time.monotonic()
        last, since = self._changed.get(claim, (beat, now))
        if last != beat:
            since = now
        self._changed[claim] = (beat, since)
        return now - since > EXPIRY


@contextmanager
def beating(show: Callable[[int], None], close: Callable[[], None]) -> Iterator[None]:
    """Calls ``show(1)``, ``show(2)``, ... in a thread, every `BEAT` seconds; there ``close`` at the end."""
    stop = threading.Event()

    def run() -> None:
        beat = 0
        try:
            while not stop.wait(BEAT):
                beat += 1
                show(beat)
        except Exception:
            return  # the work itself meets the same trouble with the database, and says so
        finally:
            close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _place() -> str:
    """Processes with equal places can see each other; containers of one machine cannot."""
    return "/".join(
        (socket.gethostname(), _read("/proc/sys/kernel/random/boot_id"), _link("/proc/self/ns/pid"))
    )


def _state(pid: int) -> tuple[str, str]:
    """State letter and start time of a process, empty where it is not there (or there is no /proc)."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (fields[0], fields[19]) if fields else ("", "")


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
