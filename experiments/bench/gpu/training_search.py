"""What users do with it: a training step with a CRF at its end, and the paper's search."""

import math
import statistics
import time

import torch
import torch.nn.functional as F

from crfnet.crf import CRFConfig
from crfnet.models import ModelConfig
from crfnet.search import SearchConfig
from crfnet.search.counting import count_predictions
from crfnet.search.grid import Point
from crfnet.search.sweep import sweep
from crfnet.segmenter import build_segmenter
from gpu.machine import EPS, Bench, against, filter_of

SHARE = 25.0  # per cent of a training step that the CRF may take
IMAGES = 100
PATIENCE = 60.0  # seconds: a search that is longer is measured in part


def training(bench: Bench) -> None:
    """A step of DeepLab v2 ResNet-101 at 321x321, batch 10: without a CRF, and with 5 steps that learn."""
    size, batch = (33, 2) if bench.quick else (321, 10)
    model = ModelConfig(variant="deeplab_v2", backbone="resnet101", width=0.125 if bench.quick else 1.0)
    image = bench.picture(size, size, batch)
    labels = torch.randint(0, 21, (batch, size, size), device=bench.device)
    print(f"{size} x {size}, batch {batch}, 21 classes, 5 iterations, w and theta learned, SGD")
    print("| network in | CRF | ms per step | % of the step (target) | MB |\n| --- | --- | --- | --- | --- |")
    for low in (None, torch.bfloat16) if not bench.quick else (None,):
        alone = math.nan
        for name in (None, "permutohedral", "exact"):
            crf = None if name is None else CRFConfig(filter=filter_of(name, EPS))
            segmenter = build_segmenter(model, 21, crf).to(bench.device).train()
            optimizer = torch.optim.SGD(segmenter.parameters(), lr=1e-4, momentum=0.9)

            def step(segmenter=segmenter, optimizer=optimizer, low=low):  # type: ignore[no-untyped-def]
                with torch.autocast(bench.device.type, dtype=low, enabled=low is not None):
                    logits = segmenter(image)
                F.cross_entropy(logits.float(), labels).backward()
                optimizer.step()
                optimizer.zero_grad()

            taken, memory = bench.milliseconds(step, 1 if bench.quick else 5), bench.peak(step)
            alone = taken if name is None else alone
            share = "-" if name is None else against(SHARE, 100 * (1 - alone / taken))
            kind = str(low or torch.float32).removeprefix("torch.")
            print(f"| {kind} | {name or 'none'} | {taken:.1f} | {share} | {memory:.0f} |", flush=True)


def search(bench: Bench) -> None:
    """The paper's coarse search, by the functions that score a point, in one process; reading not included.

    w1 in 3..6, theta_alpha in 30..100 by 10, theta_beta in 3..6: 128 points in 32 pairs of thetas.
    """
    height, width, classes = (12, 16, 3) if bench.quick else (360, 480, 11)
    config = SearchConfig()
    points = config.grid().points()
    groups = [[p for p in points if p[1:3] == pair] for pair in dict.fromkeys(p[1:3] for p in points)]
    images = bench.picture(height, width, 4).split(1)
    scores = [bench.logits(image, classes) for image in images]
    labels = [one[0].argmax(0).cpu() for one in scores]

    def one_image(index: int, groups: list[list[Point]]) -> None:
        for group in groups:
            found = sweep(scores[index % 4], images[index % 4], group, config)
            predictions = [log_q[0].max(0).indices.cpu() for _, log_q in found]
            count_predictions(predictions, labels[index % 4], classes, config)

    def seconds(index: int) -> float:
        clock = time.perf_counter()
        one_image(index, groups[:2] if bench.quick else groups)
        return (time.perf_counter() - clock) * (len(groups) / 2 if bench.quick else 1)

    seconds(0)
    first = [seconds(index) for index in range(1 if bench.quick else 3)]
    whole, told = IMAGES * statistics.median(first), f"extrapolated from {len(first)} images"
    if not bench.quick and whole < PATIENCE:
        whole, told = sum(seconds(index) for index in range(IMAGES)), "all of it measured"
    print(f"{len(points)} points x {IMAGES} images of {height} x {width}, {classes} classes, made-up scores: "
          f"{whole / 60:.2f} minutes, {told}")  # fmt: skip
    print(f"peak memory {bench.peak(lambda: one_image(0, groups[:1])):.0f} MB")
