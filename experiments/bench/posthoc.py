"""Times post-hoc mean field, part by part and as a whole, beside pydensecrf where that can be imported.

    python experiments/bench/posthoc.py [--images FILE ...] [--theta 67/3 50/5 80/13] [--threads 2]

Every run of ours alternates with one of pydensecrf's on the same scores (normalized "after", Potts, w2 = 3,
theta_gamma = 3), lattices built anew, so that a busy machine slows both; ratios are medians over repeats.
Processor time is printed beside the time on the clock: pydensecrf is single-threaded.

Two kinds of scores: *even* ones, in which every label is likely somewhere, and *sure* ones, as a confident
network gives them: the labels of a mask (FILE_labels.png beside FILE.png; else regions of the even scores),
blurred and noisy. Only in the latter can labels be pruned.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from header import print_header
from PIL import Image
from torch import Tensor

from crfnet.crf.features import bilateral_features
from crfnet.crf.filters import SeparableGaussian
from crfnet.crf.filters.permutohedral.lattice import build_lattice
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.crf.pruning import Pruning

try:
    import pydensecrf.densecrf as dcrf
except ImportError:
    dcrf = None

PRUNE = 1e-4


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    header(options)
    images = [(path.stem, path) for path in options.images] or [("made-up", None)]
    thetas = [tuple(map(float, theta.split("/"))) for theta in options.theta]
    print(
        "| image | theta | scores | labels kept | crfnet ms | pruned ms | pydensecrf ms "
        "| times faster | pruned | equal labels | pruned |"
    )
    print("| --- |" * 1 + " --- |" * 10)
    with torch.inference_mode():
        for name, path in images:
            image = load(path) if path else photo_like(375, 500)
            for alpha, beta in thetas:
                config = CRFConfig(
                    w1=options.w1, theta_alpha=alpha, theta_beta=beta, iterations=options.iterations
                )
                for kind in ("even", "sure"):
                    logits = scores(image, path, options.classes, kind)
                    row = compare(image, logits, config, options.repeats)
                    print(f"| {name} | {alpha:g}/{beta:g} | {kind} | " + " | ".join(row) + " |", flush=True)
        for alpha, beta in thetas:
            print(f"\nwhere the time goes, {images[-1][0]}, {alpha:g}/{beta:g}")
            config = CRFConfig(w1=options.w1, theta_alpha=alpha, theta_beta=beta)
            parts(image, scores(image, None, options.classes, "even"), config, options.repeats)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, nargs="*", default=[], help="pictures; default: a made-up one")
    parser.add_argument("--theta", nargs="+", default=["67/3", "50/5", "80/13"], metavar="ALPHA/BETA")
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--w1", type=float, default=4.0)
    return parser.parse_args()


def load(path: Path) -> Tensor:
    with Image.open(path) as file:
        pixels = np.array(file.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)


def photo_like(height: int, width: int) -> Tensor:
    """Regions with soft shading and edges, texture on three scales and sensor noise; seeded."""
    generator = torch.Generator().manual_seed(0)

    def noise(cells: int, strength: float) -> Tensor:
        coarse = torch.randn(1, 3, cells, cells * width // height, generator=generator)
        return strength * F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)

    regions = (noise(4, 1.0)[:, :1] > 0.1).float() * noise(2, 60.0) + (noise(7, 1.0)[:, :1] > 0.4) * noise(
        3, 80
    )
    texture = noise(24, 12.0) + noise(90, 7.0) * (regions > 0) + noise(height, 2.0)
    return (120 + noise(2, 25.0) + regions + texture).clamp(0, 255).to(torch.uint8)


def scores(image: Tensor, path: Path | None, classes: int, kind: str) -> Tensor:
    """Scores of a made-up network at stride 8, upsampled; see the top of this file."""
    height, width = image.shape[-2:]
    generator = torch.Generator().manual_seed(1)
    stride_8 = torch.randn(1, classes, -(-height // 8), -(-width // 8), generator=generator)
    smooth = F.avg_pool2d(stride_8, 9, stride=1, padding=4) * 25
    even = F.interpolate(smooth, (height, width), mode="bilinear", align_corners=False)
    if kind == "even":
        return even
    mask = None if path is None else path.with_name(f"{path.stem}_labels.png")
    if mask is not None and mask.exists():
        with Image.open(mask) as file:
            labels = torch.from_numpy(np.array(file)).long() % classes
    else:
        labels = even[0, :4].argmax(0)
    sure = F.one_hot(labels, classes).permute(2, 0, 1).unsqueeze(0).float()
    blurred = F.avg_pool2d(sure, 25, stride=1, padding=12, count_include_pad=False)
    return 30 * blurred + 0.2 * even


def header(options: argparse.Namespace) -> None:
    print_header()
    print(f"problem    {options.classes} classes, {options.iterations} iterations, {options.repeats} repeats")
    if dcrf is None:
        print("pydensecrf cannot be imported: our side only")


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds on the clock and of processor time, all threads."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return 1000 * (time.perf_counter() - clock), 1000 * (time.process_time() - processor)


def compare(image: Tensor, logits: Tensor, config: CRFConfig, repeats: int) -> list[str]:
    """One row: whole inferences, everything included."""
    classes = logits.shape[1]
    pruned = CRFConfig(**{**vars(config), "prune": PRUNE})
    runs: dict[str, Callable[[], np.ndarray]] = {
        name: partial(by_crfnet, DenseCRF(classes, one).eval(), image, logits)
        for name, one in (("crfnet", config), ("pruned", pruned))
    }
    if dcrf is not None:
        runs["pydensecrf"] = partial(by_pydensecrf, image, logits, config)
    labels = {name: run() for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(timed(run)[0])
    middle = {name: f"{statistics.median(taken):.0f}" for name, taken in times.items()}
    kept = len(Pruning.below(PRUNE, logits.flatten(2), None).kept)
    faster = {
        name: f"{statistics.median(b / a for a, b in zip(times[name], times['pydensecrf'], strict=True)):.2f}"
        if dcrf
        else "-"
        for name in ("crfnet", "pruned")
    }
    return [
        f"{kept} of {classes}",
        middle["crfnet"],
        middle["pruned"],
        middle.get("pydensecrf", "-"),
        faster["crfnet"],
        faster["pruned"],
        f"{(labels['crfnet'] == labels['pydensecrf']).mean():.2%}" if dcrf else "-",
        f"{(labels['crfnet'] == labels['pruned']).mean():.3%}",
    ]


def by_crfnet(crf: DenseCRF, image: Tensor, logits: Tensor) -> np.ndarray:
    labels: np.ndarray = crf.map(logits, image)[0].numpy()
    return labels


def by_pydensecrf(image: Tensor, logits: Tensor, config: CRFConfig) -> np.ndarray:
    height, width = image.shape[-2:]
    crf = dcrf.DenseCRF2D(width, height, logits.shape[1])
    crf.setUnaryEnergy(np.ascontiguousarray(-logits.flatten(2)[0].numpy()))
    after = dcrf.NormalizationType.NORMALIZE_AFTER
    crf.addPairwiseGaussian(config.theta_gamma, config.w2, normalization=after)
    pixels = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
    crf.addPairwiseBilateral(config.theta_alpha, config.theta_beta, pixels, config.w1, normalization=after)
    marginals = np.array(crf.inference(config.iterations))
    return marginals.argmax(0).reshape(height, width)


def parts(image: Tensor, logits: Tensor, config: CRFConfig, repeats: int) -> None:
    height, width = image.shape[-2:]
    features = bilateral_features(image, config.theta_alpha, config.theta_beta)
    lattice = build_lattice(features)
    unary = logits.flatten(2).mT.contiguous()  # labels last in memory, as in the mean-field loop
    q = unary.softmax(2).mT
    table = q[0].T
    corners = lattice.splat(table)
    spatial = SeparableGaussian((height, width), config.theta_gamma)
    work = {
        "lattice build, once": partial(build_lattice, features),
        "splat": partial(lattice.splat, table),
        f"blur, {len(lattice.blurs)} axes": lambda: [len(blur(corners)) for blur in lattice.blurs],
        "slice": partial(lattice.slice, corners),
        "spatial": partial(spatial, q),
        "copy of Q, for scale": unary.clone,
        "softmax": lambda: unary.softmax(2),
    }
    print(f"  {lattice.corners} corners, {lattice.corners / features.shape[2]:.2f} per pixel")
    for name, one in work.items():
        one()
        clock, processor = (
            statistics.median(x) for x in zip(*(timed(one) for _ in range(repeats)), strict=True)
        )
        print(f"  {name:22s}{clock:9.2f} ms{processor:12.2f} ms of processor time")


if __name__ == "__main__":
    main()
