"""One search in a process of its own, slow enough to be killed in its middle."""

import logging
import time
from pathlib import Path

import optuna
import torch

from crfnet.score_cache import write_scores
from crfnet.search import SearchConfig, drive, ledger, search
from crfnet.search.workers import new_processes
from tests.search.pictures import CLASSES, Pictures, noisy_logits

CONFIG = SearchConfig(
    images=3,
    w1=(1.0, 3.0),
    theta_alpha=(4.0, 8.0),
    theta_beta=(10.0,),
    rounds=2,
    iterations=2,
)
#: A race on open pixels: points are dropped after ten of the images.
RACE = {"images": 12, "w1": (0.05, 3.0), "rounds": 1, "racing": 0.4, "tolerance": 0.05}


def start(root: Path, name: str, **options):
    """Begins a search in `root / name`; options: `pause` seconds an image, and changes of the config."""
    context = new_processes()
    context.set_forkserver_preload(["tests.search.searcher"])
    process = context.Process(target=_search, args=(root, name, options))
    process.start()
    return process


def _search(root: Path, name: str, options: dict) -> None:
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    pause, original = options.pop("pause", 0.0), drive._predicted

    def slow(*args):
        time.sleep(pause)
        return original(*args)

    drive._predicted = slow
    ledger.LATTICES, ledger.IMAGES = 1, 2
    whole(root, name, **options)


def whole(root: Path, name: str, **changes) -> None:
    """The same search in this process."""
    config = SearchConfig(**{**vars(CONFIG), **changes})
    pictures = Pictures(config.images + 1)
    scores = write_scores(root / "scores", noisy_logits(pictures), CLASSES, False, "noise")
    search(pictures, pictures.ids, scores, config, root / name, resume=True)


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


def share(root: Path, url: str, expected: Path) -> None:
    """Two processes search at one database and both end as `expected`, with no unit computed twice."""
    processes = [start(root, name, pause=0.05, storage=url) for name in ("a", "b")]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert same(root / "a", expected)
    assert same(root / "b", expected)
    assert (root / "a" / "table.csv").read_bytes() == (root / "b" / "table.csv").read_bytes()
    done, claimed = units_of(url)
    assert len(done) == len(set(done)) > 4
    assert claimed == []


def without_times(folder: Path) -> str:
    """The table but for its last column."""
    lines = (folder / "table.csv").read_text().splitlines()
    assert lines[0].endswith(",seconds")
    return "\n".join(line.rpartition(",")[0] for line in lines)
