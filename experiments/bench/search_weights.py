"""Times what a search does on one lattice, four w1 side by side, on cached scores, beside pydensecrf.

    python experiments/bench/search_weights.py SCORES.npz IMAGES [--corners] [--images 4] [--threads 1]

Scores and images as of mean_field_cpu.py. w1 3 to 6, w2 = theta_gamma = 3, 10 iterations, "after"; lattices
included, argmax included. pydensecrf does one weight and its time counts as that of each.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import torch
from mean_field_cpu import load, ways

from crfnet.crf.layer import CRFConfig
from crfnet.search.config import SearchConfig
from crfnet.search.grid import Point
from crfnet.search.sweep import sweep


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scores", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--corners", action="store_true", help="the scores' corners are the image's")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--every", type=int, default=20, help="every so many-th image")
    parser.add_argument("--theta", nargs="+", default=["30/3", "60/4", "100/6"])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ours, theirs = [], []
    for number in range(0, options.images * options.every, options.every):
        image, logits = load(options, number)
        for theta in options.theta:
            alpha, beta = map(float, theta.split("/"))
            points = [Point(w1, alpha, beta, 3.0, 3.0, 10) for w1 in (3.0, 4.0, 5.0, 6.0)]
            if not ours:
                labels(logits, image, points)  # compiled code is loaded
            ours.append(seconds(partial(labels, logits, image, points)) / len(points))
            runs = ways(image, logits, CRFConfig(w1=4, theta_alpha=alpha, theta_beta=beta))
            theirs.append(seconds(runs["pydensecrf"]))
    mine, other = sum(ours) / len(ours), sum(theirs) / len(theirs)
    print(f"{mine:.3f} s per point and image, pydensecrf {other:.3f} s: {other / mine:.1f} times")


def labels(logits, image, points) -> list[torch.Tensor]:
    return [log_q[0].max(0).indices for _, log_q in sweep(logits, image, points, SearchConfig())]


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
