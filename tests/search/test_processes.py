"""Several processes at one search: killed and started again, side by side, one of them dead."""

import dataclasses
import random
import time
from pathlib import Path

import optuna
import pytest

from crfnet.search import search, write_scores
from tests.search.pictures import CLASSES, Pictures, noisy_logits
from tests.search.searcher import CONFIG, start, without_times


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    pictures = Pictures()
    scores = write_scores(root / "scores", noisy_logits(pictures), CLASSES, False, "noise")
    search(pictures, pictures.ids, scores, CONFIG, root / "whole")
    return root


def same(a: Path, b: Path) -> bool:
    """Whether two searches ended alike."""
    files = ("best.yaml", "images.txt")
    return without_times(a) == without_times(b) and all(
        (a / name).read_bytes() == (b / name).read_bytes() for name in files
    )


def units_of(url: str) -> tuple[list[str], list[str]]:
    """Units that were finished, with repetitions, and units that are claimed."""
    storage = optuna.storages.RDBStorage(url)
    trials = optuna.load_study(study_name="crfnet-search work", storage=storage).get_trials(deepcopy=False)
    storage.remove_session()
    storage.engine.dispose()
    states = optuna.trial.TrialState
    return tuple(
        [trial.user_attrs["unit"] for trial in trials if trial.state == state]
        for state in (states.COMPLETE, states.RUNNING)
    )


def killed(root: Path, name: str, moment: random.Random) -> None:
    """A search of about a second that is killed somewhere in it, and loses no unit that it had finished."""
    process = start(root, name, pause=0.1)
    deadline = time.monotonic() + 120
    while not (root / name / "study.db").exists() and process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.join(moment.uniform(0.0, 2.5))
    process.kill()
    process.join()


def kills(root: Path, undisturbed: Path, number: int) -> None:
    moment = random.Random(number)
    for _ in range(number):
        killed(root, "out", moment)
    process = start(root, "out")
    process.join(120)
    assert process.exitcode == 0
    assert same(root / "out", undisturbed / "whole")
    done, claimed = units_of(f"sqlite:///{root / 'out' / 'study.db'}")
    assert len(done) == len(set(done))
    assert claimed == []


def test_two_kills(tmp_path, undisturbed):
    kills(tmp_path, undisturbed, 2)


@pytest.mark.slow
def test_twenty_kills(tmp_path, undisturbed):
    for k in range(4):
        kills(tmp_path / str(k), undisturbed, 5)


def test_two_processes_share_a_storage(tmp_path, undisturbed):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    processes = [start(tmp_path, name, pause=0.05, storage=url) for name in ("a", "b")]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    for name in ("a", "b"):
        assert same(tmp_path / name, undisturbed / "whole")
    assert (tmp_path / "a" / "table.csv").read_bytes() == (tmp_path / "b" / "table.csv").read_bytes()
    done, claimed = units_of(url)
    assert len(done) == len(set(done)) > 4
    assert claimed == []


def test_workers_end_in_the_same_table(tmp_path, undisturbed):
    pictures = Pictures()
    scores = write_scores(tmp_path / "scores", noisy_logits(pictures), CLASSES, False, "noise")
    config = dataclasses.replace(CONFIG, workers=3)
    search(pictures, pictures.ids, scores, config, tmp_path / "out")
    assert same(tmp_path / "out", undisturbed / "whole")
