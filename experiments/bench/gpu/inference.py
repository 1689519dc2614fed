"""Whole inferences, beside what they have to move and to compute."""

import math
import time
from typing import NamedTuple

import torch
from posthoc import by_pydensecrf, dcrf
from torch import Tensor

from crfnet.crf import CRFConfig, DenseCRF
from crfnet.crf.features import bilateral_features
from crfnet.crf.filters import KernelOperator, SeparableGaussian
from crfnet.crf.inference import MeanField
from crfnet.crf.normalization import normalized
from gpu.machine import EPS, Bench, against, filter_of

THETAS = ((67.0, 3.0), (50.0, 5.0), (80.0, 13.0))
TARGETS = {"permutohedral": 5.0, "exact": 25.0}  # ms per image of 500 x 375, 21 classes, 10 iterations
COLUMNS = (
    "theta", "images", "filter", "ms per image (target)", "build", "one filtering", "MB to move",
    "G operations", "floor", "times the floor", "peak MB", "pydensecrf ms", "equal labels",
)  # fmt: skip
STEPS = 10


class Cost(NamedTuple):
    """Of the filterings of one whole inference, all images."""

    bytes: float
    operations: float

    def floor(self, bench: Bench) -> float:
        """Milliseconds at the machine's ceilings, bytes and operations side by side."""
        return max(self.bytes / bench.bytes_per_ms, self.operations / bench.operations_per_ms)


def inference(bench: Bench) -> None:
    height, width, classes = (18, 25, 3) if bench.quick else (375, 500, 21)
    print(f"{height} x {width}, {classes} classes, {STEPS} iterations, all included; exact at eps {EPS:g}")
    print("per image; moved and computed by the filterings alone, without build, spatial kernel and softmax")
    print(f"| {' | '.join(COLUMNS)} |\n|" + " --- |" * len(COLUMNS))
    for theta in THETAS[:1] if bench.quick else THETAS:
        for batch in (1, 2) if bench.quick else (1, 16):
            for name in TARGETS:
                row = measured(bench, bench.picture(height, width, batch), classes, theta, name)
                cells = [f"{theta[0]:g}/{theta[1]:g}", str(batch), name, *row]
                print(f"| {' | '.join(cells)} |", flush=True)
    graphs(bench, height, width, classes)


@torch.inference_mode()
def measured(bench: Bench, image: Tensor, classes: int, theta: tuple[float, float], name: str) -> list[str]:
    batch = len(image)
    logits = bench.logits(image, classes)
    config = CRFConfig(w1=4, theta_alpha=theta[0], theta_beta=theta[1], filter=filter_of(name, EPS))
    crf = DenseCRF(classes, config).to(bench.device).eval()
    filter = config.build_filter()
    features = bilateral_features(image, *theta)
    operator = filter.operator(features)
    q = logits.flatten(2).mT.contiguous().softmax(2).mT
    whole = bench.milliseconds(lambda: crf(logits, image)) / batch
    build = bench.milliseconds(lambda: filter.operator(features)) / batch
    one = bench.milliseconds(lambda: operator(q)) / batch
    memory = bench.peak(lambda: crf(logits, image)) / batch
    cost = cost_of(operator, features, classes, name)
    floor = cost.floor(bench) / batch
    theirs = equal = "-"
    if dcrf is not None and batch == 1:
        clock = time.perf_counter()
        labels = by_pydensecrf(image.cpu().to(torch.uint8), logits.cpu(), config)
        theirs = f"{1000 * (time.perf_counter() - clock):.0f}"
        equal = f"{(crf.map(logits, image)[0].cpu().numpy() == labels).mean():.2%}"
    told = f"{whole:.2f}" if bench.quick else against(TARGETS[name], whole)
    moved, computed = f"{cost.bytes / batch / 1e6:.0f}", f"{cost.operations / batch / 1e9:.1f}"
    times = [f"{floor:.2f}", f"{whole / floor:.1f}"]
    return [told, f"{build:.2f}", f"{one:.3f}", moved, computed, *times, f"{memory:.0f}", theirs, equal]


def cost_of(operator: KernelOperator, features: Tensor, classes: int, name: str) -> Cost:
    """Ten filterings, and for exact the row sums: an eleventh that costs as much.

    Lattice: every table, index and weight moved once, a multiply-add for each entry and class. Exact: each
    table moved once; for each pair of the list 2 d + 2 operations (one exponential, an eighth of their rate,
    hides behind those), with products on the matrix units beside them.
    """
    batch, dimensions, pixels = features.shape
    if name == "exact":
        tiles = operator._pairs.tiles  # type: ignore[attr-defined]
        size = tiles.order.shape[1] // tiles.used.shape[1]
        pairs = len(tiles.pair_list(math.sqrt(-2 * math.log(EPS)))[1]) * size**2
        moved = 4 * batch * pixels * (2 * classes + dimensions)
        return Cost((STEPS + 1) * moved, (STEPS + 1) * max(2 * dimensions + 2, 8) * pairs)
    corners = operator.lattice.corners  # type: ignore[attr-defined]
    entry, row = 8, 4 * classes
    entries = 2 * batch * pixels * (dimensions + 1) + 3 * (dimensions + 1) * corners
    rows = 2 * (batch * pixels + corners) + 2 * (dimensions + 1) * corners
    return Cost(STEPS * (entries * entry + rows * row), STEPS * entries * classes)


@torch.inference_mode()
def graphs(bench: Bench, height: int, width: int, classes: int) -> None:
    """The ten steps alone, operators built, as they are launched one by one and as a CUDA graph."""
    image = bench.picture(height, width)
    unary = bench.logits(image, classes).flatten(2)
    theta = torch.tensor(3.0, device=bench.device)
    for name in TARGETS:
        filter = filter_of(name, EPS)
        bilateral = normalized(filter.operator(bilateral_features(image, *THETAS[0])), unary, "after", theta)
        spatial = normalized(SeparableGaussian((height, width), theta), unary, "after", theta)

        def steps(bilateral=bilateral, spatial=spatial) -> Tensor:  # type: ignore[no-untyped-def]
            return MeanField().run(unary, lambda q: bilateral(q).add_(spatial(q)).neg_(), STEPS)

        alone = bench.milliseconds(steps)
        if not bench.on_gpu:
            print(f"steps, {name}: {alone:.2f} ms; CUDA graphs need a GPU")
            continue
        expected, graph = steps(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = steps()
        played = bench.milliseconds(graph.replay)
        bench.expect(f"steps as a CUDA graph, {name}: same bits", float(not torch.equal(found, expected)), 0)
        print(f"steps, {name}: {alone:.2f} ms launched one by one, {played:.2f} ms as a graph", flush=True)
