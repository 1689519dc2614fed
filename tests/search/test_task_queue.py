import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from crfnet.errors import InputError
from crfnet.search import SearchConfig, claims, search
from crfnet.search.counting import Counted
from crfnet.search.database import open_study
from crfnet.search.grid import Point
from crfnet.search.heartbeat import Watch, gone, this_process
from crfnet.search.task_queue import StudyLocation, Task, TaskResult

UNIT = Task((Point(1.0, 2.0, 3.0), Point(2.0, 2.0, 3.0)), 0, 2)


def outcome() -> TaskResult:
    confusion = torch.arange(8, dtype=torch.int32).view(1, 2, 2, 2)
    return TaskResult((Counted(confusion, confusion), Counted(confusion + 1, confusion)), 1.5)


@pytest.fixture
def where(tmp_path) -> StudyLocation:
    return StudyLocation.of(tmp_path, "", "some search")


def test_a_claim_holds_until_it_is_finished(where):
    with open_study(where, {}) as one, open_study(where, None) as other:
        claim = one.claim(UNIT)
        other._me = other._me.replace("|", "elsewhere|", 1)
        assert other.claim(UNIT) is None
        assert other.claim(UNIT._replace(start=1)) is not None
        with one.at_work(claim):
            one.finish(claim, UNIT, outcome())
        assert other.claim(UNIT) is None
        other.refresh()
        there = other.finished[UNIT.key]
        assert there.seconds == 1.5
        assert torch.equal(there.counted[1].counts, outcome().counted[1].counts)
        assert torch.equal(there.counted[1].confusion, outcome().counted[1].confusion)


def elsewhere(study) -> None:
    """As if it ran on another machine."""
    study._me = "elsewhere|1|1"


def test_of_two_claims_at_the_same_moment_the_first_holds(where, monkeypatch):
    with open_study(where, {}) as one, open_study(where, None) as other:
        elsewhere(one)
        monkeypatch.setattr(type(one), "_taken", lambda study, unit: False)
        first, second = one.claim(UNIT), other.claim(UNIT)
        assert first is not None
        assert second is None


def test_an_error_gives_the_claim_back(where):
    with open_study(where, {}) as one, open_study(where, None) as other:
        elsewhere(one)
        with pytest.raises(KeyboardInterrupt), one.at_work(one.claim(UNIT)):
            raise KeyboardInterrupt
        assert other.claim(UNIT) is not None


def test_a_claim_without_signs_of_life_expires(where, monkeypatch):
    clock = 0.0
    monkeypatch.setattr(claims.time, "monotonic", lambda: clock)
    with open_study(where, {}) as one, open_study(where, None) as other:
        elsewhere(one)
        claim = one.claim(UNIT)
        assert other.claim(UNIT) is None
        clock = 0.9 * claims.EXPIRY
        one._storage.set_trial_user_attr(claim, "beat", 1)
        assert other.claim(UNIT) is None
        clock = 1.8 * claims.EXPIRY
        assert other.claim(UNIT) is None
        clock = 1.95 * claims.EXPIRY
        second = other.claim(UNIT)
        assert second is not None
        one.finish(claim, UNIT, dataclasses.replace(outcome(), seconds=9.0))  # too late
        assert UNIT.key not in one.finished
        other.finish(second, UNIT, outcome())
        one.refresh()
        assert one.finished[UNIT.key].seconds == 1.5


def test_signs_of_life(monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.005)
    beats, closed = [], []
    with claims.beating(beats.append, lambda: closed.append(True)):
        while len(beats) < 3:
            time.sleep(0.005)
    assert beats[:3] == [1, 2, 3]
    assert closed == [True]
    seen = len(beats)
    time.sleep(0.02)
    assert len(beats) == seen


def test_watch_starts_when_it_first_looks(monkeypatch):
    clock = 1000.0
    monkeypatch.setattr(claims.time, "monotonic", lambda: clock)
    watch = Watch()
    assert not watch.expired(7, 3)
    clock += 2 * claims.EXPIRY
    assert not watch.expired(8, 3)
    assert watch.expired(7, 3)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_dead_process_is_known_at_once():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    place, _, _ = this_process().rsplit("|", 2)
    name = "|".join((place, str(process.pid), claims._state(process.pid)[1]))
    assert not gone(name)
    assert not gone(this_process())
    assert gone(name + "1")  # the number was given to another process
    process.kill()
    process.wait()
    assert gone(name)
    assert not gone(name.replace(place, "elsewhere"))


def test_long_outcomes_in_pieces():
    confusion = torch.randint(0, 2**31 - 1, (1, 30, 21, 21), dtype=torch.int32)
    texts = TaskResult((Counted(confusion, confusion),), 2.0).encode()
    assert len(texts) > 1
    assert max(map(len, texts.values())) < 65_000
    back = TaskResult.decode({"unit": "x", **texts})
    assert torch.equal(back.counted[0].counts, confusion)


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("nonsense", r"search\.storage 'nonsense': no database's URL"),
        ("dbase://x/y", r"search\.storage dbase://x/y: no database's URL.*expected e\.g\. sqlite"),
        ("sqlite:////nowhere/at/all/study.db", r"/nowhere/at/all/study\.db: cannot be opened"),
        ("oracle://me:secret@host/x", r"oracle://me:\*\*\*@host/x: its driver is not installed"),
    ],
)
def test_bad_storage(tmp_path, pictures, scores, config, storage, message):
    given = dataclasses.replace(config, storage=storage)
    with pytest.raises(InputError, match=message) as caught:
        search(pictures, pictures.ids, scores, given, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_another_search_under_the_same_name(tmp_path, pictures, scores):
    url = f"sqlite:///{tmp_path / 'all.db'}"
    one = SearchConfig(
        images=1, w1=(1.0,), theta_alpha=(4.0,), theta_beta=(9.0,), iterations=1, storage=url, rounds=1
    )
    other = dataclasses.replace(one, theta_beta=(8.0,))
    search(pictures, pictures.ids, scores, one, tmp_path / "one")
    with pytest.raises(InputError, match=r"all\.db: was made with theta_beta = \[9\.0\], now it is \[8\.0\]"):
        search(pictures, pictures.ids, scores, other, tmp_path / "two")
    renamed = dataclasses.replace(other, study="other")
    assert search(pictures, pictures.ids, scores, renamed, tmp_path / "two").theta_beta == 8.0
    best = search(pictures, pictures.ids, scores, other, tmp_path / "one", overwrite=True)
    assert best.theta_beta == 8.0
    assert not (tmp_path / "one" / "study.db").exists()
