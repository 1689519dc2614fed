"""Every kernel builds for sm_80 and sm_90 without a GPU, from nothing, and keeps its numbers in registers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crfnet.kernels.gpu import exact, gather, local, update

SPILLED = 16  # bytes of stack per thread: what the default sizes may spill, which is not in any loop
TARGETS = (80, 90)


def build(cache, *options):
    environment = {**os.environ, "TRITON_CACHE_DIR": str(cache), "TRITON_DEFAULT_FP_FUSION": "1"}
    environment.pop("TRITON_INTERPRET", None)
    program = Path(__file__).with_name("compile_all.py")
    run = subprocess.run(
        [sys.executable, program, *options], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def every_kernel():
    modules = (exact, gather, local, update)
    return {name for module in modules for name in vars(module) if name.endswith("_kernel")}


def test_every_kernel_builds(tmp_path):
    built = build(tmp_path)
    assert {(one["kernel"], one["target"]) for one in built} == {
        (kernel, target) for kernel in every_kernel() for target in TARGETS
    }
    assert [one for one in built if one["stack"] > SPILLED] == []


@pytest.mark.slow
def test_every_kernel_builds_for_all_sizes_and_types(tmp_path):
    spilling = [one for one in build(tmp_path, "--all") if one["stack"] > 10 * SPILLED]
    assert [one for one in spilling if one["constants"].get("PRECISION") != "ieee"] == []
