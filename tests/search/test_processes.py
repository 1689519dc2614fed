"""Several processes at one search: killed and started again, side by side, one of them dead."""

import random
import time
from pathlib import Path

import pytest

from crfnet.search import workers
from tests.search.search_processes import RACE, run_search, same_results, share_storage, start, task_keys


def killed(root: Path, moment: random.Random, **changes) -> None:
    """A search of about a second that is killed somewhere in it, and loses no task that it had finished."""
    process = start(root, "out", pause=0.1, **changes)
    deadline = time.monotonic() + 120
    while not (root / "out" / "study.db").exists() and process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.join(moment.uniform(0.0, 2.5))
    process.kill()
    process.join()


def kills(root: Path, expected: Path, number: int, **changes) -> None:
    moment = random.Random(number)
    for _ in range(number):
        killed(root, moment, **changes)
    process = start(root, "out", **changes)
    process.join(120)
    assert process.exitcode == 0
    assert same_results(root / "out", expected)
    done, claimed = task_keys(f"sqlite:///{root / 'out' / 'study.db'}")
    assert len(done) == len(set(done))
    assert claimed == []


def test_two_kills(tmp_path, undisturbed):
    kills(tmp_path, undisturbed, 2)


@pytest.fixture(scope="module")
def race(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("race")
    run_search(root, "race", **RACE)
    lines = (root / "race" / "table.csv").read_text().splitlines()[1:]
    assert {line.split(",")[-2] for line in lines} == {"10", "12"}
    return root / "race"


def test_a_killed_race(tmp_path, race):
    kills(tmp_path, race, 1, **RACE)


def test_workers_that_cannot_be_started(tmp_path, undisturbed, monkeypatch, caplog):
    """Beyond a limit of processes, the server that forks them is gone: this one does their tasks."""
    context = workers.process_context()

    def start(process: object) -> None:
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(context.Process, "start", start)
    with caplog.at_level("WARNING", "crfnet"):
        run_search(tmp_path, "out", workers=3)
    assert "2 workers cannot be started (unexpected EOF; ulimit -u?)" in caplog.text
    assert same_results(tmp_path / "out", undisturbed)


@pytest.mark.slow
def test_twenty_kills(tmp_path, undisturbed, race):
    for k in range(2):
        kills(tmp_path / f"whole {k}", undisturbed, 5)
        kills(tmp_path / f"race {k}", race, 5, **RACE)


def test_two_processes_share_a_storage(tmp_path, undisturbed):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    share_storage(tmp_path, url, undisturbed)


def test_workers_end_in_the_same_table(tmp_path, undisturbed):
    run_search(tmp_path, "out", workers=3)
    assert same_results(tmp_path / "out", undisturbed)
