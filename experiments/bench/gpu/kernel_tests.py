"""The tests of the kernels on this machine's device, and its memory checker: programs that run at once."""

import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from gpu.machine import Bench

ROOT = Path(__file__).parents[3]
LAUNCHES = Path(__file__).with_name("launches.py")
LIMIT = 200  # seconds
TESTS = (
    ("test_exact.py",),
    ("test_local.py", "test_update.py"),
    ("test_gather.py", "test_lattice.py", "test_usable.py"),
    ("test_contract.py",),
    ("test_device.py",),
    ("test_compile.py",),
    ("test_waits.py",),
)
QUICK = (("test_device.py",),)  # on a CPU they all skip


class Program(NamedTuple):
    name: str
    process: subprocess.Popen[str]


def contract(bench: Bench) -> None:
    """Their verdicts; started together, since compilers and the checker leave the GPU idle."""
    started = [*tests(bench), *sanitizer(bench)]
    end = time.monotonic() + LIMIT
    for program in started:
        try:
            said, _ = program.process.communicate(timeout=max(1.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            program.process.kill()
            said = program.process.communicate()[0] + f"\nstopped after {LIMIT} s"
        good = program.process.returncode == 0
        bench.failed |= not good
        lines = said.strip().splitlines() or ["said nothing"]
        print(f"  {'ok  ' if good else 'FAIL'} {program.name}: {lines[-1]}", flush=True)
        if not good:
            print("\n".join(f"       {line}" for line in lines[-25:-1]), flush=True)


def tests(bench: Bench) -> list[Program]:
    folder = ROOT / "tests" / "kernels"
    if not folder.is_dir() or any(find_spec(name) is None for name in ("pytest", "beartype")):
        print("  tests/kernels, pytest or beartype is not here: no contract tests")
        return []
    started = []
    for files in QUICK if bench.quick else TESTS:
        paths = [str(folder / file) for file in files]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
        started.append(start("tests " + " ".join(files), command))
    return started


def sanitizer(bench: Bench) -> list[Program]:
    """compute-sanitizer on one shape of each kernel; on a CPU the same launches in the interpreter."""
    command = [sys.executable, str(LAUNCHES), "--device", bench.device.type]
    if not bench.on_gpu:
        return [start("every kernel once, interpreted", command)]
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(tool).exists():
        print("  compute-sanitizer is not installed: no check of memory, the launches alone")
        return [start("every kernel once", command)]
    memcheck = [tool, "--tool", "memcheck", "--error-exitcode", "9", *command]
    return [start("compute-sanitizer memcheck", memcheck)]


def start(name: str, command: list[str]) -> Program:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # The checker knows the driver's allocations, not the pieces that torch hands out of them.
    environment = {**os.environ, "PYTHONPATH": path}
    if "memcheck" in name:
        environment["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return Program(name, process)
