"""Commands as a user who may write nothing; root has no limit of processes, and may write everywhere."""

import os
import shutil
import site
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.tries.place import ROOT, SECONDS, Place

__all__ = ["run_as_nobody"]

_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def run_as_nobody(
    place: Place, words: str, shell: str = "", package: Path = ROOT, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command as nobody, or as oneself where one is not root.

    Args:
        place: where; nobody may write in its folder.
        words: of the command.
        shell: words before it, such as ``ulimit -u 1;``.
        package: the folder that crfnet is imported from.
        environment: variables of its environment; an empty one is unset.
    """
    place.folder.chmod(0o777)
    prefix, python, paths = [], sys.executable, [str(package)]
    if os.getuid() == 0:
        prefix, python = _NOBODY, str(_interpreter(place.folder))
        paths += site.getsitepackages()
        environment["LD_LIBRARY_PATH"] = str(Path(python).parents[1] / "lib")
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [*prefix, "bash", "-c", f"{shell} exec {python} -m crfnet {words}"],
        cwd=place.folder,
        env={name: value for name, value in variables.items() if value},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


@cache
def _interpreter(folder: Path) -> Path:
    """A copy of Python, whose own folder may be closed to others; packages are read where they are."""
    base, name = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    copy = folder / "python"
    without = shutil.ignore_patterns("site-packages", "test", "__pycache__", "idlelib", "config-*")
    shutil.copytree(base / "lib" / name, copy / "lib" / name, ignore=without)
    (copy / "bin").mkdir()
    shutil.copy2(base / "bin" / name, copy / "bin" / name)
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy2(library, copy / "lib" / library.name)
    return copy / "bin" / name
