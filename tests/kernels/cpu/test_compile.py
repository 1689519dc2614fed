"""Compiled code is kept for the next process; where it cannot be kept, nothing is said."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OWN = f"crfnet-{os.getuid()}" if hasattr(os, "getuid") else ""
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the cache is elsewhere")
PROGRAM = """
import os, tempfile
import numpy as np
tempfile.tempdir = os.environ["TMPDIR"]
from tests.kernels.cpu.test_vectors import _transposed as entry
entry(np.ones((8, 8), np.float32), 0, 8, np.ones((8, 8), np.float32), 0, 8)
print(sum(entry.stats.cache_hits.values()), sum(entry.stats.cache_misses.values()))
"""


def _run(home: Path, temporary: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    own = {"XDG_CACHE_HOME": str(home), "HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=clean | own,
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.fixture
def blocked(tmp_path):
    """A home in which nothing can be written, whoever one is."""
    path = tmp_path / "file"
    path.touch()
    return path


@on_linux
def test_the_second_process_loads_what_the_first_compiled(tmp_path):
    assert _run(tmp_path, tmp_path) == "0 1"
    assert _run(tmp_path, tmp_path) == "1 0"
    assert list((tmp_path / "crfnet").iterdir())
    assert not list((tmp_path / OWN).iterdir())


@on_linux
def test_without_a_home_a_temporary_folder_of_ones_own_serves(blocked, tmp_path):
    assert _run(blocked, tmp_path) == "0 1"
    assert _run(blocked, tmp_path) == "1 0"
    assert (tmp_path / OWN).stat().st_mode & 0o777 == 0o700


@on_linux
@pytest.mark.parametrize("kind", ["a link", "others may write", "a file"])
def test_code_is_not_read_where_another_could_have_put_it(blocked, tmp_path, kind):
    (tmp_path / "other").mkdir(mode=0o700)
    if kind == "a link":
        (tmp_path / OWN).symlink_to("other")
    elif kind == "a file":
        (tmp_path / OWN).touch()
    else:
        (tmp_path / OWN).mkdir()
        (tmp_path / OWN).chmod(0o770)
    assert _run(blocked, tmp_path) == "0 1"
    assert _run(blocked, tmp_path) == "0 1"
    assert not list((tmp_path / "other").iterdir())


@on_linux
def test_without_a_writable_folder_it_works_all_the_same(blocked):
    assert _run(blocked, blocked) == "0 1"


def test_importing_the_package_does_not_import_numba():
    program = "import sys, crfnet, crfnet.crf.layer; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
