"""The paper's coarse search, beside a loop over pydensecrf with one process per core where that is there.

    python experiments/bench/search.py [--images FILE ...] [--pictures 4] [--beside 2] [--cores 2]
    python experiments/bench/search.py --camvid ROOT --scores val.npz [--pictures 8] [--beside 4]
    python experiments/bench/search.py ... --pictures 100 --only plain racing        # what a race saves

The whole is 128 points x 100 images (w1 3..6, theta_alpha 30..100, theta_beta 3..6; w2 = theta_gamma = 3,
10 iterations). Measured is a part: ``--points`` groups of four points (every w1 of a pair of thetas,
spread over the grid; all 32 unless told otherwise) on ``--pictures`` images, and of pydensecrf
``--beside`` of these groups on the same images, all sides in this run and on as many cores, reading
included; not the start of processes, nor the compilation of kernels, nor the drawing of the table. What
the whole would take is the measured time per point and image times 12,800, and said to be so; a race is
counted as if it dropped points on 100 images at the rate of the sample, so give it as many pictures as you
can wait for (it tests after every 10).

The sides: every point on every image (plain), and a race.

Without CamVid: 500 x 375 pixels, 21 classes, given pictures or a made-up one in shifted copies, and scores of
a made-up confident network. Printed are ratios, how far mIoU moves
from the first side, point by point, and each side's winner.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import posthoc
import torch
from torch import Tensor

from crfnet.data import DataConfig, Sample, SegmentationDataset, load_dataset
from crfnet.evaluation.confusion import confusion_matrix, metrics
from crfnet.labels import VOC_PALETTE
from crfnet.score_cache import ScoreFolder, write_scores
from crfnet.search import SearchConfig, draw_images, search
from crfnet.search.grid import AXES, Point
from crfnet.search.run_tasks import run_tasks
from crfnet.search.sweep import sweep_labels

WHOLE = 128 * 100
ARMS = {
    "plain": {},
    "racing": {"racing": 0.05},
}


class Found(NamedTuple):
    """What a side took, for how many points, and the mIoU of those that it scored on all images."""

    seconds: float
    points: int
    miou: dict[Point, float]


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    options.threads, options.classes, options.iterations, options.repeats = options.cores, 21, 10, 1
    posthoc.header(options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset, scores = camvid(options) if options.camvid else made_up(options, folder)
        config, beside = sample(options, options.points), sample(options, options.beside)
        compile_kernels()
        size = "x".join(map(str, dataset[0].labels.shape))
        print(
            f"sample     {len(config.grid().points())} points (pydensecrf {len(beside.grid().points())}) "
            f"x {options.pictures} images of {size}, {dataset.num_classes} classes"
        )
        found = {
            arm: by_crfnet(dataset, scores, replace(config, **changes), folder / arm)
            for arm, changes in ARMS.items()
            if not options.only or arm in options.only
        }
        if posthoc.dcrf is not None and (not options.only or "pydensecrf" in options.only):
            found["pydensecrf"] = by_pydensecrf(dataset, scores, beside, options.cores)
    show(found, options.pictures)


def compile_kernels() -> None:
    """Once in this process; the workers find them in the cache."""
    image = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    list(sweep_labels(torch.randn(1, 11, 16, 16), image, SearchConfig().grid().points()[:1], SearchConfig()))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, nargs="*", default=[], help="pictures; default: a made-up one")
    parser.add_argument("--camvid", type=Path, help="CamVid in VOC's layout; needs --scores")
    parser.add_argument("--scores", type=Path, help="score folder or .npz of CamVid's val images")
    parser.add_argument("--points", type=int, default=32, help="pairs of thetas, with four w1 each")
    parser.add_argument("--beside", type=int, default=4, help="the same, of pydensecrf")
    parser.add_argument("--pictures", type=int, default=2, help="images; a race tests from 11 on")
    parser.add_argument("--only", nargs="*", choices=[*ARMS, "pydensecrf"], help="sides; default: all")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def sample(options: argparse.Namespace, pairs: int) -> SearchConfig:
    """The paper's grid, thinned: all w1, and pairs of thetas from all over it."""
    whole = SearchConfig().grid()
    across = min(len(whole.theta_beta), max(1, round(pairs**0.5)))
    alphas = spread(whole.theta_alpha, -(-pairs // across))
    return SearchConfig(
        images=options.pictures,
        theta_alpha=alphas,
        theta_beta=spread(whole.theta_beta, across),
        rounds=1,
        workers=options.cores,
    )


def spread(values: tuple[float, ...], number: int) -> tuple[float, ...]:
    return tuple(values[i] for i in sorted({round(i) for i in np.linspace(0, len(values) - 1, number)}))


class MadeUp(SegmentationDataset):
    """Pictures in shifted copies; the labels are those that a perfect network would find, noise apart."""

    def __init__(self, paths: list[Path], number: int) -> None:
        self.name, self.classes, self.palette = "made up", tuple(map(str, range(21))), VOC_PALETTE[:21]
        self.ids = tuple(f"{i:03}" for i in range(number))
        self.pairs = []
        for path in paths or [None]:
            image = posthoc.photo_like(375, 500) if path is None else posthoc.load(path)
            self.pairs.append((image[0], posthoc.scores(image, path, 21, "sure")[0].argmax(0)))

    def __getitem__(self, index: int) -> Sample:
        image, labels = self.pairs[index % len(self.pairs)]
        shift = 37 * (index // len(self.pairs))
        return Sample(self.ids[index], image.roll(shift, 2), labels.roll(shift, 1))

    def scores(self) -> Iterator[tuple[str, Tensor]]:
        """At stride 8, with the mistakes of a network: blurred, and noise over several pixels."""
        for i, image_id in enumerate(self.ids):
            labels = self[i].labels
            truth = torch.nn.functional.one_hot(labels, 21).permute(2, 0, 1).unsqueeze(0).float()
            coarse = torch.nn.functional.avg_pool2d(truth, 25, stride=8, padding=12, count_include_pad=False)
            noise = torch.randn(coarse.shape, generator=torch.Generator().manual_seed(i))
            noise = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)
            yield image_id, (14 * coarse + 2 * noise)[0]


def made_up(options: argparse.Namespace, folder: Path) -> tuple[SegmentationDataset, ScoreFolder]:
    dataset = MadeUp(options.images, options.pictures)
    return dataset, write_scores(folder / "scores", dataset.scores(), 21, False, "made up")


def camvid(options: argparse.Namespace) -> tuple[SegmentationDataset, ScoreFolder]:
    return load_dataset(DataConfig(name="camvid", root=options.camvid), "val"), ScoreFolder(options.scores)


def by_crfnet(dataset: SegmentationDataset, scores: ScoreFolder, config: SearchConfig, folder: Path) -> Found:
    """Seconds from the first unit of work to the last, and the mIoU of points that have seen all images."""
    seconds = 0.0

    def timed(*args: Any, **options: Any) -> Any:
        nonlocal seconds
        start = time.perf_counter()
        leaderboard = run_tasks(*args, **options)
        seconds = time.perf_counter() - start
        return leaderboard

    with patch.object(import_module("crfnet.search.search"), "run_tasks", timed):
        search(dataset, dataset.ids, scores, config, folder)
    lines = [line.split(",") for line in (folder / "table.csv").read_text().splitlines()]
    named = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    whole = [line for line in named if int(line["images"]) == config.images]
    miou = {Point(*(float(line[axis]) for axis in AXES)): float(line["miou"]) for line in whole}
    return Found(seconds, len(named), miou)


def by_pydensecrf(
    dataset: SegmentationDataset, scores: ScoreFolder, config: SearchConfig, cores: int
) -> Found:
    """The loop that everybody writes: point by point, image by image, a process for each core."""
    points = config.grid().points()
    ids = draw_images(dataset.ids, config)
    jobs = [(dataset, scores, image_id, point) for point in points for image_id in ids]
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        pool.map(warm, range(8 * cores), chunksize=1)  # processes are started before the clock is
        start = time.perf_counter()
        confusions = pool.map(one, jobs, chunksize=1)
        seconds = time.perf_counter() - start
    miou = {}
    for i, point in enumerate(points):
        total = torch.stack(confusions[i * len(ids) : (i + 1) * len(ids)]).sum(0)
        miou[point] = float(metrics(total).miou)
    return Found(seconds, len(points), miou)


def warm(number: int) -> None:
    torch.set_num_threads(1)
    time.sleep(0.2)


def one(job: tuple[SegmentationDataset, ScoreFolder, str, Point]) -> Tensor:
    dataset, scores, image_id, point = job
    case = dataset[dataset.ids.index(image_id)]
    logits = scores.logits(image_id, tuple(case.labels.shape))
    labels = posthoc.by_pydensecrf(case.image[None], logits, point)
    return confusion_matrix(torch.from_numpy(labels), case.labels, dataset.num_classes)


def show(found: dict[str, Found], pictures: int) -> None:
    """The sides, one below the other; moves and winners on the points that every side has."""
    first = next(iter(found.values())).miou
    common = [point for point in first if all(point in side.miou for side in found.values())]
    print(
        "\n| side | s, sample | s per point and image | 128 x 100, h (extrapolated) | times pydensecrf | "
        f"largest move of mIoU | winner w1, alpha, beta | mIoU | of {len(common)} points |\n|" + " --- |" * 9
    )
    for side, (seconds, points, miou) in found.items():
        each = seconds / points / pictures
        ratio = "-"
        if "pydensecrf" in found:
            theirs = found["pydensecrf"]
            ratio = f"{theirs.seconds / theirs.points / pictures / each:.2f}"
        moved = max(abs(miou[point] - first[point]) for point in miou if point in first)
        best, among = (max(some, key=miou.__getitem__) for some in (miou, common))
        print(
            f"| {side} | {seconds:.1f} | {each:.3f} | {each * WHOLE / 3600:.2f} | {ratio} | {moved:.5f} "
            f"| {name(best)} | {miou[best]:.4f} | {name(among)} |"
        )


def name(point: Point) -> str:
    return f"{point.w1:g}, {point.theta_alpha:g}, {point.theta_beta:g}"


if __name__ == "__main__":
    main()
