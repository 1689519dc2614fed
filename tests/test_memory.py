"""Memory that is freed stays with the process, where the C library can be told."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from crfnet import memory
from crfnet.crf import allocator

_PAGES = """
import resource
import torch
from crfnet.memory import keep_freed_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    # Above 32 MB glibc keeps nothing of its own accord.
    torch.empty(2**26, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def new_pages_of_ten():
    # Aligned blocks leave gaps: a few come and go before the next one fits into what is there.
    return sum([new_pages() for _ in range(30)][20:])

given_back = new_pages_of_ten()
print(keep_freed_memory(), given_back, new_pages_of_ten())
"""


def test_freed_memory_needs_no_new_pages():
    pytest.importorskip("resource")
    # In a process of its own: the setting is the process's.
    output = subprocess.run([sys.executable, "-c", _PAGES], capture_output=True, text=True, check=True).stdout
    kept, given_back, new = output.split()
    if kept == "False":
        pytest.skip("not glibc")
    assert int(new) < int(given_back) / 4


def test_inference_leaves_kept_memory_alone(monkeypatch):
    """It keeps less, and gives it back afterwards."""
    if not allocator._glibc():
        pytest.skip("not glibc")
    asked = []
    libc = SimpleNamespace(mallopt=lambda *what: asked.append(what) or 1)
    monkeypatch.setattr("ctypes.CDLL", lambda name: libc)
    for kept in (False, True):
        monkeypatch.setitem(memory._state, "kept", kept)
        with allocator.retain_freed_memory(torch.device("cpu")):
            pass
        assert bool(asked) != kept
        asked.clear()
