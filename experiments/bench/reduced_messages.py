"""What the CPU kernels' two shortcuts, reduced messages and resting pixels, change on cached scores.

    python experiments/bench/reduced_messages.py SCORES.npz IMAGES [--images 50] [--theta 30/3 67/3]

Scores and images as of mean_field_cpu.py; w1 = 4, w2 = theta_gamma = 3, 10 iterations, "after". Each image is
compared with itself without either shortcut (``reduce = 0``), in the same compiled loop. A crop of its
middle, ``--crop`` rows and columns, is compared with `crfnet.crf.reference` in float64: its lattice
(`permutohedral_matrix`) and its spatial kernel as dense matrices. No times: the machine may be busy.
"""

import argparse

import numpy as np
import torch
from header import print_header
from mean_field_cpu import add_images, by_kernels, load
from torch import Tensor
from tqdm import tqdm

from crfnet.crf import reference
from crfnet.crf.features import bilateral_features, positions
from crfnet.crf.layer import CRFConfig


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    print_header()
    print(f"{options.images} images of {options.scores.name}, reduce {options.reduce:g}")
    titles = (
        "labels that differ",
        "in the worst image",
        "largest change of a marginal, median",
        "worst",
        "rms",
    )
    print(f"| theta | compared with | {' | '.join(titles)} |\n|{' --- |' * 7}", flush=True)
    for theta in options.theta:
        alpha, beta = map(float, theta.split("/"))
        config = CRFConfig(w1=4, theta_alpha=alpha, theta_beta=beta, iterations=10)
        whole, small = [], []
        numbers = range(0, options.images * options.every, options.every)
        for number in tqdm(numbers, desc=theta, leave=False, unit="image"):
            image, logits = load(options, number)
            ours = by_kernels(image, logits, config, options.reduce).log_marginals[0]
            whole.append(difference(ours, by_kernels(image, logits, config, 0).log_marginals[0]))
            image, logits = middle(image, options.crop), middle(logits, options.crop)
            ours = by_kernels(image, logits, config, options.reduce).log_marginals[0]
            small.append(difference(ours, by_reference(image, logits, config)))
        row(theta, "reduce 0", whole)
        row(theta, f"float64 reference, {options.crop[0]} x {options.crop[1]}", small)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_images(parser, images=50, every=2)
    parser.add_argument("--theta", nargs="+", default=["30/3", "49/5", "67/3", "80/13"])
    parser.add_argument("--reduce", type=float, default=1e-4)
    parser.add_argument("--crop", type=int, nargs=2, default=(24, 32), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def by_reference(image: Tensor, logits: Tensor, config: CRFConfig) -> np.ndarray:
    """Log marginals (l, n) in float64: matrices, no shortcut."""
    bilateral = reference.permutohedral_matrix(
        bilateral_features(image.double(), config.theta_alpha, config.theta_beta)[0]
    )
    bilateral = (bilateral / bilateral.sum(1, keepdim=True))[None]
    place = positions(tuple(image.shape[2:]), dtype=torch.float64, device=image.device)
    spatial = reference.normalized_kernel_matrix(place / config.theta_gamma, "after")
    weights = [torch.tensor(weight, dtype=torch.float64) for weight in (config.w1, config.w2)]
    unary = logits.double().flatten(2)
    potts = 1 - torch.eye(unary.shape[1], dtype=torch.float64)
    return (
        reference.mean_field(unary, [bilateral, spatial], weights, potts, config.iterations)[-1][0]
        .log()
        .numpy()
    )


def middle(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    top, left = ((whole - part) // 2 for whole, part in zip(pixels.shape[2:], size, strict=True))
    return pixels[..., top : top + size[0], left : left + size[1]].contiguous()


def difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Share of the labels that differ; of the marginals the largest change and the mean square."""
    change = np.exp(ours) - np.exp(theirs)
    labels = (ours.argmax(0) != theirs.argmax(0)).mean()
    return float(labels), float(np.abs(change).max()), float(np.square(change).mean())


def row(theta: str, other: str, found: list[tuple[float, float, float]]) -> None:
    labels, largest, square = np.array(found).T
    print(
        f"| {theta} | {other} | {labels.mean():.5%} | {labels.max():.4%} | {np.median(largest):.1e} | "
        f"{largest.max():.1e} | {np.sqrt(square.mean()):.1e} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
