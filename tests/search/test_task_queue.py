import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from crfnet.errors import InputError
from crfnet.search import SearchConfig, heartbeat, search
from crfnet.search.counting import PointCounts
from crfnet.search.database import open_study
from crfnet.search.grid import Point
from crfnet.search.heartbeat import HeartbeatMonitor, process_ended, process_identity
from crfnet.search.task_queue import StudyLocation, Task, TaskResult

TASK = Task((Point(1.0, 2.0, 3.0), Point(2.0, 2.0, 3.0)), 0, 2)


def result() -> TaskResult:
    confusion = torch.arange(8, dtype=torch.int32).view(1, 2, 2, 2)
    return TaskResult((PointCounts(confusion, confusion), PointCounts(confusion + 1, confusion)), 1.5)


@pytest.fixture
def location(tmp_path) -> StudyLocation:
    return StudyLocation.in_folder(tmp_path, "", "some search")


def test_a_claim_holds_until_it_is_finished(location):
    with open_study(location, {}) as one, open_study(location, None) as other:
        claim = one.claim(TASK)
        other._owner = other._owner.replace("|", "elsewhere|", 1)
        assert other.claim(TASK) is None
        assert other.claim(TASK._replace(start=1)) is not None
        with one.heartbeat(claim):
            one.finish(claim, TASK, result())
        assert other.claim(TASK) is None
        other.refresh()
        stored = other.finished[TASK.key]
        assert stored.seconds == 1.5
        assert torch.equal(stored.counts[1].criterion, result().counts[1].criterion)
        assert torch.equal(stored.counts[1].confusion, result().counts[1].confusion)


def elsewhere(queue) -> None:
    """As if it ran on another machine."""
    queue._owner = "elsewhere|1|1"


def test_of_two_claims_at_the_same_moment_the_first_holds(location, monkeypatch):
    with open_study(location, {}) as one, open_study(location, None) as other:
        elsewhere(one)
        monkeypatch.setattr(type(one), "_is_claimed", lambda queue, task: False)
        first, second = one.claim(TASK), other.claim(TASK)
        assert first is not None
        assert second is None


def test_an_error_releases_the_claim(location):
    with open_study(location, {}) as one, open_study(location, None) as other:
        elsewhere(one)
        with pytest.raises(KeyboardInterrupt), one.heartbeat(one.claim(TASK)):
            raise KeyboardInterrupt
        assert other.claim(TASK) is not None


def test_a_claim_without_heartbeats_expires(location, monkeypatch):
    clock = 0.0
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: clock)
    with open_study(location, {}) as one, open_study(location, None) as other:
        elsewhere(one)
        claim = one.claim(TASK)
        assert other.claim(TASK) is None
        clock = 0.9 * heartbeat.CLAIM_TIMEOUT
        one._storage.set_trial_user_attr(claim, "heartbeat", 1)
        assert other.claim(TASK) is None
        clock = 1.8 * heartbeat.CLAIM_TIMEOUT
        assert other.claim(TASK) is None
        clock = 1.95 * heartbeat.CLAIM_TIMEOUT
        second = other.claim(TASK)
        assert second is not None
        one.finish(claim, TASK, dataclasses.replace(result(), seconds=9.0))  # too late
        assert TASK.key not in one.finished
        other.finish(second, TASK, result())
        one.refresh()
        assert one.finished[TASK.key].seconds == 1.5


def test_heartbeats(monkeypatch):
    monkeypatch.setattr(heartbeat, "HEARTBEAT_INTERVAL", 0.005)
    beats, closed = [], []
    with heartbeat.send_heartbeats(beats.append, lambda: closed.append(True)):
        while len(beats) < 3:
            time.sleep(0.005)
    assert beats[:3] == [1, 2, 3]
    assert closed == [True]
    seen = len(beats)
    time.sleep(0.02)
    assert len(beats) == seen


def test_a_monitor_starts_when_it_first_looks(monkeypatch):
    clock = 1000.0
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: clock)
    monitor = HeartbeatMonitor()
    assert not monitor.expired(7, 3)
    clock += 2 * heartbeat.CLAIM_TIMEOUT
    assert not monitor.expired(8, 3)
    assert monitor.expired(7, 3)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_dead_process_is_known_at_once():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    host, _, _ = process_identity().rsplit("|", 2)
    name = "|".join((host, str(process.pid), heartbeat._process_state(process.pid)[1]))
    assert not process_ended(name)
    assert not process_ended(process_identity())
    assert process_ended(name + "1")  # the number was given to another process
    process.kill()
    process.wait()
    assert process_ended(name)
    assert not process_ended(name.replace(host, "elsewhere"))


def test_long_results_in_pieces():
    confusion = torch.randint(0, 2**31 - 1, (1, 30, 21, 21), dtype=torch.int32)
    texts = TaskResult((PointCounts(confusion, confusion),), 2.0).encode()
    assert len(texts) > 1
    assert max(map(len, texts.values())) < 65_000
    back = TaskResult.decode({"task": "x", **texts})
    assert torch.equal(back.counts[0].criterion, confusion)


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("nonsense", r"search\.storage 'nonsense': not a database URL"),
        ("dbase://x/y", r"search\.storage dbase://x/y: not a database URL.*must be e\.g\. sqlite"),
        ("sqlite:////nowhere/at/all/study.db", r"/nowhere/at/all/study\.db: cannot be opened"),
        ("oracle://me:secret@host/x", r"oracle://me:\*\*\*@host/x: its driver is not installed"),
    ],
)
def test_bad_storage(tmp_path, dataset, scores, config, storage, message):
    given = dataclasses.replace(config, storage=storage)
    with pytest.raises(InputError, match=message) as caught:
        search(dataset, dataset.ids, scores, given, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_another_search_under_the_same_name(tmp_path, dataset, scores):
    url = f"sqlite:///{tmp_path / 'all.db'}"
    one = SearchConfig(
        images=1, w1=(1.0,), theta_alpha=(4.0,), theta_beta=(9.0,), iterations=1, storage=url, rounds=1
    )
    other = dataclasses.replace(one, theta_beta=(8.0,))
    search(dataset, dataset.ids, scores, one, tmp_path / "one")
    with pytest.raises(
        InputError, match=r"all\.db: was created with theta_beta = \[9\.0\], now it is \[8\.0\]"
    ):
        search(dataset, dataset.ids, scores, other, tmp_path / "two")
    renamed = dataclasses.replace(other, study="other")
    assert search(dataset, dataset.ids, scores, renamed, tmp_path / "two").theta_beta == 8.0
    best = search(dataset, dataset.ids, scores, other, tmp_path / "one", overwrite=True)
    assert best.theta_beta == 8.0
    assert not (tmp_path / "one" / "study.db").exists()
