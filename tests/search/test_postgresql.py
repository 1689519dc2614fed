"""A search that two processes share through a PostgreSQL server of the test's own."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.search.search_processes import share_storage


def programs() -> Path | None:
    """Where the server is, if anywhere; Debian keeps it out of PATH."""
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(found).parent if found else debian[-1].parent if debian else None


@pytest.fixture
def url() -> Iterator[str]:
    """Of a server that listens on a Unix socket alone; it refuses root, who runs it as somebody else."""
    pytest.importorskip("psycopg")
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL's server is not installed")
    other = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="crfnet-"))  # not tmp_path: short, and nobody may enter it
    if other:
        shutil.chown(folder, "nobody")

    def run(*command: str) -> None:
        subprocess.run([binaries / command[0], "-D", folder / "data", *command[1:]], check=True, cwd=folder,
                       stdout=subprocess.DEVNULL, timeout=60, **other)  # fmt: skip

    try:
        run("initdb", "-U", "crfnet", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        alone = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", alone, "start")
        try:
            yield f"postgresql+psycopg://crfnet@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def test_two_processes_end_as_one_on_sqlite(tmp_path, url, undisturbed):
    share_storage(tmp_path, url, undisturbed)
