"""Heartbeats of claimed tasks: whether the process that claimed one is still running."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["CLAIM_TIMEOUT", "HeartbeatMonitor", "process_ended", "process_identity", "send_heartbeats"]

HEARTBEAT_INTERVAL = 10.0  #: seconds between two heartbeats
CLAIM_TIMEOUT = 60.0  #: seconds without a heartbeat after which a claim is free again


def process_identity() -> str:
    """This process among those of all machines: ``host|process id|start time``."""
    return "|".join((_host(), str(os.getpid()), _process_state(os.getpid())[1]))


def process_ended(owner: str) -> bool:
    """Whether the process `owner` has ended for certain; never, if it runs on another machine."""
    host, pid, started = owner.rsplit("|", 2)
    if host != _host() or not Path("/proc/self/stat").exists():
        return False
    state, start = _process_state(int(pid))
    return state in ("", "Z", "X") or start != started


class HeartbeatMonitor:
    """Notices claims whose owner has stopped sending heartbeats, by this process's own clock."""

    def __init__(self) -> None:
        self._last_change: dict[int, tuple[int, float]] = {}

    def expired(self, claim: int, count: int) -> bool:
        """Whether `claim` has shown the same `count` for longer than `CLAIM_TIMEOUT`; call repeatedly."""
        now = time.monotonic()
        last, since = self._last_change.get(claim, (count, now))
        if last != count:
            since = now
        self._last_change[claim] = (count, since)
        return now - since > CLAIM_TIMEOUT


@contextmanager
def send_heartbeats(send: Callable[[int], None], close: Callable[[], None]) -> Iterator[None]:
    """Call ``send(1)``, ``send(2)``, ... regularly in a thread, and ``close`` at its end."""
    stop = threading.Event()

    def run() -> None:
        count = 0
        try:
            while not stop.wait(HEARTBEAT_INTERVAL):
                count += 1
                send(count)
        except Exception:
            return  # the task itself meets the same trouble with the database, and reports it
        finally:
            close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _host() -> str:
    """Processes with equal hosts can see each other; containers of one machine cannot."""
    return "/".join(
        (socket.gethostname(), _read("/proc/sys/kernel/random/boot_id"), _link("/proc/self/ns/pid"))
    )


def _process_state(pid: int) -> tuple[str, str]:
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
