"""The search: every point of every round is scored on the same images, group by group.

Points that share theta_alpha and theta_beta form a group and share one lattice per image. A group goes over
all images and is then kept in the study, so a kill loses one group at most and the memory is that of one
image.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from tqdm import tqdm

from crfnet.crf.layer import CRFConfig
from crfnet.data import SegmentationDataset
from crfnet.errors import InputError
from crfnet.evaluation.confusion import VOID, confusion_matrix, metrics
from crfnet.search.grid import Grid, Point, SearchConfig, coarse_grid, finer_grid, first_best
from crfnet.search.results import (
    BEST_FILE,
    HEATMAP_FILE,
    IMAGES_FILE,
    TABLE_FILE,
    best_config,
    write_best,
    write_heatmap,
    write_images,
    write_table,
)
from crfnet.search.scores import ScoreFolder
from crfnet.search.study import STUDY_FILE, Scored, Study, open_study
from crfnet.search.sweep import sweep_w1
from crfnet.shapes import Image, LabelMap, Logits

__all__ = ["draw_images", "search"]

logger = logging.getLogger(__name__)

_Confusion = Int[Tensor, "l l"]


def search(
    dataset: SegmentationDataset,
    ids: Sequence[str],
    scores: ScoreFolder,
    config: SearchConfig,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> CRFConfig:
    """Finds (w1, theta_alpha, theta_beta) by mean IoU of one confusion matrix over seeded images.

    DeepLab's protocol (Chen et al. 2018, section 4.1.1). The first best point wins ties: earlier round first,
    then w1, theta_alpha and theta_beta, each from small to large. Killed and resumed, it ends in the same
    table.

    Args:
        dataset: images and labels.
        ids: the images of the data set that may be drawn; leave out those that are to be reported on.
        scores: of the network, for at least the images drawn.
        config: ranges, rounds, number of images.
        folder: receives `best.yaml`, `table.csv`, `heatmap.png`, `images.txt` (the ids drawn) and `study.db`.
        resume: go on with what the folder holds; also allowed when it holds nothing yet.
        overwrite: drop the search that the folder holds.

    Returns:
        The best CRF, as in `best.yaml`.

    Raises:
        InputError: before any long work: an image, its labels or its scores are missing, unreadable or do not
            fit the classes; too few images; the folder holds another search.
    """
    old = _outputs_there(folder, resume=resume, overwrite=overwrite)
    if scores.num_classes != dataset.num_classes:
        raise InputError(
            f"{scores.path}: scores of {scores.num_classes} classes; {dataset.name} has {dataset.num_classes}"
        )
    drawn = draw_images(ids, config)
    images = _Images(dataset, drawn, scores)
    before, digest = images.check()
    settings = {
        **asdict(config),
        "dataset": dataset.name,
        "source": scores.source,
        "align_corners": scores.align_corners,
        "image ids": drawn,
        "digest of images, labels and scores": digest,
    }
    logger.info("search on %d images, mIoU %.4f without CRF", len(drawn), before)
    if overwrite:
        for path in old:
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    with open_study(folder, config, settings) as study:
        grids, rows = _all_rounds(study, images, config)
    best = first_best({point: row.miou for point, row in rows.items()})
    crf = best_config(best, config)
    write_images(folder / IMAGES_FILE, drawn)
    write_table(folder / TABLE_FILE, list(rows.values()))
    write_heatmap(folder / HEATMAP_FILE, grids, {point: row.miou for point, row in rows.items()}, best)
    head = [
        "CRF parameters chosen by a search; theta_alpha, theta_gamma in pixels, theta_beta of 0..255",
        f"scores: {scores.source}",
        f"mIoU: {100 * rows[best].miou:.3f} % ({100 * before:.3f} % without CRF), one confusion matrix",
        f"images: {len(drawn)} of {dataset.name}, listed in {IMAGES_FILE}; leave them out of reported scores",
    ]
    write_best(folder / BEST_FILE, crf, head)
    logger.info("search: mIoU %.4f at w1 %g, theta_alpha %g, theta_beta %g", rows[best].miou, *best)
    return crf


def draw_images(ids: Sequence[str], config: SearchConfig) -> list[str]:
    """The images that a search chooses on: `config.images` of `ids`, by `config.seed`, in the order of `ids`.

    Raises:
        InputError: fewer ids than that, or an id twice.
    """
    if len(set(ids)) != len(ids):
        raise InputError(f"search: {len(ids) - len(set(ids))} image ids come twice; expected each once")
    if len(ids) < config.images:
        raise InputError(f"search.images is {config.images}; there are {len(ids)} images to draw from")
    chosen = np.random.default_rng(config.seed).choice(len(ids), config.images, replace=False)
    return [ids[i] for i in sorted(chosen.tolist())]


class _Case(NamedTuple):
    """One image with everything that scoring needs."""

    image: Image
    labels: LabelMap
    logits: Logits


class _Images:
    """The drawn images; each visit reads and upsamples anew, which is small beside its mean field."""

    def __init__(self, dataset: SegmentationDataset, ids: Sequence[str], scores: ScoreFolder) -> None:
        self._dataset, self._ids, self._scores = dataset, ids, scores
        self._index = {id_: i for i, id_ in enumerate(dataset.ids)}
        self.num_classes = dataset.num_classes

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[_Case]:
        for id_ in self._ids:
            sample = self._dataset[self._index[id_]]
            logits = self._scores.logits(id_, (sample.labels.shape[0], sample.labels.shape[1]))
            yield _Case(sample.image[None], sample.labels, logits)

    def check(self) -> tuple[float, str]:
        """Reads everything once, so that nothing can stop a long search in its middle.

        Returns:
            mIoU without CRF, and a digest of images, labels and scores.
        """
        unknown = [id_ for id_ in self._ids if id_ not in self._index]
        if unknown:
            raise InputError(
                f"search: {self._dataset.name} has no image {unknown[0]!r}; it has {len(self._index)}"
            )
        confusion = _no_pixels(self.num_classes)
        digest = hashlib.sha256()
        for id_, case in zip(self._ids, tqdm(self, desc="check", unit="image", mininterval=0.5), strict=True):
            if case.image.shape[-2:] != case.labels.shape:
                raise InputError(f"{self._dataset.name} {id_}: image and labels differ in size")
            confusion += confusion_matrix(case.logits[0].max(0).indices, case.labels, self.num_classes)
            for tensor in (case.image, case.labels, self._scores.scores(id_)):
                digest.update(tensor.contiguous().numpy().data)
        if confusion.sum() == 0:
            raise InputError(f"search: all pixels of the {len(self)} images are void ({VOID})")
        return float(metrics(confusion).miou), digest.hexdigest()


def _all_rounds(
    study: Study, images: _Images, config: SearchConfig
) -> tuple[list[Grid], dict[Point, Scored]]:
    """All points in the order that decides ties."""
    grids: list[Grid] = []
    rows: dict[Point, Scored] = {}
    with tqdm(desc="search", total=0, unit="image", mininterval=0.5) as bar:
        for number in range(1, config.rounds + 1):
            if number == 1:
                grid = coarse_grid(config)
            else:
                grid = finer_grid(config, first_best({p: row.miou for p, row in rows.items()}), number)
            new = [point for point in grid.points() if point not in rows]
            _score_round(study, images, config, number, new, bar)
            rows.update((point, study.finished[point]) for point in new)
            grids.append(grid)
    return grids, rows


def _score_round(
    study: Study,
    images: _Images,
    config: SearchConfig,
    number: int,
    points: Sequence[Point],
    bar: "tqdm[Any]",
) -> None:
    """Scores what the study lacks of `points`."""
    groups: dict[tuple[float, float], list[Point]] = {}
    for point in points:
        groups.setdefault((point.theta_alpha, point.theta_beta), []).append(point)
    # A group that a kill left half told is computed whole, so that its numbers do not depend on the kill.
    left = [group for group in groups.values() if any(point not in study.finished for point in group)]
    bar.total = (bar.total or 0) + len(left) * len(images)
    for group in left:
        start = time.perf_counter()
        confusions = _confusions(group, images, config, bar)
        seconds = (time.perf_counter() - start) / len(group)
        for point, confusion in zip(group, confusions, strict=True):
            if point not in study.finished:
                study.tell(Scored(number, point, confusion, seconds))
        bar.set_postfix(best=f"{100 * max(row.miou for row in study.finished.values()):.2f}%")


def _confusions(
    group: Sequence[Point], images: _Images, config: SearchConfig, bar: "tqdm[Any]"
) -> list[_Confusion]:
    """One confusion matrix over all images for each point of a group."""
    totals = [_no_pixels(images.num_classes) for _ in group]
    weights = [point.w1 for point in group]
    for case in images:
        log_q = sweep_w1(case.logits, case.image, weights, group[0].theta_alpha, group[0].theta_beta, config)
        predictions = log_q.max(1).indices  # argmax over an axis that is not the last takes six times as long
        for total, prediction in zip(totals, predictions, strict=True):
            total += confusion_matrix(prediction, case.labels, images.num_classes)
        bar.update()
    return totals


def _no_pixels(num_classes: int) -> _Confusion:
    return torch.zeros(num_classes, num_classes, dtype=torch.int64)


def _outputs_there(folder: Path, *, resume: bool, overwrite: bool) -> list[Path]:
    """The files of another search in `folder`; refuses them unless told what to do with them."""
    if resume and overwrite:
        raise InputError("search: resume and overwrite exclude each other")
    names = (STUDY_FILE, f"{STUDY_FILE}-journal", BEST_FILE, TABLE_FILE, HEATMAP_FILE, IMAGES_FILE)
    there = [folder / name for name in names if (folder / name).exists()]
    if there and not (resume or overwrite):
        raise InputError(
            f"{folder}: holds {there[0].name} of another search; resume, overwrite, or choose another"
        )
    if there and resume and not (folder / STUDY_FILE).exists():
        raise InputError(
            f"{folder}: holds {there[0].name} but no {STUDY_FILE} to resume; overwrite, or choose another"
        )
    return there
