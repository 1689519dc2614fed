"""Compiled code is kept for the next process; where it cannot be kept, nothing is said."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import numpy as np
from tests.kernels.cpu.test_vectors import _transposed as entry
entry(np.ones((8, 8), np.float32), 0, 8, np.ones((8, 8), np.float32), 0, 8)
print(sum(entry.stats.cache_hits.values()), sum(entry.stats.cache_misses.values()))
"""


def _run(folder: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=clean | {"XDG_CACHE_HOME": str(folder), "HOME": str(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the cache is elsewhere")
def test_the_second_process_loads_what_the_first_compiled(tmp_path):
    assert _run(tmp_path) == "0 1"
    assert _run(tmp_path) == "1 0"
    assert list((tmp_path / "crfnet").iterdir())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the cache is elsewhere")
def test_without_a_writable_folder_it_works_all_the_same(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    assert _run(blocked) == "0 1"


def test_importing_the_package_does_not_import_numba():
    program = "import sys, crfnet, crfnet.crf.layer; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
