"""Times the domain transform beside the dense CRF: the layers, on cached scores of real networks.

    python experiments/bench/domain_transform.py SCORES IMAGES [--theta 30/3 49/5 67/3 80/13] [--threads 2]

SCORES is a folder of cached scores or one .npz, which are upsampled to the size of IMAGES/id.jpg or .png.
Both layers get the same logits and image and return logits: `DomainTransform` with its edges of the image,
and `DenseCRF` with its lattice built anew (w1 4, w2 = theta_gamma = 3, 10 iterations), for every theta. Runs
alternate, the transform before every CRF; a row has the least time of each, what of the transform are edges,
weights and filter, and each CRF's time over the transform's in its turns. ``--processor`` counts processor
time instead: of one thread that is what to look at on a busy machine.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from header import print_header
from torch import Tensor

from crfnet.crf.allocator import retain_freed_memory
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.domain_transform import DomainTransform, DomainTransformConfig, image_edges
from crfnet.domain_transform.recursive import recursive_filter
from crfnet.files import open_image
from crfnet.score_cache import ScoreFolder

PARTS = ("edges", "weights", "filter")


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.processor else time.perf_counter
    print_header()
    columns = ["image", "size", "transform", *PARTS, *(f"CRF {theta}" for theta in options.theta), "ratios"]
    print(f"\nms, {options.threads} threads\n\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    ratios: list[float] = []
    with torch.inference_mode(), retain_freed_memory(torch.device("cpu")):
        for name, image, logits in samples(options):
            if not ratios:  # the first calls compile
                timed(*layers(image, logits, options), 1, clock)
            parts, own = timed(*layers(image, logits, options), options.repeats, clock)
            size = "x".join(map(str, image.shape[:1:-1]))
            shown = " ".join(f"{ratio:.1f}" for ratio in own)
            print(
                f"| {name} | {size} | {' | '.join(f'{part:.1f}' for part in parts)} | {shown} |", flush=True
            )
            ratios += own
    print(f"\nthe CRF takes {np.median(ratios):.2f} times as long (median), {np.min(ratios):.2f} (least)")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scores", type=Path)
    parser.add_argument("folder", type=Path, help="of the images")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--every", type=int, default=3, help="every so many-th image")
    parser.add_argument("--theta", nargs="+", default=["30/3", "49/5", "67/3", "80/13"], help="of the CRF")
    parser.add_argument("--sigma", default="50/60", help="sigma_s/sigma_r; they do not change the time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processor", action="store_true")
    return parser.parse_args()


def samples(options: argparse.Namespace) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Id, image (1, 3, h, w) and logits (1, l, h, w)."""
    scores = ScoreFolder(options.scores)
    for name in scores.ids[:: options.every][: options.images]:
        path = next(path for path in options.folder.glob(f"{name}.*") if path.suffix in (".jpg", ".png"))
        with open_image(path) as file:
            image = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1)[None].contiguous()
        yield name, image, scores.logits(name, tuple(image.shape[2:])).contiguous()


def layers(
    image: Tensor, logits: Tensor, options: argparse.Namespace
) -> tuple[dict[str, Callable[[], object]], list[Callable[[], object]]]:
    """The transform and its parts, and the CRFs."""
    sigma_s, sigma_r = map(float, options.sigma.split("/"))
    transform = DomainTransform(DomainTransformConfig(sigma_s=sigma_s, sigma_r=sigma_r)).eval()
    edges = image_edges(image)
    weights = transform.neighbor_weights(edges)
    parts: dict[str, Callable[[], object]] = {
        "transform": partial(transform, logits, image),
        "edges": partial(image_edges, image),
        "weights": partial(transform.neighbor_weights, edges),
        "filter": partial(recursive_filter, logits, weights),
    }
    widths = (map(float, theta.split("/")) for theta in options.theta)
    configs = (CRFConfig(w1=4, theta_alpha=alpha, theta_beta=beta, iterations=10) for alpha, beta in widths)
    return parts, [partial(DenseCRF(logits.shape[1], config).eval(), logits, image) for config in configs]


def timed(
    parts: dict[str, Callable[[], object]],
    crfs: list[Callable[[], object]],
    repeats: int,
    clock: Callable[[], float],
) -> tuple[list[float], list[float]]:
    """The least milliseconds of each part and each CRF, and of each CRF the ratio to the transform.

    The transform runs again before every CRF; a ratio is of their least times in as many turns.
    """

    def once(work: Callable[[], object]) -> float:
        start = clock()
        work()
        return 1000 * (clock() - start)

    turns = [[(once(parts["transform"]), once(crf)) for crf in crfs] for _ in range(repeats)]
    pairs = np.min(turns, axis=0)  # (CRFs, 2)
    own = [min(once(parts[name]) for _ in range(repeats)) for name in PARTS]
    return [float(pairs[:, 0].min()), *own, *pairs[:, 1].tolist()], (pairs[:, 1] / pairs[:, 0]).tolist()


if __name__ == "__main__":
    main()
