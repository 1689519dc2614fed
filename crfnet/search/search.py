"""search(): evaluates every point of every round on the same images, and chooses the best.

Points that share theta_alpha and theta_beta form a group and share one lattice per image. A task is some
groups on some images; its result is stored in the study, so a kill loses the running tasks and nothing else.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from crfnet.crf.layer import CRFConfig
from crfnet.data import SegmentationDataset
from crfnet.errors import InputError
from crfnet.files import lock_folder, record_file, recorded_files, recording
from crfnet.score_cache import ScoreFolder
from crfnet.search.config import SearchConfig
from crfnet.search.database import open_study
from crfnet.search.grid import Point
from crfnet.search.images import SearchImages, draw_images, evaluation_order
from crfnet.search.leaderboard import Leaderboard
from crfnet.search.result_files import OUTPUT_FILES, RESULT_FILES, WORSE, best_config, write_results
from crfnet.search.run_tasks import run_tasks
from crfnet.search.selection_criteria import CRITERIA
from crfnet.search.task_queue import STUDY_FILE, StudyLocation, TaskQueue
from crfnet.search.workers import worker_processes

__all__ = ["search"]

#: Format of tasks and results in the database; one of another version is refused.
_FORMAT_VERSION = 5

logger = logging.getLogger(__name__)


def search(
    dataset: SegmentationDataset,
    ids: Sequence[str],
    scores: ScoreFolder,
    config: SearchConfig,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: torch.device | None = None,
) -> CRFConfig:
    """Find the CRF parameters that maximize a criterion on drawn images; by default with DeepLab's protocol.

    Chen et al. 2018, section 4.1.1. The first best point wins ties: earlier round first, then w1,
    theta_alpha, theta_beta, w2, theta_gamma and iterations, each from small to large. Killed and resumed, it
    ends in the same table; so does any number of processes that share the tasks.

    Args:
        dataset: images and labels.
        ids: the images of the data set that may be drawn; leave out those that are to be reported on.
        scores: cached outputs of the network, for at least the images drawn.
        config: ranges, rounds, number of images, ...
        folder: receives `best.yaml`, `table.csv`, `heatmap.png`, `images.txt` (the ids drawn), with folds
            `folds.csv`, and `study.db` unless the config names another storage.
        resume: continue the search in the folder, or join the process that runs it; also allowed when the
            folder is empty.
        overwrite: delete the search that crfnet left in the folder, or that the config's storage, holds.
        device: that computes; None is a GPU where existing is one.

    Returns:
        The best CRF, as in `best.yaml`.

    Raises:
        InputError: before any long work: an image, its labels or its scores are missing, unreadable or do not
            fit the classes; too few images; the folder or storage holds another search; no such storage.
    """
    own_storage = not config.storage
    old = _existing_outputs(folder, own_storage, resume=resume, overwrite=overwrite)
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    drawn = draw_images(ids, config)
    images = SearchImages(dataset, evaluation_order(drawn, config), scores)
    without_crf, digest = images.validate(config)
    criterion = CRITERIA[config.criterion]
    network_metric = float(criterion.metric(without_crf.criterion[0].sum(0)))
    logger.info(
        "search on %d images, %s %.2f %% without CRF", len(drawn), criterion.label, 100 * network_metric
    )
    if overwrite:
        with lock_folder(folder):  # not while another process searches there
            for path in old:
                path.unlink()
    location = StudyLocation.in_folder(folder, config.storage, config.study)
    settings = _settings(images, config, digest)
    begun = resume and any(path.name in RESULT_FILES for path in old)
    with lock_folder(folder, shared=True), _recording(folder):
        with (
            open_study(location, settings, overwrite=overwrite and not own_storage, begun=begun) as queue,
            worker_processes(location, images, config, device),
            tqdm(desc="search", total=0, unit="point", mininterval=0.5) as progress,
        ):
            leaderboard = run_tasks(queue, images, config, device, progress=progress)
            _publish_trials(queue, leaderboard)
        write_results(folder, leaderboard, images, network_metric)
    best = leaderboard.best(leaderboard.overall)
    metric = leaderboard.metric(best, leaderboard.overall.selection_images)
    logger.info(
        "search: %s %.2f %% at w1 %g, theta_alpha %g, theta_beta %g, w2 %g, theta_gamma %g, iterations %d",
        criterion.label,
        100 * metric,
        *best,
    )
    if metric <= network_metric:
        logger.warning("search: %s", WORSE)
    return best_config(best, config)


@contextmanager
def _recording(folder: Path) -> Iterator[None]:
    """The list of crfnet's files in `folder`, with the database, which SQLite writes."""
    with recording(folder):
        for path in (folder / STUDY_FILE, folder / f"{STUDY_FILE}-journal"):
            if not path.exists():  # what is there and not on the list came from elsewhere
                record_file(path)
        yield


def _settings(images: SearchImages, config: SearchConfig, digest: str) -> dict[str, Any]:
    """Everything that the table depends on."""
    return {
        "format version": _FORMAT_VERSION,
        **config.facts(),
        "dataset": images.dataset.name,
        "source": images.scores.source,
        "align_corners": images.scores.align_corners,
        "image ids": list(images.ids),
        "digest of images, labels and scores": digest,
    }


def _publish_trials(queue: TaskQueue, leaderboard: Leaderboard) -> None:
    """Write all points as trials, for Optuna's own tools."""
    images = leaderboard.overall.selection_images
    trials: list[tuple[Point, float | None, dict[str, Any]]] = []
    for point, candidate in leaderboard.candidates.items():
        seen_all = candidate.num_images == leaderboard.num_images
        attributes = {
            "round": candidate.round,
            "images": candidate.num_images,
            "seconds": candidate.seconds,
        }
        trials.append((point, leaderboard.metric(point, images) if seen_all else None, attributes))
    queue.publish_trials(trials)


def _existing_outputs(folder: Path, own_storage: bool, *, resume: bool, overwrite: bool) -> list[Path]:
    """The files of an earlier search in `folder`; an error unless `resume` or `overwrite` is given."""
    if resume and overwrite:
        raise InputError("search: resume and overwrite exclude each other")
    existing = [folder / name for name in OUTPUT_FILES if (folder / name).exists()]
    if existing and not (resume or overwrite):
        raise InputError(
            f"{folder}: holds {existing[0].name} of an earlier search; "
            "give --resume, --overwrite or another --output"
        )
    if existing and resume and own_storage and not (folder / STUDY_FILE).exists():
        raise InputError(
            f"{folder}: holds {existing[0].name} but no {STUDY_FILE} to resume; "
            "give --overwrite or another --output"
        )
    others = set(existing) - set(recorded_files(folder)) - ({folder / STUDY_FILE} if resume else set())
    if others:
        raise InputError(f"{min(others)}: not written by crfnet, so it is left alone; give another --output")
    return existing
