"""How wide the plateau of a search is, and how far the published parameters are from it.

    python experiments/grid_search/plateau.py --searches runs/voc_after/search runs/voc_symmetric/search \
        --config runs/voc.yaml --scores SCORES

For finished searches of one data set, one for each normalization: mIoU over theta_alpha and theta_beta, at
the best w1 and with the best w1 everywhere, and over w1. Lines enclose what is within 0.1 points of the best,
and what a paired bootstrap over the images cannot tell from it. Published parameters are tried on the images
of the search (with its iterations, so that parameters alone differ): --scores are needed for that. Left in
OUTPUT: plateau.png, plateau.csv (every point), plateau.md; what was measured is kept when started again.
"""

import argparse
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from plateau_figure import draw
from tqdm import tqdm

from crfnet.crf.config_file import load_crf_config
from crfnet.data import load_dataset
from crfnet.errors import InputError
from crfnet.evaluation.bootstrap import Interval, percentile_interval, resample_counts, resampled
from crfnet.evaluation.confusion import confusion_matrix, tallies, tally_metrics
from crfnet.files import read_arrays, write_atomically, write_csv
from crfnet.pipeline.run_config import Run, load_run
from crfnet.report.numbers import percent, points
from crfnet.score_cache import ScoreFolder
from crfnet.search import SearchConfig
from crfnet.search.database import open_study
from crfnet.search.grid import AXES, Point
from crfnet.search.images import SearchImages
from crfnet.search.result_files import BEST_FILE, IMAGES_FILE
from crfnet.search.sweep import sweep_labels
from crfnet.search.task_queue import STUDY_FILE, StudyLocation

#: w1, theta_alpha, theta_beta, w2, theta_gamma. v1: run script of DeepLab-LargeFOV; v2: the configuration of
#: the ResNet-101 in kazuto1011/deeplab-pytorch; CRF-as-RNN: the released model; pydensecrf: its example.
PUBLISHED = {
    "DeepLab v1": (4.0, 49.0, 5.0, 3.0, 3.0),
    "DeepLab v2": (4.0, 67.0, 3.0, 3.0, 1.0),
    "CRF-as-RNN": (5.0, 160.0, 3.0, 3.0, 3.0),
    "pydensecrf": (10.0, 80.0, 13.0, 3.0, 3.0),
}
ALONE = "network alone"
WITHIN = 0.001  #: of the optimum: a tenth of a point


@dataclass(frozen=True)
class Plateau:
    """A search with what was measured on its images.

    Attributes:
        normalization: of the search.
        images: how many.
        best: the point of the highest mIoU.
        scores: mIoU of every point on all images.
        behind: mIoU minus that of the best, paired, of every point.
        published: the same of the published ones, and of the network alone; empty without scores.
    """

    normalization: str
    images: int
    best: Point
    scores: Mapping[Point, float]
    behind: Mapping[Point, Interval]
    published: Mapping[str, tuple[Point | None, float, Interval]]


def main(arguments: Sequence[str] | None = None) -> None:
    look = {"formatter_class": argparse.RawDescriptionHelpFormatter, "usage": argparse.SUPPRESS}
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, **look)
    parser.add_argument(
        "--searches", type=Path, nargs="+", required=True, metavar="DIR", help="finished ones"
    )
    parser.add_argument(
        "--study", default=SearchConfig().study, help="name in their databases; default: %(default)s"
    )
    parser.add_argument("--scores", type=Path, help="folder of cached scores, or one .npz")
    parser.add_argument("--config", type=Path, help="data set (and bootstrap); needed with --scores")
    parser.add_argument("--output", type=Path, default=Path("runs/plateau"), help="default: %(default)s")
    try:
        plateau(*parser.parse_known_args(arguments))
    except InputError as error:
        parser.error(str(error))


def plateau(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    if options.scores is not None and options.config is None:
        raise InputError("--scores: needs --config CONFIG, which says whose they are")
    run = load_run(options.config, overrides)
    run.set_threads()
    options.output.mkdir(parents=True, exist_ok=True)
    found = []
    for folder in options.searches:
        counts = read_counts(folder, options.study)
        extra = (
            {} if options.scores is None else published_counts(run, folder, options.scores, options.output)
        )
        found.append(measured(folder, counts, extra, run))
    rows = [row for each in found for row in csv_rows(each)]
    columns = ["normalization", "what", *AXES, "miou", "minus_best", "low", "high"]
    write_csv(options.output / "plateau.csv", columns, rows)
    text = "\n".join(line for each in found for line in (*summary(each), ""))
    write_atomically(options.output / "plateau.md", text.encode())
    draw(options.output / "plateau.png", found)
    print(f"{text}\n{options.output / 'plateau.png'}")


def read_counts(folder: Path, study: str) -> dict[Point, torch.Tensor]:
    """The confusion matrices (i, l, l) of every point that was tried on all images of a search."""
    images = len((folder / IMAGES_FILE).read_text().split()) if (folder / IMAGES_FILE).is_file() else 0
    if not images or not (folder / STUDY_FILE).is_file():
        raise InputError(f"{folder}: no finished search ({IMAGES_FILE} and {STUDY_FILE} are needed)")
    parts: dict[Point, dict[int, torch.Tensor]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as copy:  # a search may be running there; nothing of it is touched
        shutil.copyfile(folder / STUDY_FILE, Path(copy) / STUDY_FILE)
        with open_study(StudyLocation.in_folder(Path(copy), "", study), None) as queue:
            for key, result in queue.finished.items():
                start, _, names = re.fullmatch(r"images (\d+)-(\d+): (.*)", key).groups()
                for name, counts in zip(names.split(), result.counts, strict=True):
                    *values, iterations = name.split("/")
                    parts[Point(*map(float, values), int(iterations))][int(start)] = counts.confusion[0]
    whole = {point: torch.cat([each[start] for start in sorted(each)]) for point, each in parts.items()}
    whole = {point: counts for point, counts in whole.items() if len(counts) == images}
    if not whole:
        raise InputError(
            f"{folder}: no point on all {images} images in study {study!r}, must be a finished search"
        )
    return whole


def published_counts(run: Run, folder: Path, scores: Path, output: Path) -> dict[str, torch.Tensor]:
    """The confusion matrices of `PUBLISHED` and of the network alone on a search's images."""
    best = load_crf_config(folder / BEST_FILE)
    kept = output / f"published_{best.normalization}.npz"
    ids = (folder / IMAGES_FILE).read_text().split()
    if kept.is_file():
        arrays = read_arrays(kept)
        if [str(name) for name in arrays.pop("ids")] == ids and arrays.keys() == {*PUBLISHED, ALONE}:
            return {name: torch.from_numpy(array) for name, array in arrays.items()}
    images = SearchImages(load_dataset(run.data, "val"), ids, ScoreFolder(scores))
    config = SearchConfig(images=len(ids), normalization=best.normalization)
    counts = defaultdict(list)
    for sample in tqdm(images.load(), f"published, {best.normalization}", len(ids), mininterval=0.5):
        labels = {ALONE: sample.logits[0].max(0).indices}
        for name, values in PUBLISHED.items():
            point = Point(*values, best.iterations)
            labels[name] = next(sweep_labels(sample.logits, sample.image, [point], config))[1]
        for name, predicted in labels.items():
            counts[name].append(confusion_matrix(predicted, sample.labels, images.num_classes).int())
    stacked = {name: torch.stack(each) for name, each in counts.items()}
    write_atomically(kept, lambda stream: np.savez_compressed(stream, ids=np.array(ids), **stacked))
    return stacked


def measured(
    folder: Path, counts: Mapping[Point, torch.Tensor], extra: Mapping[str, torch.Tensor], run: Run
) -> Plateau:
    """Scores, and differences from the best with their intervals, all on the same draws of images."""
    config, crf = run.evaluation, load_crf_config(folder / BEST_FILE)

    def miou(sums: torch.Tensor) -> torch.Tensor:
        return tally_metrics(sums, config.absent).miou

    tallied = {name: tallies(each) for name, each in (*counts.items(), *extra.items())}
    scores = {name: float(miou(each.sum(0).double())) for name, each in tallied.items()}
    best = max(counts, key=scores.__getitem__)
    draws = resample_counts(len(tallied[best]), config.draws, config.seed)
    samples = {name: resampled(each, miou, draws) for name, each in tallied.items()}

    def behind(name: Point | str) -> Interval:
        estimate = torch.tensor(scores[name] - scores[best])
        return percentile_interval(estimate, samples[name] - samples[best])

    at = {name: Point(*values, best.iterations) for name, values in PUBLISHED.items()}
    return Plateau(
        normalization=crf.normalization,
        images=len(tallied[best]),
        best=best,
        scores={point: scores[point] for point in counts},
        behind={point: behind(point) for point in counts},
        published={name: (at.get(name), scores[name], behind(name)) for name in extra},
    )


def csv_rows(plateau: Plateau) -> list[list[object]]:
    rows = [("grid", point, plateau.scores[point], gap) for point, gap in plateau.behind.items()]
    rows += [(name, *rest) for name, rest in plateau.published.items()]
    return [
        [plateau.normalization, what, *(point or [""] * len(AXES))]
        + [f"{value:.6f}" for value in (score, gap.estimate, gap.low, gap.high)]
        for what, point, score, gap in rows
    ]


def summary(plateau: Plateau) -> list[str]:
    """What the figure says, in lines of Markdown."""
    best, total = plateau.best, len(plateau.scores)
    lines = [
        f"**{plateau.normalization}**, {plateau.images} images, {total} points: best w1 {best.w1:g}, "
        f"theta_alpha {best.theta_alpha:g}, theta_beta {best.theta_beta:g}: "
        f"{percent(plateau.scores[best])} %.",
        "",
    ]
    kinds = {
        "within 0.1 points of it": [p for p, gap in plateau.behind.items() if gap.estimate >= -WITHIN],
        "not told from it by the bootstrap": [p for p, gap in plateau.behind.items() if gap.high >= 0],
    }
    for what, those in kinds.items():
        spans = (
            f"{axis} {min(values):g} to {max(values):g}"
            for axis in AXES[:3]
            for values in [[getattr(point, axis) for point in those]]
        )
        lines.append(f"- {what}: {len(those)} of {total} points; {', '.join(spans)}")
    for name, (_, score, gap) in plateau.published.items():
        lines.append(f"- {label(name)}: {percent(score)} %, {points(gap)} points from the best")
    return lines


def label(name: str) -> str:
    """A published setting with its numbers."""
    values = PUBLISHED.get(name)
    return name if values is None else f"{name} ({', '.join(f'{value:g}' for value in values[:3])})"


if __name__ == "__main__":
    main()
