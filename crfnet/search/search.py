"""The search: every point of every round is scored on the same images, group by group.

Points that share theta_alpha and theta_beta form a group and share one lattice per image. Some groups go over
some images and are then kept in the study, so a kill loses the units that were being worked on and nothing
else.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from crfnet.crf.layer import CRFConfig
from crfnet.data import SegmentationDataset
from crfnet.errors import InputError
from crfnet.score_cache import ScoreFolder
from crfnet.search.config import SearchConfig
from crfnet.search.database import open_study
from crfnet.search.images import Images, draw_images, order_of_visit
from crfnet.search.leaderboard import Leaderboard
from crfnet.search.results import OUTPUTS, best_config, write_results
from crfnet.search.run_tasks import run_tasks
from crfnet.search.task_queue import STUDY_FILE, StudyLocation, TaskQueue
from crfnet.search.workers import helpers

__all__ = ["search"]

#: Of units and of what is kept of them; a database of another one is refused.
_LAYOUT = 3

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
    """Finds the CRF's parameters by a criterion over seeded images; DeepLab's protocol unless told otherwise.

    Chen et al. 2018, section 4.1.1. The first best point wins ties: earlier round first, then w1,
    theta_alpha, theta_beta, w2, theta_gamma and iterations, each from small to large. Killed and resumed, it
    ends in the same table; so does any number of processes that share the work.

    Args:
        dataset: images and labels.
        ids: the images of the data set that may be drawn; leave out those that are to be reported on.
        scores: of the network, for at least the images drawn.
        config: ranges, rounds, number of images, ...
        folder: receives `best.yaml`, `table.csv`, `heatmap.png`, `images.txt` (the ids drawn), with folds
            `folds.csv`, and `study.db` unless the config names another storage.
        resume: go on with what the folder holds, or join the process that is at it; also allowed when it
            holds nothing yet.
        overwrite: drop the search that the folder, or the config's storage, holds.
        device: that computes; None is a GPU where there is one.

    Returns:
        The best CRF, as in `best.yaml`.

    Raises:
        InputError: before any long work: an image, its labels or its scores are missing, unreadable or do not
            fit the classes; too few images; the folder or storage holds another search; no such storage.
    """
    own_storage = not config.storage
    old = _outputs_there(folder, own_storage, resume=resume, overwrite=overwrite)
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    drawn = draw_images(ids, config)
    images = Images(dataset, order_of_visit(drawn, config), scores)
    before, digest = images.check(config)
    ledger = Leaderboard(config, len(images))
    plain = float(ledger.criterion.score(before.counts[0].sum(0)))
    logger.info("search on %d images, %s %.4f without CRF", len(drawn), ledger.criterion.label, plain)
    if overwrite:
        for path in old:
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    where = StudyLocation.of(folder, config.storage, config.study)
    facts = _facts(images, config, digest)
    with (
        open_study(where, facts, overwrite=overwrite and not own_storage) as study,
        helpers(where, images, config, device),
        tqdm(desc="search", total=0, unit="point", mininterval=0.5) as bar,
    ):
        ledger = run_tasks(study, images, config, device, bar=bar)
        _publish(study, ledger)
    best = ledger.best(ledger.views[0])
    write_results(folder, ledger, images, before)
    score = ledger.score(best, ledger.views[0].images)
    logger.info(
        "search: %s %.4f at w1 %g, theta_alpha %g, theta_beta %g, w2 %g, theta_gamma %g, iterations %d",
        ledger.criterion.label,
        score,
        *best,
    )
    return best_config(best, config)


def _facts(images: Images, config: SearchConfig, digest: str) -> dict[str, Any]:
    """Everything that the table depends on."""
    return {
        "layout of the work": _LAYOUT,
        **config.facts(),
        "dataset": images.dataset.name,
        "source": images.scores.source,
        "align_corners": images.scores.align_corners,
        "image ids": list(images.ids),
        "digest of images, labels and scores": digest,
    }


def _publish(study: TaskQueue, ledger: Leaderboard) -> None:
    """All points as trials, for Optuna's own tools."""
    everything = ledger.views[0]
    rows: list[tuple[Any, float | None, dict[str, Any]]] = []
    for row in ledger.rows.values():
        facts = {"round": row.round, "images": row.images, "seconds": row.seconds}
        whole = row.images == ledger.images
        rows.append((row.point, ledger.score(row.point, everything.images) if whole else None, facts))
    study.publish(rows)


def _outputs_there(folder: Path, own_storage: bool, *, resume: bool, overwrite: bool) -> list[Path]:
    """The files of another search in `folder`; refuses them unless told what to do with them."""
    if resume and overwrite:
        raise InputError("search: resume and overwrite exclude each other")
    there = [folder / name for name in OUTPUTS if (folder / name).exists()]
    if there and not (resume or overwrite):
        raise InputError(
            f"{folder}: holds {there[0].name} of an earlier search; "
            "give --resume, --overwrite or another --output"
        )
    if there and resume and own_storage and not (folder / STUDY_FILE).exists():
        raise InputError(
            f"{folder}: holds {there[0].name} but no {STUDY_FILE} to resume; "
            "give --overwrite or another --output"
        )
    return there
