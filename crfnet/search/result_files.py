"""Output files of a search: best.yaml, table.csv, heatmap.png, images.txt, and with folds folds.csv."""

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from crfnet.crf.config_file import load_crf_config, save_crf_config
from crfnet.crf.layer import CRFConfig
from crfnet.errors import InputError
from crfnet.files import one_line, regular, write_atomically, write_csv
from crfnet.search.config import SearchConfig
from crfnet.search.grid import AXES, Point
from crfnet.search.heatmap import write_heatmap
from crfnet.search.images import SearchImages
from crfnet.search.leaderboard import Candidate, Leaderboard
from crfnet.search.task_queue import STUDY_FILE

__all__ = [
    "BEST_FILE",
    "FOLDS_FILE",
    "HEATMAP_FILE",
    "IMAGES_FILE",
    "OUTPUT_FILES",
    "TABLE_FILE",
    "best_config",
    "read_folds",
    "write_folds",
    "write_results",
    "write_table",
]

BEST_FILE = "best.yaml"
TABLE_FILE = "table.csv"
HEATMAP_FILE = "heatmap.png"
IMAGES_FILE = "images.txt"
FOLDS_FILE = "folds.csv"
#: Every file of what a search found, and of a search.
RESULT_FILES = (BEST_FILE, TABLE_FILE, HEATMAP_FILE, IMAGES_FILE, FOLDS_FILE)
OUTPUT_FILES = (STUDY_FILE, f"{STUDY_FILE}-journal", *RESULT_FILES)


#: What is said where the best point is no better than the network alone.
WORSE = "no CRF that was tried is better than none here: try smaller w1, or use none"


def best_config(point: Point, config: SearchConfig) -> CRFConfig:
    """The CRF at `point`; it does all iterations everywhere, without the search's `tolerance`."""
    return CRFConfig(**point._asdict(), normalization=config.normalization, prune=config.prune)


def write_results(
    folder: Path, leaderboard: Leaderboard, images: SearchImages, network_metric: float
) -> None:
    """Write all files of a finished search.

    Args:
        folder: receives them.
        leaderboard: of the whole search.
        images: in the evaluation order, in which they are listed.
        network_metric: of the network alone, 0..1.
    """
    config, criterion, overall = leaderboard.config, leaderboard.criterion, leaderboard.overall
    best = leaderboard.best(overall)
    metric = leaderboard.metric(best, overall.selection_images)
    header = [
        "CRF parameters chosen by a search; theta_alpha, theta_gamma in pixels, theta_beta of 0..255",
        f"scores: {images.scores.source}",
        f"{criterion.label}: {100 * metric:.3f} % ({100 * network_metric:.3f} % without CRF)",
        f"images: {len(images)} of {images.dataset.name}, listed in {IMAGES_FILE}; "
        "exclude them from reported metrics",
    ]
    if metric <= network_metric:
        header.insert(3, WORSE)
    if config.folds:
        header.insert(
            3,
            f"cross-validated in {config.folds} folds: {100 * leaderboard.cross_validated():.3f} % "
            "(each image with the parameters chosen on the other folds)",
        )
        write_folds(folder / FOLDS_FILE, leaderboard, images.ids)
    write_atomically(folder / IMAGES_FILE, "".join(f"{image_id}\n" for image_id in images.ids).encode())
    write_table(folder / TABLE_FILE, leaderboard)
    write_heatmap(folder / HEATMAP_FILE, leaderboard)
    save_crf_config(folder / BEST_FILE, best_config(best, config), header)


def write_table(path: Path, leaderboard: Leaderboard) -> None:
    """Write one line per point: its metrics (0..1), and the number of images they are computed on.

    These are the first ones in images.txt. A point without all images was eliminated in a race: its metrics
    cannot be compared with those of the others. `seconds` is wall time.
    """
    criterion = leaderboard.criterion
    extra = [] if criterion.uses_confusion else [criterion.label.replace(" ", "_")]
    names = ["round", *AXES, *extra, "miou", "pixel_accuracy", "images", "seconds"]
    write_csv(path, names, (_table_row(leaderboard, each) for each in leaderboard.candidates.values()))


def _table_row(leaderboard: Leaderboard, candidate: Candidate) -> list[str]:
    metrics = [f"{candidate.miou:.6f}", f"{candidate.pixel_accuracy:.6f}"]
    if not leaderboard.criterion.uses_confusion:
        metric = leaderboard.metric(candidate.point, range(candidate.num_images))
        metrics.insert(0, f"{metric:.6f}")
    images, seconds = str(candidate.num_images), f"{candidate.seconds:.3f}"
    return [str(candidate.round), *_parameters(candidate.point), *metrics, images, seconds]


def write_folds(path: Path, leaderboard: Leaderboard, ids: Sequence[str]) -> None:
    """Write one line per fold: its best point, and the metric where it was chosen and on the held-out images.

    The last line is that of all images: the point of `best.yaml` with the metric on the images that it was
    chosen on, and the cross-validated metric, in which every image has the point chosen without it.
    """
    rows = []
    for k, fold in enumerate(leaderboard.folds, 1):
        best, held_out = leaderboard.best(fold), fold.held_out_images
        metrics = (leaderboard.metric(best, fold.selection_images), leaderboard.metric(best, held_out))
        rows.append(
            [str(k), str(len(held_out)), *_fold_row(best, metrics), json.dumps([ids[i] for i in held_out])]
        )
    overall = leaderboard.overall
    best = leaderboard.best(overall)
    metrics = (leaderboard.metric(best, overall.selection_images), leaderboard.cross_validated())
    rows.append(["all", str(len(ids)), *_fold_row(best, metrics), ""])
    write_csv(path, _FOLD_HEADER, rows)


def read_folds(path: Path) -> dict[str, CRFConfig]:
    """The CRF that each image gets in a cross-validation: with the point that was chosen on the other folds.

    Args:
        path: what `write_folds` wrote; normalization and pruning are those of `best.yaml` beside it.

    Raises:
        InputError: it is no such file, or `best.yaml` is missing.
    """
    best = load_crf_config(path.parent / BEST_FILE)
    found: dict[str, CRFConfig] = {}
    try:
        header, *rows = csv.reader(regular(path).read_text(encoding="utf-8").splitlines())
        if header != _FOLD_HEADER:
            raise ValueError(f"its columns are {', '.join(header)}")
        for row in rows[:-1]:
            *values, iterations = row[2 : 2 + len(AXES)]
            point = Point._make([*map(float, values), int(iterations)])
            crf = dataclasses.replace(best, **point._asdict())
            found |= dict.fromkeys(_ids(row[-1]), crf)
        if rows[-1][0] != "all" or len(found) != int(rows[-1][1]):
            raise ValueError("a line is missing")
    except (OSError, ValueError, IndexError, TypeError, csv.Error) as error:
        raise InputError(f"{path}: not the {FOLDS_FILE} of a search ({one_line(error)})") from error
    return found


def _ids(cell: str) -> list[str]:
    """A list in JSON, since an id may hold spaces; files of 0.1.0 have spaces between ids."""
    return [str(name) for name in json.loads(cell)] if cell.startswith("[") else cell.split()


_FOLD_HEADER = ["fold", "images", *AXES, "selection_metric", "held_out_metric", "ids"]


def _fold_row(best: Point, metrics: tuple[float, float]) -> list[str]:
    return [*_parameters(best), *(f"{metric:.6f}" for metric in metrics)]


def _parameters(point: Point) -> list[str]:
    return [f"{value:.9g}" for value in point]
