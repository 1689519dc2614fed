"""What a search does on one lattice, four w1 side by side, on cached scores, beside pydensecrf.

    python experiments/bench/search_weights.py SCORES.npz IMAGES [--corners] [--labels MASKS] [--images 4]

Scores and images as of mean_field_cpu.py. w1 3 to 6, w2 = theta_gamma = 3, 10 iterations, "after"; lattices
and labels included, on one thread each, in processor time. pydensecrf does one weight, once for every
lattice, right after ours, and its time counts as that of each. Labels are compared with those of every pixel
taking all iterations and no message reduced; with masks (MASKS/id.png) so is the mIoU of every point over all
images of the run. ``--wall`` takes the clock on the wall instead.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from header import print_header
from mean_field_cpu import add_images, load, ways
from PIL import Image
from torch import Tensor

from crfnet.crf.allocator import retain_freed_memory
from crfnet.crf.inference import MeanField
from crfnet.crf.layer import CRFConfig
from crfnet.evaluation.confusion import confusion_matrix, metrics
from crfnet.kernels.cpu import settling
from crfnet.search.config import SearchConfig
from crfnet.search.grid import Point
from crfnet.search.sweep import sweep, sweep_labels


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    print_header()
    config = SearchConfig(tolerance=options.tolerance)
    print("| image | theta | ours, ms per point | pydensecrf, ms | times | active | channels | changed |")
    print("|" + " --- |" * 8)
    ratios, confusions, ids = [], defaultdict(lambda: 0), np.load(options.scores)["ids"]
    with torch.inference_mode(), retain_freed_memory(torch.device("cpu")):
        for number in range(0, options.images * options.every, options.every):
            image, logits = load(options, number)
            for theta in options.theta:
                alpha, beta = map(float, theta.split("/"))
                points = [Point(w1, alpha, beta, 3.0, 3.0, 10) for w1 in (3.0, 4.0, 5.0, 6.0)]
                least, theirs, found, traces = timed(image, logits, points, config, options)
                whole = exactly(logits, image, points)
                changed = [(found[p] != whole[p]).float().mean().item() for p in points]
                ratios.append(theirs / least)
                shares = " ".join(f"{100 * share:.0f}" for trace in traces for share in trace.active)
                channels = " ".join(str(n) for trace in traces for n in trace.channels)
                print(
                    f"| {number} | {theta} | {1000 * least:.1f} | {1000 * theirs:.0f} "
                    f"| {ratios[-1]:.1f} | {shares} % | {channels} | {max(changed):.3%} |",
                    flush=True,
                )
                if options.labels:
                    truth = mask(options.labels / f"{ids[number]}.png")
                    for kind, answers in (("ours", found), ("whole", whole)):
                        for point in points:
                            confusions[kind, point] += confusion_matrix(
                                answers[point], truth, logits.shape[1]
                            )
    print(f"{np.median(ratios):.1f} times pydensecrf (median), {min(ratios):.1f} (worst)")
    moves = [
        abs(float(metrics(counts).miou) - float(metrics(confusions["whole", point]).miou))
        for (kind, point), counts in confusions.items()
        if kind == "ours"
    ]
    if moves:
        print(f"largest move of a point's mIoU: {max(moves):.5f}, of {len(moves)} points")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_images(parser, images=4, every=20)
    parser.add_argument("--labels", type=Path, help="folder of masks, 255 where void")
    parser.add_argument("--theta", nargs="+", default=["30/3", "60/4", "100/6"])
    parser.add_argument("--tolerance", type=float, default=SearchConfig().tolerance)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--wall", action="store_true")
    return parser.parse_args()


def timed(
    image: Tensor, logits: Tensor, points: list[Point], config: SearchConfig, options: argparse.Namespace
) -> tuple[float, float, dict[Point, Tensor], list[settling.Labels]]:
    """Least seconds of a point, and of pydensecrf; the labels, and what the loop says of its steps."""
    clock = time.perf_counter if options.wall else time.process_time
    alpha, beta = points[0].theta_alpha, points[0].theta_beta
    runs = ways(image, logits, CRFConfig(w1=4, theta_alpha=alpha, theta_beta=beta))
    found, traces = labels(logits, image, points, config)  # compiled code is loaded, pages are made
    ours, theirs = [], []
    for _ in range(options.repeats):
        start = clock()
        labels(logits, image, points, config)
        ours.append((clock() - start) / len(points))
        start = clock()
        if "pydensecrf" in runs:
            runs["pydensecrf"]()
        theirs.append(clock() - start if "pydensecrf" in runs else float("nan"))
    return min(ours), min(theirs), found, traces


def labels(
    logits: Tensor, image: Tensor, points: list[Point], config: SearchConfig
) -> tuple[dict[Point, Tensor], list[settling.Labels]]:
    """Labels of the points, and what the loop says of its steps."""
    traces, run = [], settling.settled_labels

    def traced(*args, **given):
        traces.append(run(*args, **given))
        return traces[-1]

    with patch.object(settling, "settled_labels", traced):
        return dict(sweep_labels(logits, image, points, config)), traces


def exactly(logits: Tensor, image: Tensor, points: list[Point]) -> dict[Point, Tensor]:
    """Labels where every pixel takes all iterations and no message is reduced."""
    with patch("crfnet.search.sweep.MeanField", lambda: MeanField(reduce=0.0)):
        return {p: q[0].max(0).indices for p, q in sweep(logits, image, points, SearchConfig())}


def mask(path: Path) -> Tensor:
    with Image.open(path) as file:
        return torch.from_numpy(np.array(file)).long()


if __name__ == "__main__":
    main()
