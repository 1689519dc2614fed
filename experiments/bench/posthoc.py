"""Times post-hoc mean field part by part, and beside pydensecrf where that can be imported.

    python experiments/bench/posthoc.py [--image FILE] [--classes 21] [--iterations 10] [--threads 2]

Medians over repeats; ours and pydensecrf's runs alternate, so that a busy machine slows both. Processor time
is printed beside the time on the clock: on a busy machine only the former says something, and with
``--threads 1`` it compares like with like (pydensecrf is single-threaded). Both solve the same problem
(normalised "after", Potts) on the same unary.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from crfnet.crf.features import bilateral_features
from crfnet.crf.filters import SeparableGaussian
from crfnet.crf.filters.lattice import build_lattice
from crfnet.crf.layer import CRFConfig, DenseCRF

try:
    import pydensecrf.densecrf as dcrf
except ImportError:
    dcrf = None


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    image = load(arguments.image) if arguments.image else photo_like(375, 500)
    config = CRFConfig(
        w1=arguments.w1,
        theta_alpha=arguments.theta_alpha,
        theta_beta=arguments.theta_beta,
        iterations=arguments.iterations,
    )
    logits = unary_like(image, arguments.classes)
    header(arguments, image)
    with torch.inference_mode():
        parts(image, logits, config, arguments.repeats)
        total(image, logits, config, arguments.repeats)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", type=Path, help="any picture; default: a made-up one of 500x375")
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--w1", type=float, default=4.0)
    parser.add_argument("--theta-alpha", type=float, default=67.0)
    parser.add_argument("--theta-beta", type=float, default=3.0)
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


def unary_like(image: Tensor, classes: int) -> Tensor:
    """Scores of a made-up network at stride 8: smooth, blurred over edges, sure of itself in places."""
    height, width = image.shape[-2:]
    generator = torch.Generator().manual_seed(1)
    stride_8 = torch.randn(1, classes, -(-height // 8), -(-width // 8), generator=generator)
    smooth = F.avg_pool2d(stride_8, 9, stride=1, padding=4) * 25
    return F.interpolate(smooth, (height, width), mode="bilinear", align_corners=False)


def header(arguments: argparse.Namespace, image: Tensor) -> None:
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    height, width = image.shape[-2:]
    print(f"machine    {model}, {arguments.threads} threads")
    print(f"versions   python {platform.python_version()}, torch {torch.__version__}")
    print(f"problem    {width}x{height}, {arguments.classes} classes, {arguments.iterations} iterations")
    widths = f"{arguments.theta_alpha:g}/{arguments.theta_beta:g}"
    print(f"           {widths} and spatial 3; {arguments.repeats} repeats")


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds on the clock and of processor time, all threads."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return 1000 * (time.perf_counter() - clock), 1000 * (time.process_time() - processor)


def report(name: str, times: list[tuple[float, float]]) -> None:
    clock, processor = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"  {name:24s}{clock:9.2f} ms{processor:12.2f} ms")


def parts(image: Tensor, logits: Tensor, config: CRFConfig, repeats: int) -> None:
    height, width = image.shape[-2:]
    features = bilateral_features(image, config.theta_alpha, config.theta_beta)
    lattice = build_lattice(features)
    unary = logits.flatten(2).mT.contiguous()  # labels last in memory, as in the mean-field loop
    q = unary.softmax(2).mT
    table = q[0].T
    corners = lattice.splat(table)
    spatial = SeparableGaussian(height, width, config.theta_gamma)
    once = {
        "features": partial(bilateral_features, image, config.theta_alpha, config.theta_beta),
        "lattice build": partial(build_lattice, features),
    }
    each = {
        "splat": partial(lattice.splat, table),
        f"blur, {len(lattice.blurs)} axes": lambda: [blur(corners) for blur in lattice.blurs],
        "slice": partial(lattice.slice, corners),
        "spatial": partial(spatial, q),
        "softmax and update": lambda: (unary - (-4 * q.mT - 3 * q.mT)).softmax(2),
    }
    print(f"lattice    {lattice.corners} corners, {lattice.corners / features.shape[2]:.2f} per pixel")
    for title, table_of_parts in (("once", once), ("each iteration", each)):
        print(f"{title + ':':29s} clock      processor")
        for name, work in table_of_parts.items():
            work()
            report(name, [timed(work) for _ in range(repeats)])


def total(image: Tensor, logits: Tensor, config: CRFConfig, repeats: int) -> None:
    crf = DenseCRF(logits.shape[1], config).eval()
    runs: dict[str, Callable[[], np.ndarray]] = {"crfnet": lambda: crf(logits, image)[0].argmax(0).numpy()}
    if dcrf is not None:
        runs["pydensecrf"] = partial(by_pydensecrf, image, logits, config)
    labels = {name: run() for name, run in runs.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(timed(run))
    print("total, everything included:")
    for name, taken in times.items():
        report(name, taken)
    if dcrf is None:
        print("  pydensecrf cannot be imported: no ratio")
        return
    pairs = zip(times["crfnet"], times["pydensecrf"], strict=True)
    ratios = [(ours[0] / theirs[0], ours[1] / theirs[1]) for ours, theirs in pairs]
    clock, processor = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"  {'crfnet / pydensecrf':24s}{clock:9.3f}   {processor:12.3f}")
    print(f"  equal labels {(labels['crfnet'] == labels['pydensecrf']).mean():.4%}")


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


if __name__ == "__main__":
    main()
