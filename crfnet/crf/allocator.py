"""Keeps freed memory at hand while a CRF is solved on a CPU: fresh pages cost more than the filtering."""

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from crfnet.memory import keeps_freed_memory

__all__ = ["retain_freed_memory"]

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # mallopt's names for them
#: Bytes; larger blocks are mapped, and given back, each by itself: holes of that size would be much memory.
_KEPT = 256 << 20
_lock = threading.Lock()
_users = 0


@contextmanager
def retain_freed_memory(device: torch.device) -> Iterator[None]:
    """Within, glibc keeps large freed blocks, up to 256 MB, for the next allocation.

    A mean-field step makes and frees tables of tens of megabytes. glibc maps each of them anew, and the
    system then zeroes every page at its first touch, which takes longer than to filter it. Afterwards
    blocks of over 32 MB are mapped anew again, as glibc itself arrives at in a program with large blocks, and
    at most 256 MB stay with the process for the next image. Does nothing on other devices and with other C
    libraries.
    """
    if device.type != "cpu" or not _glibc():
        yield
        return
    _count(1)
    try:
        yield
    finally:
        _count(-1)


@cache
def _glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def _count(change: int) -> None:
    """Thresholds are up while anybody is inside; threads share them."""
    global _users  # noqa: PLW0603 - the thresholds are the process's
    with _lock:
        _users += change
        if keeps_freed_memory():  # more of it, and for good
            return
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _KEPT if _users else 32 << 20)
        libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1 if _users else 256 << 20)
