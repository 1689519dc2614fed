"""Time and memory of a dense CRF against pixels, classes and images: a table and a picture.

    python experiments/bench/growth.py [--image FILE] [--out growth.png] [--threads 2]

Every measurement is a process of its own: the largest resident memory of the inference above what the process
held before it, and the median time of ``--repeats`` inferences (10 iterations, 67/3, lattice build included).
The picture is resized to the wanted number of pixels, colors bilinearly; bandwidths stay as they are in
pixels.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from posthoc import header, load, photo_like, scores

PIXELS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)  # millions, at 21 classes
CLASSES = (2, 5, 10, 21, 50, 100, 150)  # at 0.167 million pixels
BATCHES = (1, 2, 4, 8)  # at 0.167 million pixels and 21 classes
VOC = 0.167


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(measure(options)))
        return
    header(options)
    found = {}
    for title, settings in (
        ("million pixels", [(p, 21, 1) for p in PIXELS]),
        ("classes", [(VOC, c, 1) for c in CLASSES]),
        ("images", [(VOC, 21, b) for b in BATCHES]),
    ):
        print(f"\n| {title} | s | s per unit | MB | MB per unit | corners per pixel |\n|" + " --- |" * 6)
        found[title] = []
        for setting in settings:
            size = setting[("million pixels", "classes", "images").index(title)]
            one = alone(options, setting)
            found[title].append((size, one["seconds"], one["megabytes"]))
            print(
                f"| {size:g} | {one['seconds']:.2f} | {one['seconds'] / size:.3f} | {one['megabytes']:.0f} "
                f"| {one['megabytes'] / size:.1f} | {one['corners']:.2f} |",
                flush=True,
            )
    if options.out:
        picture(found, options.out)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", type=Path, help="any picture; default: a made-up one")
    parser.add_argument("--out", type=Path, help="where the picture goes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", type=float, nargs=3, help=argparse.SUPPRESS)
    parser.set_defaults(classes="2 to 150", iterations=10)
    return parser.parse_args()


def alone(options: argparse.Namespace, setting: tuple[float, int, int]) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", *map(str, setting)]
    command += ["--threads", str(options.threads), "--repeats", str(options.repeats)]
    if options.image:
        command += ["--image", str(options.image)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(options: argparse.Namespace) -> dict[str, float]:
    from crfnet.crf import CRFConfig, DenseCRF
    from crfnet.crf.features import bilateral_features
    from crfnet.crf.filters.permutohedral.lattice import build_lattice

    torch.set_num_threads(options.threads)
    millions, classes, batch = options.one[0], int(options.one[1]), int(options.one[2])
    image = (load(options.image) if options.image else photo_like(375, 500)).float()
    scale = (1e6 * millions / (image.shape[2] * image.shape[3])) ** 0.5
    image = F.interpolate(image, scale_factor=scale, mode="bilinear").clamp(0, 255)
    logits = scores(image, None, classes, "even").expand(batch, -1, -1, -1)
    image = torch.cat([image.flip(3) if k % 2 else image for k in range(batch)])
    crf = DenseCRF(classes, CRFConfig(theta_alpha=67.0, theta_beta=3.0)).eval()
    with torch.inference_mode():
        crf(logits[..., :32, :32], image[..., :32, :32])  # what torch keeps anyway
        before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
        for _ in range(options.repeats):
            start = time.perf_counter()
            crf(logits, image)
            times.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        corners = build_lattice(bilateral_features(image[:1], 67.0, 3.0)).corners
    pixels = image.shape[2] * image.shape[3]
    return {
        "seconds": statistics.median(times),
        "megabytes": (after - before) / 1024,
        "corners": corners / pixels,
    }


def picture(found: dict[str, list[tuple[float, float, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, len(found), figsize=(11, 6), constrained_layout=True)
    for column, (title, rows) in enumerate(found.items()):
        sizes = [row[0] for row in rows]
        measured = zip(*(row[1:] for row in rows), strict=True)
        for panel, values, unit in zip(panels[:, column], measured, ("s", "MB"), strict=True):
            panel.loglog(sizes, values, "o-", label="measured")
            linear = [values[-1] * size / sizes[-1] for size in sizes]
            panel.loglog(sizes, linear, ":", color="gray", label="linear")
            panel.set(xlabel=title, ylabel=unit)
            panel.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
