"""How far the lattice is from the exact Gaussian, and its theta gradients from the exact ones.

    python experiments/bench/accuracy.py --image PHOTO [--crop 96 128] [--draws 16]

Prints, per pair of bandwidths: the relative L2 of filtered label maps against the exact filter, raw and
after normalisation by row sums, with the largest error; the agreement of labels after 10 mean-field
iterations; and the gradients of theta_alpha and theta_beta after one step and a cross-entropy, relative to
the exact filter's: of all rows, and the standard deviation of the estimates from R rows.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from crfnet.crf import CRFConfig, DenseCRF
from crfnet.crf.features import bilateral_features
from crfnet.crf.filters import ExactFilter, PermutohedralFilter
from crfnet.crf.normalization import normalized

BANDWIDTHS = ((67.0, 3.0), (50.0, 5.0), (30.0, 5.0), (80.0, 13.0))
LABELS = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", type=Path, required=True, help="a photo; its centre is used")
    parser.add_argument("--crop", type=int, nargs=2, default=(96, 128), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--draws", type=int, default=16, help="estimates per R")
    options = parser.parse_args()
    torch.manual_seed(0)
    image = centre(options.image, *options.crop)
    logits = smooth_logits(image)
    labels = logits.argmax(1)
    size = f"{image.shape[2]}x{image.shape[3]}"
    print(f"{options.image.name}, centre {size}, {LABELS} labels, torch {torch.__version__}")
    print("| theta | raw | after | largest | labels agree | gradient, all rows | std R=32 | R=128 | R=1024 |")
    print("| --- |" + " --- |" * 8)
    for alpha, beta in BANDWIDTHS:
        cells = [
            *errors(image, logits, alpha, beta),
            *gradients(image, logits, labels, alpha, beta, options.draws),
        ]
        print(f"| {alpha:g}/{beta:g} | " + " | ".join(cells) + " |", flush=True)


def centre(path: Path, rows: int, columns: int) -> torch.Tensor:
    photo = (
        torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).permute(2, 0, 1)[None].float()
    )
    top, left = (photo.shape[2] - rows) // 2, (photo.shape[3] - columns) // 2
    return photo[:, :, top : top + rows, left : left + columns]


def smooth_logits(image: torch.Tensor) -> torch.Tensor:
    """Logits as a network of stride 8 gives them: noise on a coarse grid, upsampled."""
    size = (image.shape[2], image.shape[3])
    coarse = 3 * torch.randn(1, LABELS, -(-size[0] // 8), -(-size[1] // 8))
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=False)


def errors(image: torch.Tensor, logits: torch.Tensor, alpha: float, beta: float) -> list[str]:
    features = bilateral_features(image, alpha, beta)
    q = logits.softmax(1).flatten(2)
    exact, lattice = (kind().operator(features) for kind in (ExactFilter, PermutohedralFilter))
    raw = float((lattice(q) - exact(q)).norm() / exact(q).norm())
    a, b = (normalized(kernel, q, "after")(q) for kernel in (exact, lattice))
    maps = []
    for name in ("exact", "permutohedral"):
        crf = DenseCRF(LABELS, CRFConfig(w1=4, theta_alpha=alpha, theta_beta=beta, filter=name)).eval()
        with torch.no_grad():
            maps.append(crf(logits, image).argmax(1))
    agree = float((maps[0] == maps[1]).float().mean())
    return [
        f"{raw:.1%}",
        f"{float((a - b).norm() / a.norm()):.1%}",
        f"{float((a - b).abs().max()):.3f}",
        f"{agree:.2%}",
    ]


def gradients(
    image: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, alpha: float, beta: float, draws: int
) -> list[str]:
    def estimate(**changes: object) -> torch.Tensor:
        settings = {"w1": 4, "theta_alpha": alpha, "theta_beta": beta, "train_iterations": 1, **changes}
        crf = DenseCRF(LABELS, CRFConfig(**settings)).train()
        target = labels.roll(3, dims=2)  # a truth that the logits do not have right along their borders
        torch.nn.functional.cross_entropy(crf(logits, image), target).backward()
        kernel = crf.kernels["bilateral"]
        found = dict(kernel.named_parameters())
        return torch.stack([found["log_theta_alpha"].grad, found["log_theta_beta"].grad])

    exact = estimate(filter="exact")
    whole = estimate(rows=image.shape[2] * image.shape[3]) / exact
    spreads = [
        torch.stack([estimate(rows=rows) for _ in range(draws)]).std(0) / exact.abs()
        for rows in (32, 128, 1024)
    ]
    return [f"{pair[0]:.2f}, {pair[1]:.2f}" for pair in (whole, *spreads)]


if __name__ == "__main__":
    main()
