"""Times crfnet.pydensecrf beside the original, both through the same few lines of pydensecrf's interface.

    python experiments/bench/pydensecrf_dropin.py [--images FILE ...] [--settings 80/13/10 67/3/4 50/5/4]

A run is what a program does for one image: DenseCRF2D, setUnaryEnergy, addPairwiseGaussian(3, 3),
addPairwiseBilateral(alpha, beta, image, weight), inference(iterations), np.array of its answer; lattices
included. Runs of the two sides alternate, so that a busy machine slows both; ratios are medians over
repeats. The original is single-threaded; processor time stands beside the time on the clock. Where it cannot
be imported only our side is run.

The scores are those of posthoc.py, "even" and "sure" ones.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from posthoc import dcrf as original
from posthoc import header, load, photo_like, scores, timed
from torch import Tensor

import crfnet.pydensecrf.densecrf as ours
from crfnet.pydensecrf.utils import unary_from_softmax

COLUMNS = (
    "image",
    "alpha/beta/weight",
    "scores",
    "iterations",
    "crfnet ms",
    "of processor",
    "pydensecrf ms",
    "of processor",
    "times faster",
    "equal labels",
    "largest difference of Q",
)


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    header(options)
    print(f"device     {options.device}, normalization {options.normalization}")
    images = [(path.stem, path) for path in options.images] or [("made-up", None)]
    print("| " + " | ".join(COLUMNS) + " |")
    print("| --- " * len(COLUMNS) + "|")
    for name, path in images:
        image = load(path) if path else photo_like(375, 500)
        for kind in options.scores:
            logits = scores(image, path, options.classes, kind)
            for setting in options.settings:
                for iterations in options.iterations:
                    row = compare(image, logits, setting, iterations, options)
                    print(
                        f"| {name} | {setting} | {kind} | {iterations} | " + " | ".join(row) + " |",
                        flush=True,
                    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, nargs="*", default=[], help="pictures; default: a made-up one")
    parser.add_argument("--settings", nargs="+", default=["80/13/10", "67/3/4", "50/5/4"], metavar="A/B/W")
    parser.add_argument("--scores", nargs="+", default=["even", "sure"], choices=["even", "sure"])
    parser.add_argument("--iterations", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--normalization", default="NORMALIZE_SYMMETRIC")
    parser.add_argument("--device", default="cpu", help="of our side: cpu, cuda or auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def compare(
    image: Tensor, logits: Tensor, setting: str, iterations: int, options: argparse.Namespace
) -> list[str]:
    """One row: whole runs, everything included."""
    probabilities = logits[0].softmax(0).numpy()
    arguments = (
        np.ascontiguousarray(image[0].permute(1, 2, 0).numpy()),
        np.ascontiguousarray(unary_from_softmax(probabilities)),
        [float(number) for number in setting.split("/")],
        iterations,
        options.normalization,
    )
    runs: dict[str, Callable[[], np.ndarray]] = {
        "crfnet": partial(marginals, ours, *arguments, device=options.device)
    }
    if original is not None:
        runs["pydensecrf"] = partial(marginals, original, *arguments)
    answers = {name: run() for name, run in runs.items()}  # also warms up
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(options.repeats):
        for name, run in runs.items():
            times[name].append(timed(run))
    cells = [f"{statistics.median(taken):.0f}" for name in runs for taken in zip(*times[name], strict=True)]
    if original is None:
        return [*cells, *["-"] * 5]
    ratios = [b / a for (a, _), (b, _) in zip(times["crfnet"], times["pydensecrf"], strict=True)]
    q, expected = answers["crfnet"], answers["pydensecrf"]
    return [
        *cells,
        f"{statistics.median(ratios):.2f}",
        f"{(q.argmax(0) == expected.argmax(0)).mean():.3%}",
        f"{np.abs(q - expected).max():.1e}",
    ]


def marginals(
    dcrf: ModuleType,
    image: np.ndarray,
    unary: np.ndarray,
    widths_and_weight: list[float],
    iterations: int,
    normalization: str,
    **device: str,
) -> np.ndarray:
    """What a program that uses pydensecrf does for one image."""
    height, width = image.shape[:2]
    alpha, beta, weight = widths_and_weight
    scaling = dcrf.NormalizationType[normalization]
    crf = dcrf.DenseCRF2D(width, height, len(unary), **device)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseGaussian(3, 3, normalization=scaling)
    crf.addPairwiseBilateral(alpha, beta, image, weight, normalization=scaling)
    return np.array(crf.inference(iterations))


if __name__ == "__main__":
    main()
