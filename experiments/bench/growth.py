"""Time and memory of a dense CRF against pixels, classes and images: tables and a picture.

    python experiments/bench/growth.py [--scores SCORES.npz --folder IMAGES --corners] [--out growth.png]
        [--threads 2] [--quick]

Every measurement is a process of its own: the largest resident memory of the inference above what the process
held before it, and the median time of ``--repeats`` inferences (10 iterations, 67/3, lattice build included).
The picture is resized to the wanted number of pixels, colors bilinearly; bandwidths stay as they are in
pixels.

Scores are those of a real network: SCORES.npz as of `mean_field_cpu.py`, upsampled, beside IMAGES/id.jpg.
Their labels are spread over the wanted number of classes. Of fewer classes than labels the likeliest labels
stay; more classes are channels of the other images' scores, so much lower that none of them wins often: a
network of 150 classes, too, is sure of a few of them at each pixel and gives the others something. Without
SCORES they are made up, sure of the regions of a made-up picture.

Beside the time stands how many channels were filtered in a step, on average: reduced messages keep that from
growing with the classes. ``--processor`` counts processor time, which is what to look at on a busy machine.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from posthoc import header, load, photo_like, scores
from torch import Tensor

PIXELS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # millions, at 21 classes
CLASSES = (2, 5, 11, 21, 50, 100, 150)  # at 0.167 million pixels
BATCHES = (1, 2, 4, 8)  # at 0.167 million pixels and 21 classes
QUICK = {"pixels": (0.05, 0.1, 0.2), "classes": (2, 21, 150), "batches": (1, 2)}
VOC = 0.167
LOWER = 8.0  # nats: what classes of other images are below those of their own
UNITS = ("million pixels", "classes", "images")


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(measure(options)))
        return
    header(options)
    pixels, classes, batches = QUICK.values() if options.quick else (PIXELS, CLASSES, BATCHES)
    found = {}
    for unit, settings in zip(
        UNITS,
        ([(p, 21, 1) for p in pixels], [(VOC, c, 1) for c in classes], [(VOC, 21, b) for b in batches]),
        strict=True,
    ):
        print(f"\n| {unit} | s | s per unit | MB | MB per unit | channels | corners per pixel |")
        print("|" + " --- |" * 7)
        found[unit] = [row(options, setting, setting[UNITS.index(unit)]) for setting in settings]
    if options.out:
        picture(found, options.out)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scores", type=Path, help="scores of a real network; default: made-up ones")
    parser.add_argument("--folder", type=Path, help="the pictures that they are of; needed with --scores")
    parser.add_argument("--corners", action="store_true", help="the scores' corners are the image's")
    parser.add_argument("--number", type=int, default=1, help="which of the pictures")
    parser.add_argument("--image", type=Path, help="any picture, with made-up scores")
    parser.add_argument("--out", type=Path, help="where the picture goes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processor", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a few small sizes, to see that it runs")
    parser.add_argument("--one", type=float, nargs=3, help=argparse.SUPPRESS)
    parser.set_defaults(classes="2 to 150", iterations=10)
    options = parser.parse_args()
    if options.scores and not options.folder:
        parser.error("--scores needs --folder, the pictures that they are of")
    return options


def row(options: argparse.Namespace, setting: tuple[float, int, int], size: float) -> tuple[float, ...]:
    """Measures in a process of its own, and prints a row."""
    command = [sys.executable, __file__, "--one", *map(str, setting), *sys.argv[1:]]
    one = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(
        f"| {size:g} | {one['seconds']:.2f} | {one['seconds'] / size:.3f} | {one['megabytes']:.0f} "
        f"| {one['megabytes'] / size:.1f} | {one['channels']:.1f} | {one['corners']:.2f} |",
        flush=True,
    )
    return size, one["seconds"], one["megabytes"]


def measure(options: argparse.Namespace) -> dict[str, float]:
    from crfnet.crf import CRFConfig, DenseCRF
    from crfnet.crf.features import bilateral_features
    from crfnet.crf.inference import label_by_label
    from crfnet.kernels.cpu.lattice import build_lattice

    torch.set_num_threads(options.threads)
    millions, classes, batch = options.one[0], int(options.one[1]), int(options.one[2])
    image, logits = problem(options, 1e6 * millions, classes)
    image = torch.cat([image.flip(3) if k % 2 else image for k in range(batch)])
    logits = torch.cat([logits.flip(3) if k % 2 else logits for k in range(batch)])
    crf = DenseCRF(classes, CRFConfig(theta_alpha=67.0, theta_beta=3.0)).eval()
    runs, loop = [], label_by_label.mean_field
    label_by_label.mean_field = lambda *a, **k: runs.append(loop(*a, **k)) or runs[-1]
    clock, repeats = time.process_time if options.processor else time.perf_counter, options.repeats
    with torch.inference_mode():
        crf(logits[..., :32, :32], image[..., :32, :32])  # loads what is kept anyway
        before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
        for _ in range(1 if options.quick else repeats):
            runs.clear()
            start = clock()
            crf(logits, image)
            times.append(clock() - start)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        corners = build_lattice(bilateral_features(image[:1], 67.0, 3.0).numpy()).size
    return {
        "seconds": statistics.median(times),
        "megabytes": (after - before) / 1024,
        "channels": float(np.mean(runs[-1].channels)),
        "corners": corners / (image.shape[2] * image.shape[3]),
    }


def problem(options: argparse.Namespace, pixels: float, classes: int) -> tuple[Tensor, Tensor]:
    """An image (1, 3, h, w) of about so many pixels and its scores (1, classes, h, w)."""
    if options.scores is None:
        image = resized((load(options.image) if options.image else photo_like(375, 500)).float(), pixels)
        return image, scores(image, None, classes, "sure")
    stored = np.load(options.scores)
    image = resized(load(options.folder / f"{stored['ids'][options.number]}.jpg").float(), pixels)
    small = spread(stored, options.number, classes)
    size = tuple(image.shape[2:])
    return image, F.interpolate(small, size, mode="bilinear", align_corners=options.corners)


def resized(image: Tensor, pixels: float) -> Tensor:
    scale = (pixels / (image.shape[2] * image.shape[3])) ** 0.5
    return F.interpolate(image, scale_factor=scale, mode="bilinear").clamp(0, 255)


def spread(stored: np.lib.npyio.NpzFile, number: int, classes: int) -> Tensor:
    """Scores of an image (1, classes, h, w) at their small size; see the top of this file."""

    def of(image: int) -> Tensor:
        if "logits" in stored:
            return torch.from_numpy(stored["logits"][image].astype(np.float32))
        steps = stored["q"][image].astype(np.float32) - np.float32(stored["zero_point"])
        return torch.from_numpy(steps * np.float32(stored["scale"])).permute(2, 0, 1)

    own = of(number)
    if classes <= len(own):
        likely = own.softmax(0).mean((1, 2)).argsort(descending=True)[:classes]
        return own[likely.sort().values][None].contiguous()
    others, image = [], number
    while sum(map(len, others)) < classes - len(own):
        image = (image + 1) % len(stored["ids"])
        others.append(of(image) - LOWER)
    generator = torch.Generator().manual_seed(0)
    together = torch.cat([own, *others])[:classes]
    return together[torch.randperm(classes, generator=generator)][None].contiguous()


def picture(found: dict[str, list[tuple[float, ...]]], path: Path) -> None:
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
            panel.set_xticks(sizes, [f"{size:g}" for size in sizes])
            panel.minorticks_off()
            panel.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
