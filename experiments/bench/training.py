"""Times a joint training step on a CPU: the compiled kernels beside torch's operators, in turns.

    python experiments/bench/training.py [--threads 1] [--repeats 5] [--image PHOTO ...] [--first]

Scenes: the demo's network, toy images and CRF (batch and crops of its joint phase); and the default CRF alone
(preset deeplab, 5 steps, 21 labels) on a 321x321 crop of each PHOTO, or of a made-up image. Sides:
`compiled`, the tree as it is; `torch`, the same with the compiled kernels off; with ``--first``, torch and
the 1024 rows of theta's gradient that were the default of 0.1.0.

Times are processor time in ms, so that a machine that others share says something; medians of runs that take
turns. "theta" is what the backward pass takes longer than with every theta fixed.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from header import print_header
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate
from torch.utils.data import default_collate

from crfnet import kernels
from crfnet.crf import CRFConfig, DenseCRF
from crfnet.crf.config import PRESETS
from crfnet.crf.filters import PermutohedralFilter
from crfnet.data import TrainingStream, load_dataset
from crfnet.pipeline.run_config import load_run
from crfnet.segmenter import build_segmenter

PARTS = ("network", "crf forward", "crf backward", "theta", "network backward", "step")


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    print_header()
    print(f"| scene | side | {' | '.join(PARTS)} | theta / backward | step, times compiled |")
    print(f"| --- | --- |{' ---: |' * (len(PARTS) + 2)}")
    sides = {"compiled": ("auto", None), "torch": ("off", None)}
    if options.first:
        sides["0.1.0"] = ("off", 1024)
    report("demo", demo(), sides, options.repeats)
    for path in options.image or [None]:
        scene = crf_alone(path)
        report("made up" if path is None else path.stem, scene, sides, options.repeats)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--image", type=Path, nargs="*")
    parser.add_argument("--first", action="store_true")
    return parser.parse_args()


@dataclasses.dataclass
class Scene:
    """What a step starts from: images, labels, and what gives logits."""

    image: Tensor
    labels: Tensor
    network: Callable[[], Tensor]
    classes: int
    config: CRFConfig


def demo() -> Scene:
    """The demo's joint phase, one batch."""
    run = load_run(Path(str(files("crfnet.pipeline") / "demo.yaml")))
    data = load_dataset(run.data, "train")
    stream = TrainingStream(data, run.joint.augment, seed=0)
    batch = default_collate([stream[k] for k in range(run.joint.batch_size)])
    torch.manual_seed(0)
    network = build_segmenter(run.model, data.num_classes, None).train()
    return Scene(batch.image, batch.labels, lambda: network(batch.image), data.num_classes, run.crf)


def crf_alone(path: Path | None) -> Scene:
    """321 x 321 pixels, 21 labels of smooth logits."""
    torch.manual_seed(0)
    coarse = torch.rand(1, 24, 12, 12)
    if path is None:
        image = 255 * interpolate(coarse[:, 21:], (321, 321), mode="bilinear")
        image = (image + 2 * torch.randn_like(image)).clamp(0, 255)
    else:
        pixels = np.array(Image.open(path).convert("RGB"))[:321, :321].copy()
        image = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).float()
    logits = 8 * interpolate(coarse[:, :21], image.shape[2:], mode="bilinear")
    given = logits.clone().requires_grad_()
    config = dataclasses.replace(PRESETS["deeplab"], train_iterations=5)
    return Scene(image, logits.argmax(1), lambda: given * 1, 21, config)


def report(name: str, scene: Scene, sides: dict[str, tuple[str, int | None]], repeats: int) -> None:
    taken: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for turn in range(repeats + 1):
        for side, (mode, rows) in sides.items():
            with kernels.using(mode):
                parts = step(scene, rows)
                parts["theta"] = parts["crf backward"] - step(scene, rows, False)["crf backward"]
            if turn > 0:  # the first compiles
                taken[side].append(parts)
    median = {
        side: {part: statistics.median(run[part] for run in runs) for part in PARTS}
        for side, runs in taken.items()
    }
    for side, parts in median.items():
        ratio = statistics.median(
            run["step"] / own["step"] for run, own in zip(taken[side], taken["compiled"], strict=True)
        )
        cells = " | ".join(f"{1000 * parts[part]:.0f}" for part in PARTS)
        share = 100 * parts["theta"] / parts["crf backward"]
        print(f"| {name} | {side} | {cells} | {share:.0f} % | {ratio:.2f} |", flush=True)


def step(scene: Scene, rows: int | None, learn_theta: bool = True) -> dict[str, float]:
    """Processor time of each part, and of all."""
    filter = scene.config.filter if rows is None else PermutohedralFilter(rows=rows)
    config = dataclasses.replace(scene.config, filter=filter, learn_theta=learn_theta)
    crf = DenseCRF(scene.classes, config).train()
    times = [time.process_time()]
    made = scene.network()
    times.append(time.process_time())
    logits = made.detach().requires_grad_()
    loss = cross_entropy(crf(logits, scene.image), scene.labels, ignore_index=255)
    times.append(time.process_time())
    loss.backward()
    times.append(time.process_time())
    made.backward(logits.grad)
    times.append(time.process_time())
    network, forward, backward, rest = (after - before for before, after in pairwise(times))
    parts = (network, forward, backward, 0.0, rest, times[-1] - times[0])
    return dict(zip(PARTS, parts, strict=True))


if __name__ == "__main__":
    main()
