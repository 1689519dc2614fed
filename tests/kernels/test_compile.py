"""Every kernel builds for sm_80 and sm_90 without a GPU, from nothing, and keeps its numbers in registers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crfnet.kernels.gpu import domain_transform, exact, gather, local, update

# Bytes of stack per thread: what the default sizes may spill, which is not in any loop. Seen: 16 of the local
# filter backwards for sm_90 with Triton 3.2 and 3.3, otherwise none. Registers of the exact filter; they move
# by a few where lines get other numbers, by more with the ptxas that comes with Triton:
#     Triton             3.2.0 3.3.1 3.4.0 3.5.1 3.6.0 3.7.0 3.8.0 3.9.0
#     forwards, sm_80      210   146   125   123   123   123   124   124
#     forwards, sm_90      164    92    91    92    92    91    91    93
#     backwards, sm_80     238   173   202   167   168   167   212   168
#     backwards, sm_90     178   170   128   128   128   130   128   127
SPILLED = 16
TARGETS = (80, 90)
EXPONENTIALS = 64 * 64 // 128  # of the exact filter, per thread: each pair of two tiles once


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
    modules = (domain_transform, exact, gather, local, update)
    return {name for module in modules for name in vars(module) if name.endswith("_kernel")}


def test_every_kernel_builds(tmp_path):
    built = build(tmp_path)
    assert {(one["kernel"], one["target"]) for one in built} == {
        (kernel, target) for kernel in every_kernel() for target in TARGETS
    }
    assert [one for one in built if one["stack"] > SPILLED] == []
    filters = [one for one in built if one["kernel"] in {"_exact_fwd_kernel", "_exact_bwd_kernel"}]
    assert [one for one in filters if one["exponentials"] != EXPONENTIALS] == []


@pytest.mark.slow
def test_every_kernel_builds_for_all_sizes_and_types(tmp_path):
    spilling = [one for one in build(tmp_path, "--all") if one["stack"] > 10 * SPILLED]
    assert [one for one in spilling if one["constants"].get("PRECISION") != "ieee"] == []
