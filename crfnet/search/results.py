"""What a search leaves behind: best.yaml, table.csv, heatmap.png, images.txt, and with folds folds.csv."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from crfnet.crf.config_file import save_crf_config
from crfnet.crf.layer import CRFConfig
from crfnet.files import write_atomically
from crfnet.search.config import SearchConfig
from crfnet.search.counting import Counted
from crfnet.search.grid import AXES, Point
from crfnet.search.heatmap import write_heatmap
from crfnet.search.images import Images
from crfnet.search.leaderboard import Candidate, Leaderboard
from crfnet.search.task_queue import STUDY_FILE

__all__ = [
    "BEST_FILE",
    "FOLDS_FILE",
    "HEATMAP_FILE",
    "IMAGES_FILE",
    "OUTPUTS",
    "TABLE_FILE",
    "best_config",
    "write_folds",
    "write_results",
    "write_table",
]

BEST_FILE = "best.yaml"
TABLE_FILE = "table.csv"
HEATMAP_FILE = "heatmap.png"
IMAGES_FILE = "images.txt"
FOLDS_FILE = "folds.csv"
#: Every file of a search.
OUTPUTS = (STUDY_FILE, f"{STUDY_FILE}-journal", BEST_FILE, TABLE_FILE, HEATMAP_FILE, IMAGES_FILE, FOLDS_FILE)


def best_config(point: Point, config: SearchConfig) -> CRFConfig:
    """The CRF at `point`; with all iterations everywhere, of which `tolerance` saves the search some."""
    return CRFConfig(**point._asdict(), normalization=config.normalization, prune=config.prune)


def write_results(folder: Path, ledger: Leaderboard, images: Images, before: Counted) -> None:
    """Writes all files of a finished search.

    Args:
        folder: receives them.
        ledger: of the whole search.
        images: in the order of visit, in which they are listed.
        before: what is counted without CRF.
    """
    config, criterion, everything = ledger.config, ledger.criterion, ledger.views[0]
    best = ledger.best(everything)
    score = ledger.score(best, everything.images)
    plain = float(criterion.score(before.counts[0].sum(0)))
    head = [
        "CRF parameters chosen by a search; theta_alpha, theta_gamma in pixels, theta_beta of 0..255",
        f"scores: {images.scores.source}",
        f"{criterion.label}: {100 * score:.3f} % ({100 * plain:.3f} % without CRF), one confusion matrix",
        f"images: {len(images)} of {images.dataset.name}, listed in {IMAGES_FILE}; "
        "leave them out of reported scores",
    ]
    if config.folds:
        honest = ledger.cross_validated()
        head.insert(
            3,
            f"cross-validated in {config.folds} folds: {100 * honest:.3f} % (each image without its own say)",
        )
        write_folds(folder / FOLDS_FILE, ledger, images.ids)
    write_atomically(folder / IMAGES_FILE, "".join(f"{id_}\n" for id_ in images.ids).encode())
    write_table(folder / TABLE_FILE, ledger)
    write_heatmap(folder / HEATMAP_FILE, ledger)
    save_crf_config(folder / BEST_FILE, best_config(best, config), head)


def write_table(path: Path, ledger: Leaderboard) -> None:
    """Writes one line a point: its score (0..1) over the images it has seen, and how many those are.

    They are the first ones in images.txt. A point that has not seen all was dropped in a race: its scores do
    not compare with those of the others. `seconds` is wall time.
    """
    criterion = ledger.criterion
    own = [] if criterion.uses_confusion else [criterion.label.replace(" ", "_")]
    names = ["round", *AXES, *own, "miou", "pixel_accuracy", "images", "seconds"]
    _write_csv(path, [names, *(_line(ledger, row) for row in ledger.rows.values())])


def _line(ledger: Leaderboard, row: Candidate) -> list[str]:
    scores = [f"{row.miou:.6f}", f"{row.pixel_accuracy:.6f}"]
    if not ledger.criterion.uses_confusion:
        scores.insert(0, f"{ledger.score(row.point, range(row.images)):.6f}")
    return [str(row.round), *_values(row.point), *scores, str(row.images), f"{row.seconds:.3f}"]


def write_folds(path: Path, ledger: Leaderboard, ids: Sequence[str]) -> None:
    """Writes one line a fold: its winner, chosen on the other images, and the score there and on the fold.

    The last line is that of all images: the winner of `best.yaml` with its score, which has looked at its own
    images, and the cross-validated score, in which every image has the winner chosen without it.
    """
    lines = [["fold", "images", *AXES, "score_where_chosen", "score_held_out", "ids"]]
    for k, view in enumerate(ledger.views[1:], 1):
        best = ledger.best(view)
        pair = (ledger.score(best, view.images), ledger.score(best, view.held_out))
        held_out = " ".join(ids[i] for i in view.held_out)
        lines.append([str(k), str(len(view.held_out)), *_values(best), *(f"{s:.6f}" for s in pair), held_out])
    everything = ledger.views[0]
    best = ledger.best(everything)
    pair = (ledger.score(best, everything.images), ledger.cross_validated())
    lines.append(["all", str(len(ids)), *_values(best), *(f"{s:.6f}" for s in pair), ""])
    _write_csv(path, lines)


def _values(point: Point) -> list[str]:
    return [f"{value:.9g}" for value in point]


def _write_csv(path: Path, lines: Iterable[Sequence[str]]) -> None:
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows(lines)
    write_atomically(path, content.getvalue().encode())
