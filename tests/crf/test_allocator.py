"""Pages that are kept: seen as page faults that do not happen."""

import json
import platform
import subprocess
import sys

import pytest
import torch

from crfnet.crf.allocator import retain_freed_memory

CPU = torch.device("cpu")
COUNT = """
import json, resource, torch
from crfnet.crf.allocator import retain_freed_memory

def faults(blocks):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(blocks):
        torch.ones(10 << 20)  # 40 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fresh = faults(8)
with retain_freed_memory(torch.device("cpu")):
    first = faults(1)
    with retain_freed_memory(torch.device("cpu")):  # nested: changes nothing when it ends
        pass
    kept = faults(8)
with retain_freed_memory(torch.device("cpu")):
    again = faults(8)
print(json.dumps([fresh, first, kept, again]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_blocks_are_used_again():
    """In a process of its own, whose heap nothing else has shaped."""
    output = subprocess.run([sys.executable, "-c", COUNT], check=True, capture_output=True, text=True).stdout
    fresh, first, kept, again = json.loads(output)
    assert fresh > 6 * first
    assert kept < 2 * first
    assert again < first


def test_other_devices_are_left_alone():
    with retain_freed_memory(torch.device("meta")):
        pass


def test_an_error_inside_comes_out():
    with pytest.raises(RuntimeError, match="inside"), retain_freed_memory(CPU):
        raise RuntimeError("inside")
    with retain_freed_memory(CPU):
        assert torch.ones(3).sum() == 3
