"""Times the CPU kernels' mean field on cached scores beside `DenseCRF` and pydensecrf, and compares labels.

    python experiments/bench/mean_field_cpu.py SCORES.npz IMAGES [--theta 30/3 49/5 67/3 80/13] [--threads 2]

SCORES.npz holds ``ids`` (n,) and scores at a small size: ``logits`` (n, l, h, w), or ``q`` (n, h, w, l) of
integers with ``scale`` and ``zero_point``; they are upsampled to the size of IMAGES/id.jpg (``--corners``
aligns the corners). The lattice is built anew in each run; "after", Potts, w1 = 4, w2 = theta_gamma = 3. Runs
alternate; a row has the least time of each and the ratios of those. ``--processor`` counts processor time
instead, which is what to look at on a busy machine with one thread. Without pydensecrf its columns are empty.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from header import print_header
from PIL import Image
from torch import Tensor

from crfnet.crf.allocator import retain_freed_memory
from crfnet.crf.features import bilateral_features
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.kernels.cpu.grid import grid_of
from crfnet.kernels.cpu.lattice import build_lattice
from crfnet.kernels.cpu.mean_field import Run, mean_field

try:
    import pydensecrf.densecrf as dcrf
except ImportError:
    dcrf = None


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    print_header()
    clock = time.process_time if options.processor else time.perf_counter
    titles = "image | theta | size | reduced ms | all labels ms | layer ms | pydensecrf ms | channels | equal"
    print(f"| {titles} |\n|" + " --- |" * 9)
    ratios = []
    with torch.inference_mode(), retain_freed_memory(torch.device("cpu")):
        for number in range(0, options.images * options.every, options.every):
            image, logits = load(options, number)
            for theta in options.theta:
                alpha, beta = map(float, theta.split("/"))
                runs = ways(image, logits, CRFConfig(w1=4, theta_alpha=alpha, theta_beta=beta, iterations=10))
                least, results = timed(runs, options.repeats, clock)
                ratios.append([least["pydensecrf"] / least[way] for way in ("reduced", "all labels")])
                row(f"{number} | {theta}", least, results)
    middle, worst = np.median(ratios, axis=0), np.min(ratios, axis=0)
    for way, one, other in zip(("reduced", "all labels"), middle, worst, strict=True):
        print(f"{way}: {one:.2f} times pydensecrf (median), {other:.2f} (worst)")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_images(parser)
    parser.add_argument("--theta", nargs="+", default=["30/3", "49/5", "67/3", "80/13"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processor", action="store_true")
    return parser.parse_args()


def add_images(parser: argparse.ArgumentParser, *, images: int = 20, every: int = 3) -> None:
    """The arguments that `load` reads."""
    parser.add_argument("scores", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--corners", action="store_true", help="the scores' corners are the image's")
    parser.add_argument("--images", type=int, default=images)
    parser.add_argument("--every", type=int, default=every, help="every so many-th image")


def load(options: argparse.Namespace, number: int) -> tuple[Tensor, Tensor]:
    """Image (1, 3, h, w) and logits (1, l, h, w)."""
    scores = np.load(options.scores)
    if "logits" in scores:
        small = torch.from_numpy(scores["logits"][number].astype(np.float32))
    else:
        steps = scores["q"][number].astype(np.float32) - np.float32(scores["zero_point"])
        small = torch.from_numpy(steps * np.float32(scores["scale"])).permute(2, 0, 1)
    with Image.open(options.folder / f"{scores['ids'][number]}.jpg") as file:
        image = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1)[None]
    size = tuple(image.shape[2:])
    return image, F.interpolate(
        small[None], size, mode="bilinear", align_corners=options.corners
    ).contiguous()


def ways(image: Tensor, logits: Tensor, config: CRFConfig) -> dict[str, Callable[[], object]]:
    """Log marginals or marginals (l, n) by each of them."""
    unary = logits[0].flatten(1).numpy()
    layer = DenseCRF(len(unary), config).eval()
    runs: dict[str, Callable[[], object]] = {
        "reduced": lambda: by_kernels(image, logits, config, 1e-4),
        "all labels": lambda: by_kernels(image, logits, config, 0),
        "layer": lambda: layer(logits, image)[0].flatten(1).numpy(),
    }
    if dcrf is not None:
        runs["pydensecrf"] = lambda: by_pydensecrf(image, unary, config)
    return runs


def by_kernels(image: Tensor, logits: Tensor, config: CRFConfig, reduce: float) -> Run:
    """The compiled loop, lattice included."""
    lattice = build_lattice(bilateral_features(image, config.theta_alpha, config.theta_beta).numpy())
    spatial = grid_of(tuple(image.shape[2:]), config.theta_gamma, np.dtype(np.float32))
    unary, weights = logits[0].flatten(1).numpy(), np.array([[config.w1, config.w2]])
    return mean_field(unary, [lattice], [spatial], weights, iterations=config.iterations, reduce=reduce)


def by_pydensecrf(
    image: Tensor, unary: np.ndarray, config: CRFConfig, module: ModuleType | None = dcrf
) -> np.ndarray:
    height, width = image.shape[2:]
    crf = module.DenseCRF2D(width, height, len(unary))
    crf.setUnaryEnergy(np.ascontiguousarray(-unary))
    after = module.NormalizationType.NORMALIZE_AFTER
    crf.addPairwiseGaussian(config.theta_gamma, config.w2, normalization=after)
    pixels = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
    crf.addPairwiseBilateral(config.theta_alpha, config.theta_beta, pixels, config.w1, normalization=after)
    return np.array(crf.inference(config.iterations))


def timed(
    runs: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]
) -> tuple[dict[str, float], dict[str, object]]:
    least = dict.fromkeys(["reduced", "all labels", "layer", "pydensecrf"], float("nan"))
    results = {}
    for _ in range(repeats):
        for name, run in runs.items():
            start = clock()
            results[name] = run()
            least[name] = np.fmin(least[name], 1000 * (clock() - start))
    return least, results


def row(name: str, least: dict[str, float], results: dict[str, object]) -> None:
    reduced, everything = results["reduced"], results["all labels"]
    labels = reduced.log_marginals[0].argmax(0)
    equal = (labels == everything.log_marginals[0].argmax(0)).mean()
    times = " | ".join(f"{milliseconds:.0f}" for milliseconds in least.values())
    channels = " ".join(map(str, reduced.channels))
    print(
        f"| {name} | {reduced.log_marginals.shape[2]} px | {times} | {channels} | {equal:.4%} |", flush=True
    )


if __name__ == "__main__":
    main()
