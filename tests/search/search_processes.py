"""A search in a process of its own, slow enough to be killed in its middle, and what such searches leave."""

import logging
import time
from pathlib import Path

import optuna
import torch

from crfnet.score_cache import ScoreFolder, write_scores
from crfnet.search import SearchConfig, leaderboard, run_tasks, search
from crfnet.search.workers import process_context
from tests.search.tiny_dataset import CLASSES, TinyDataset, noisy_logits

CONFIG = SearchConfig(
    images=3,
    w1=(1.0, 3.0),
    theta_alpha=(4.0, 8.0),
    theta_beta=(10.0,),
    rounds=2,
    iterations=2,
)
#: A race: points are eliminated after ten of the images.
RACE = {"images": 12, "w1": (0.05, 3.0), "rounds": 1, "racing": 0.4}


def start(root: Path, name: str, **options):
    """Start a search in `root / name`; options: `pause` seconds an image, and changes of the config."""
    context = process_context()
    context.set_forkserver_preload(["tests.search.search_processes"])
    process = context.Process(target=_run_slowly, args=(root, name, options))
    process.start()
    return process


def _run_slowly(root: Path, name: str, options: dict) -> None:
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    pause, original = options.pop("pause", 0.0), run_tasks._predict

    def slow(*args):
        time.sleep(pause)
        return original(*args)

    run_tasks._predict = slow
    leaderboard.LATTICES_PER_TASK, leaderboard.IMAGES_PER_TASK = 1, 2
    run_search(root, name, **options)


def run_search(root: Path, name: str, **changes) -> None:
    """The same search in this process."""
    config = SearchConfig(**{**vars(CONFIG), **changes})
    dataset, scores = _write_inputs(root, config)
    search(dataset, dataset.ids, scores, config, root / name, resume=True)


def _write_inputs(root: Path, config: SearchConfig) -> tuple[TinyDataset, ScoreFolder]:
    dataset = TinyDataset(config.images + 1)
    return dataset, write_scores(root / "scores", noisy_logits(dataset), CLASSES, False, "noise")


def same_results(a: Path, b: Path) -> bool:
    """Whether two searches have the same result files, but for the times."""
    files = ("best.yaml", "images.txt")
    return without_times(a) == without_times(b) and all(
        (a / name).read_bytes() == (b / name).read_bytes() for name in files
    )


def task_keys(url: str) -> tuple[list[str], list[str]]:
    """Keys of the tasks that were finished, with repetitions, and of those that are claimed."""
    storage = optuna.storages.RDBStorage(url)
    trials = optuna.load_study(study_name="crfnet-search tasks", storage=storage).get_trials(deepcopy=False)
    storage.remove_session()
    storage.engine.dispose()
    states = optuna.trial.TrialState
    return tuple(
        [trial.user_attrs["task"] for trial in trials if trial.state == state]
        for state in (states.COMPLETE, states.RUNNING)
    )


def share_storage(root: Path, url: str, expected: Path) -> None:
    """Two processes search at one database and both end as `expected`, with no task computed twice."""
    _write_inputs(root, CONFIG)  # once: a folder of scores has one writer, its searches may be many
    processes = [start(root, name, pause=0.05, storage=url) for name in ("a", "b")]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert same_results(root / "a", expected)
    assert same_results(root / "b", expected)
    assert (root / "a" / "table.csv").read_bytes() == (root / "b" / "table.csv").read_bytes()
    done, claimed = task_keys(url)
    assert len(done) == len(set(done)) > 4
    assert claimed == []


def without_times(folder: Path) -> str:
    """The table but for its last column."""
    lines = (folder / "table.csv").read_text().splitlines()
    assert lines[0].endswith(",seconds")
    return "\n".join(line.rpartition(",")[0] for line in lines)
