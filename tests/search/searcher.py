"""One search in a process of its own, slow enough to be killed in its middle."""

import logging
import time
from pathlib import Path

import torch

from crfnet.search import SearchConfig, drive, search, write_scores
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


def start(root: Path, name: str, **options):
    """Begins a search in `root / name`; options are `pause` seconds an image, and changes of the config."""
    context = new_processes()
    context.set_forkserver_preload(["tests.search.searcher"])
    process = context.Process(target=_search, args=(root, name, options))
    process.start()
    return process


def _search(root: Path, name: str, options: dict) -> None:
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    pause, original = options.pop("pause", 0.0), drive.sweep

    def slow(*args):
        time.sleep(pause)
        return original(*args)

    drive.sweep = slow
    pictures = Pictures()
    scores = write_scores(root / "scores", noisy_logits(pictures), CLASSES, False, "noise")
    config = SearchConfig(**{**vars(CONFIG), **options})
    search(pictures, pictures.ids, scores, config, root / name, resume=True)


def without_times(folder: Path) -> str:
    """The table but for its last column."""
    lines = (folder / "table.csv").read_text().splitlines()
    assert lines[0].endswith(",seconds")
    return "\n".join(line.rpartition(",")[0] for line in lines)
