"""Measures the noise of theta's sampled gradient on real scores, beside that between images.

    python experiments/bench/theta_gradient.py --voc VOC --scores SCORES.npz [--images 20] [--rows 8 16 ...]

SCORES.npz holds ``ids``, ``q`` (images, h, w, classes), ``scale`` and ``zero_point`` of a network that saw
stretched images; VOC is a folder in PASCAL VOC's layout. Preset deeplab, 5 steps, cross entropy to the mask,
a 321x321 crop of each image; gradients are those of log theta_alpha and log theta_beta.

Every step's gradient is drawn several times from rows of its own. The standard deviation between
images is that of the means of the largest draws; rows that halve a smaller one buy nothing.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from header import print_header
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from crfnet.crf.filters import PermutohedralFilter
from crfnet.crf.filters.permutohedral.sampled_theta_gradient import SampledRows
from crfnet.crf.layer import DenseCRF

Example = tuple[Tensor, Tensor, Tensor]


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print_header()
    print(f"{options.images} images, crop {options.crop}")
    measure_noise(options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--voc", type=Path, required=True)
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--crop", type=int, default=321)
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256, 1024])
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def examples(options: argparse.Namespace) -> Iterator[Example]:
    """Image (1, 3, h, w), logits (1, l, h, w) and labels (1, h, w) of images spread over the file."""
    cache = np.load(options.scores)
    quantized = cache["q"]
    for number in np.linspace(0, len(cache["ids"]) - 1, options.images).astype(int):
        name = cache["ids"][number]
        image = np.array(Image.open(options.voc / "JPEGImages" / f"{name}.jpg").convert("RGB"))
        labels = np.array(Image.open(options.voc / "SegmentationClass" / f"{name}.png"))
        scores = (quantized[number].astype(np.float32) - cache["zero_point"]) * cache["scale"]
        logits = torch.from_numpy(scores.astype(np.float32)).permute(2, 0, 1).unsqueeze(0)
        logits = interpolate(logits, labels.shape, mode="bilinear", align_corners=True)
        top, left = (max(0, (size - options.crop) // 2) for size in labels.shape)
        crop = slice(top, top + options.crop), slice(left, left + options.crop)
        yield (
            torch.from_numpy(image[crop].copy()).permute(2, 0, 1).unsqueeze(0),
            logits[..., crop[0], crop[1]].contiguous(),
            torch.from_numpy(labels[crop].astype(np.int64)).unsqueeze(0),
        )


def loss_of(crf: DenseCRF, example: Example) -> Tensor:
    image, logits, labels = example
    return cross_entropy(crf(logits.requires_grad_(), image), labels, ignore_index=255)


def crf_of(rows: int) -> DenseCRF:
    filter = PermutohedralFilter(rows=rows)
    return DenseCRF.preset("deeplab", 21, train_iterations=5, filter=filter).train()


def measure_noise(options: argparse.Namespace) -> None:
    """Of every image the mean of its gradient, and the spread of its draws at each number of rows."""
    means, spreads = [], []
    for example in examples(options):
        steps = recorded_steps(example)
        drawn = {
            rows: draws_of(steps, rows, 16 if rows <= 64 else 8 if rows <= 256 else 4)
            for rows in options.rows
        }
        means.append(drawn[max(options.rows)].mean(0))
        spreads.append(torch.stack([drawn[rows].var(0) for rows in options.rows]))
        print(f"d loss / d log theta_alpha, theta_beta: {means[-1].tolist()}", flush=True)
    between = torch.stack(means).std(0)
    print("\n| | theta_alpha | of between | added variance | theta_beta | of between | added variance |")
    print("| --- |" + " --- |" * 6)
    print(f"| mean over images | {' | | | '.join(f'{x:.4f}' for x in torch.stack(means).mean(0))} | | |")
    print(f"| std between images | {' | | | '.join(f'{x:.4f}' for x in between)} | | |")
    for rows, spread in zip(options.rows, torch.stack(spreads).mean(0).sqrt(), strict=True):
        cells = [f"{x:.4f} | {x / y:.3f} | {(x / y) ** 2:.1%}" for x, y in zip(spread, between, strict=True)]
        print(f"| std of sampling, {rows} rows | {' | '.join(cells)} |")


def recorded_steps(example: Example) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Features, incoming gradient and filtered values of every step of the backward pass."""
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    drawn = SampledRows.gradient

    def record(self: SampledRows, grad: Tensor, values: Tensor, row_sums: Tensor | None = None) -> Tensor:
        assert row_sums is None, "normalization after"
        steps.append((self._features, grad, values))
        return torch.zeros_like(self._features)

    SampledRows.gradient = record
    try:
        loss_of(crf_of(1), example).backward()
    finally:
        SampledRows.gradient = drawn
    return steps


@torch.no_grad()
def draws_of(steps: list[tuple[Tensor, Tensor, Tensor]], rows: int, draws: int) -> Tensor:
    """Draws of the gradient (draws, 2) of the logarithms of theta_alpha and theta_beta."""
    sampled = SampledRows(steps[0][0], None, rows)  # all steps have the same features
    features, results = steps[0][0], []
    for _ in range(draws):
        total = sum(sampled.gradient(grad, values) for _, grad, values in steps)
        by_feature = -(total * features).double().sum((0, 2))  # f = p / theta
        results.append(torch.stack([by_feature[:2].sum(), by_feature[2:].sum()]))
    return torch.stack(results)


if __name__ == "__main__":
    main()
