"""How far each filter is from the exact Gaussian on photos; theta's sampled gradients against exact ones.

    python experiments/bench/accuracy.py --images PHOTO ... [--crop ROWS COLUMNS] [--gradients [--draws 16]]

Prints, per photo, pair of bandwidths and filter, against the exact filter with eps 1e-6: the relative L2 of
filtered marginals as they are (raw) and after each normalization, the largest error of a single number
normalized "after", and the share of pixels with equal labels after 10 mean-field steps. Marginals are the
softmax of noise that is smooth over 8 pixels. With ``--gradients`` also the gradients of theta_alpha and
theta_beta after one step and a cross-entropy, on the lattice, relative to the exact filter's: of all rows,
and the standard deviation of the estimates from R rows; meant for crops. A whole photo takes many minutes per
pair of bandwidths; progress goes to stderr.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from header import print_header
from posthoc import load
from torch import Tensor

from crfnet.crf import CRFConfig, DenseCRF
from crfnet.crf.filters import ExactFilter, GaussianFilter, LocalFilter, PermutohedralFilter, filter_accuracy
from crfnet.crf.filters.accuracy import smooth_logits

BANDWIDTHS = ((67.0, 3.0), (50.0, 5.0), (80.0, 13.0))
ORACLE = ExactFilter(eps=1e-6)
FILTERS: dict[str, GaussianFilter] = {
    "permutohedral": PermutohedralFilter(),
    "local 11, pool 1": LocalFilter(window=11, pool=1),
    "local 11, pool 4": LocalFilter(window=11, pool=4),
    "exact, eps 1e-4": ExactFilter(eps=1e-4),
}
ROWS = (32, 128, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, nargs="+", required=True, metavar="PHOTO")
    parser.add_argument("--crop", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help="use the center only")
    parser.add_argument("--labels", type=int, default=21)
    parser.add_argument("--gradients", action="store_true", help="compare gradients of theta as well")
    parser.add_argument("--draws", type=int, default=16, help="gradient estimates per R")
    options = parser.parse_args()
    problems = [(path.name, center(path, options.crop)) for path in options.images]
    print_header()
    print(f"{options.labels} labels, w1 4, w2 0")
    print("| photo | theta | filter | raw | after | symmetric | before | largest | labels agree |")
    print("| --- |" + " --- |" * 8)
    for name, image in problems:
        logits = smooth_logits(image, options.labels)
        for pair in BANDWIDTHS:
            values(f"{name} {image.shape[2]}x{image.shape[3]}", image, logits, *pair)
    if options.gradients:
        print(f"\n| photo | theta | all rows | {' | '.join(f'std R={rows}' for rows in ROWS)} |")
        print("| --- |" + " --- |" * (2 + len(ROWS)))
        for name, image in problems:
            logits = smooth_logits(image, options.labels)
            for pair in BANDWIDTHS:
                gradients(name, image, logits, *pair, options.draws)


def center(path: Path, crop: tuple[int, int] | None) -> Tensor:
    photo = load(path).float()
    rows, columns = crop or photo.shape[2:]
    top, left = max(0, photo.shape[2] - rows) // 2, max(0, photo.shape[3] - columns) // 2
    return photo[:, :, top : top + rows, left : left + columns]


def values(problem: str, image: Tensor, logits: Tensor, alpha: float, beta: float) -> None:
    expected = labels_after(ORACLE, image, logits, alpha, beta)
    for name, filter in FILTERS.items():
        start = time.perf_counter()
        error = filter_accuracy(filter, image, alpha, beta, marginals=logits.softmax(1))
        agree = (labels_after(filter, image, logits, alpha, beta) == expected).double().mean()
        l2 = [error.raw, *(error.relative_l2[way] for way in ("after", "symmetric", "before"))]
        cells = [problem, f"{alpha:g}/{beta:g}", name, *(f"{100 * x:.2g} %" for x in l2)]
        cells += [f"{error.largest['after']:.2g}", f"{agree:.2%}"]
        print("| " + " | ".join(cells) + " |", flush=True)
        seconds = time.perf_counter() - start
        print(f"{problem} {alpha:g}/{beta:g} {name}: {seconds:.0f} s", file=sys.stderr, flush=True)


def labels_after(filter: GaussianFilter, image: Tensor, logits: Tensor, alpha: float, beta: float) -> Tensor:
    """Labels after 10 steps of the bilateral kernel alone, normalized "after"."""
    config = CRFConfig(w1=4, theta_alpha=alpha, theta_beta=beta, w2=0, iterations=10)
    with torch.no_grad():
        return DenseCRF(logits.shape[1], config, filter=filter).eval()(logits, image).argmax(1)


def gradients(name: str, image: Tensor, logits: Tensor, alpha: float, beta: float, draws: int) -> None:
    target = logits.argmax(1).roll(3, dims=2)  # a truth that the logits do not have right along their borders
    config = CRFConfig(w1=4, theta_alpha=alpha, theta_beta=beta, train_iterations=1)
    torch.manual_seed(0)

    def estimate(filter: GaussianFilter) -> Tensor:
        crf = DenseCRF(logits.shape[1], config, filter=filter).train()
        F.cross_entropy(crf(logits, image), target).backward()
        found = dict(crf.potentials["bilateral"].named_parameters())
        return torch.stack([found["log_theta_alpha"].grad, found["log_theta_beta"].grad])

    exact = estimate(ORACLE)
    cells = [estimate(PermutohedralFilter(rows=image.shape[2] * image.shape[3])) / exact]
    for rows in ROWS:
        spread = torch.stack([estimate(PermutohedralFilter(rows=rows)) for _ in range(draws)]).std(0)
        cells.append(spread / exact.abs())
    text = " | ".join(f"{pair[0]:.2f}, {pair[1]:.2f}" for pair in cells)
    print(f"| {name} | {alpha:g}/{beta:g} | {text} |", flush=True)


if __name__ == "__main__":
    main()
