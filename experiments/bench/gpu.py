"""Checks the GPU kernels against torch and brute force, then measures whole inferences, training and search.

    python experiments/bench/gpu.py [--quick] [--device cuda] [--image FILE] [--parts check inference ...]

One run prints every figure, in under ten minutes on a data-centre GPU. Times are medians of CUDA events
after a warm-up, operators built anew each time. Beside each stands a floor and how many times longer it took:

- lattice: every table, index and weight moved once, at the measured speed of a large copy;
- exact: for each pair of the list 2 d + 2 operations and one exponential (an eighth of their rate), at the
  measured rate of a float32 matrix product.

A part that fails prints its error, the others go on, and the exit status is 1. ``--quick`` takes tiny sizes,
on a CPU too: with TRITON_INTERPRET=1 the kernels are interpreted in the checks. Its times mean nothing.
"""

import argparse
import math
import platform
import shutil
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from posthoc import by_pydensecrf, dcrf, load, photo_like, scores
from torch import Tensor

from crfnet import kernels
from crfnet.crf import CRFConfig, DenseCRF
from crfnet.crf.features import bilateral_features
from crfnet.crf.filters import (
    ExactFilter,
    GaussianFilter,
    LocalFilter,
    PermutohedralFilter,
    SeparableGaussian,
)
from crfnet.crf.filters import exact as exact_module
from crfnet.crf.filters.lattice import build_lattice
from crfnet.crf.normalization import normalized
from crfnet.crf.reference import filter_values, local_matrix

EPS = 1e-4  # of the exact filter
BOUND = 1e-5  # relative L2 error that the kernels promise
THETAS = ((67.0, 3.0), (50.0, 5.0), (80.0, 13.0))
Run = Callable[[], object]


class Bench:
    """The machine, its two ceilings, and how to time on it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device = torch.device(options.device)
        self.quick, self.image = options.quick, options.image
        self.repeats = 2 if self.quick else 7
        self.bytes_per_ms = self.operations_per_ms = math.nan
        self.failed = False

    def milliseconds(self, run: Run, repeats: int | None = None) -> float:
        """Median over repeats, after one run that does not count."""
        run()
        taken = []
        for _ in range(repeats or self.repeats):
            if self.device.type == "cuda":
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                torch.cuda.synchronize()
                start.record()
                run()
                end.record()
                torch.cuda.synchronize()
                taken.append(start.elapsed_time(end))
            else:
                clock = time.perf_counter()
                run()
                taken.append(1000 * (time.perf_counter() - clock))
        return statistics.median(taken)

    def peak(self, run: Run) -> float:
        """Megabytes allocated at most during the run, beyond what was before it."""
        if self.device.type != "cuda":
            return math.nan
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6

    def expect(self, what: str, error: float, bound: float = BOUND) -> None:
        good = error <= bound
        self.failed |= not good
        print(f"  {'ok  ' if good else 'FAIL'} {what:58s} {error:9.2e}  (bound {bound:.0e})", flush=True)

    def picture(self, height: int, width: int, batch: int = 1) -> Tensor:
        """(batch, 3, height, width), the given picture or a made-up one; its mirror images in turn."""
        one = load(self.image) if self.image else photo_like(height, width)
        one = F.interpolate(one.float(), (height, width), mode="bilinear", align_corners=False)
        turned = [one, one.flip(3), one.flip(2), one.flip(2, 3)]
        return torch.cat([turned[i % 4] for i in range(batch)]).to(self.device)

    def logits(self, image: Tensor, classes: int) -> Tensor:
        one = scores(image[:1].cpu(), None, classes, "even").to(self.device)
        return one.expand(len(image), -1, -1, -1).contiguous()


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())


def header(bench: Bench) -> None:
    print(f"machine    {platform.platform()}, {processor()}, {torch.get_num_threads()} threads")
    try:
        import triton

        version = triton.__version__
    except ImportError:
        version = "none"
    print(f"versions   python {platform.python_version()}, torch {torch.__version__}, triton {version}")
    if bench.device.type == "cuda":
        properties = torch.cuda.get_device_properties(bench.device)
        print(f"gpu        {properties.name}, {properties.multi_processor_count} multiprocessors, "
              f"sm_{properties.major}{properties.minor}, {properties.total_memory / 1e9:.0f} GB")  # fmt: skip
        if shutil.which("nvidia-smi"):
            query = "--query-gpu=driver_version,clocks.max.sm,clocks.max.mem"
            command = ["nvidia-smi", query, "--format=csv,noheader"]
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
            print(f"driver     {said}")
    usable = kernels.usable(torch.zeros(1, device=bench.device))
    print(f"kernels    usable: {usable}; pydensecrf: {dcrf is not None}")


def ceilings(bench: Bench) -> None:
    """The two speeds that floors are made of."""
    size = 2**18 if bench.quick else 2**29
    source = torch.randn(size, device=bench.device)
    target = torch.empty_like(source)
    bench.bytes_per_ms = 8 * size / bench.milliseconds(lambda: target.copy_(source))
    side = 256 if bench.quick else 8192
    left, right = (torch.randn(side, side, device=bench.device) for _ in range(2))
    bench.operations_per_ms = side**3 / bench.milliseconds(lambda: left @ right)
    print(f"copy       {bench.bytes_per_ms / 1e9:.2f} TB/s read and written")
    print(f"float32    {bench.operations_per_ms / 1e9:.1f} T multiply-adds/s in a matrix product of {side}")


# The kernels against torch and brute force.


def check(bench: Bench) -> None:
    mode = "on" if bench.device.type == "cpu" else "auto"
    cases = [(2, 21, 3000, 5), (1, 150, 2500, 5), (3, 1, 700, 2), (1, 5, 900, 20)]
    grids = [(21, (45, 61)), (150, (31, 33)), (3, (7, 11, 13))]
    if bench.quick:
        cases, grids = [(2, 3, 60, 5)], [(3, (7, 9))]
    with kernels.using(mode):
        for shape in cases:
            check_exact(bench, *shape)
        check_outliers(bench, cases[0])
        for labels, grid in grids:
            check_local(bench, labels, grid)
        check_gathers(bench)


def gradients(
    filter: GaussianFilter,
    values: Tensor,
    features: Tensor,
    grad: Tensor,
    grid: tuple[int, ...] | None = None,
) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in (values, features)]
    out = filter.operator(leaves[1], grid=grid)(leaves[0])
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def by_matrix(
    matrix: Callable[[Tensor], Tensor] | None, values: Tensor, features: Tensor, grad: Tensor
) -> list[Tensor]:
    leaves = [x.detach().double().requires_grad_() for x in (values, features)]
    out = filter_values(*leaves) if matrix is None else leaves[0] @ matrix(leaves[1]).mT
    return [out.detach(), *torch.autograd.grad(out, leaves, grad.double())]


NAMES = ("values", "gradient of values", "gradient of features")


def compare(
    bench: Bench, what: str, found: list[Tensor], torch_path: list[Tensor], truth: list[Tensor]
) -> None:
    for name, one, other, exactly in zip(NAMES, found, torch_path, truth, strict=True):
        bench.expect(f"{what}: {name}", relative(one, exactly))
        bench.expect(f"{what}: {name}, torch path", relative(other, exactly))


def problem(
    bench: Bench, batch: int, labels: int, pixels: int, dimensions: int
) -> tuple[Tensor, Tensor, Tensor]:
    features = 3 * torch.randn(batch, dimensions, pixels) / max(1, dimensions / 5) ** 0.5
    values, grad = torch.rand(batch, labels, pixels), torch.rand(batch, labels, pixels)
    return values.to(bench.device), features.to(bench.device), grad.to(bench.device)


def check_exact(bench: Bench, *shape: int) -> None:
    args = problem(bench, *shape)
    found = gradients(ExactFilter(1e-6), *args)
    with kernels.using("off"):
        torch_path = gradients(ExactFilter(1e-6), *args)
    compare(bench, f"exact {shape}", found, torch_path, by_matrix(None, *args))
    again = gradients(ExactFilter(1e-6), *args)
    differs = any(not torch.equal(a, b) for a, b in zip(found, again, strict=True))
    bench.expect(f"exact {shape}: same bits again", float(differs), 0)
    operator = ExactFilter(1e-6).operator(args[1])
    listed = operator._pairs.listed  # type: ignore[attr-defined]
    if listed is not None:
        from crfnet.kernels import exact

        for precision in ("tf32x3", "ieee", "tf32"):
            if precision != "tf32" or shape[1] == 21:
                error = relative(exact.filter_values(args[0], listed, precision), by_matrix(None, *args)[0])
                bench.expect(f"exact {shape}: {precision}", error, 1e-3 if precision == "tf32" else BOUND)


def check_outliers(bench: Bench, shape: tuple[int, ...]) -> None:
    values, features, grad = problem(bench, *shape)
    outliers = torch.where(features > 6, 1e6, 1.0) * features
    for name, moved in (("offset by 1e5", features + 1e5), ("outliers at 1e6", outliers)):
        found, truth = gradients(ExactFilter(0.0), values, moved, grad), by_matrix(None, values, moved, grad)
        for what, one, exactly in zip(NAMES, found, truth, strict=True):
            bench.expect(f"exact {name}: {what}", relative(one, exactly))


def check_local(bench: Bench, labels: int, grid: tuple[int, ...]) -> None:
    args = problem(bench, 2, labels, math.prod(grid), 5)
    filter = LocalFilter(5)
    found = gradients(filter, *args, grid=grid)
    with kernels.using("off"):
        torch_path = gradients(filter, *args, grid=grid)
    truth = by_matrix(lambda features: local_matrix(features, grid, 5, 1), *args)
    compare(bench, f"local {labels} labels {grid}", found, torch_path, truth)


def check_gathers(bench: Bench) -> None:
    if not kernels.usable(torch.zeros(1, device=bench.device)):
        print("  the gathers have no kernel here")
        return
    from crfnet.kernels.gather import gather_rows, gather_sum
    from crfnet.kernels.update import mean_field_update

    rows = 40 if bench.quick else 20000
    for channels in (21, 150):
        lengths = torch.randint(0, 7, (rows,))
        lengths[:: max(1, rows // 5)] = 900 if bench.quick else 40000
        offsets = F.pad(lengths.cumsum(0), (1, 0)).int().to(bench.device)
        entries = int(offsets[-1])
        table = torch.randn(rows, channels, device=bench.device)
        indices = torch.randint(0, rows, (entries,), device=bench.device).int()
        weights = torch.rand(entries, device=bench.device)
        found = gather_sum(table, indices, offsets, weights)
        truth = torch.zeros(rows, channels, device=bench.device, dtype=torch.float64)
        row = torch.repeat_interleave(torch.arange(rows, device=bench.device), offsets.diff())
        for some in torch.arange(entries, device=bench.device).split(1 << 18):
            part = table[indices[some].long()].double() * weights[some].double().unsqueeze(1)
            truth.index_add_(0, row[some], part)
        bench.expect(f"gather-sum, {channels} channels, long and empty rows", relative(found, truth))
        again = gather_sum(table, indices, offsets, weights)
        bench.expect("gather-sum: same bits again", float(not torch.equal(found, again)), 0)
        shape = (rows // 2, 6)
        fixed = indices.repeat(7)[: 3 * rows].view(shape), weights.repeat(7)[: 3 * rows].view(shape)
        plain = (table[fixed[0].long()].double() * fixed[1].double().unsqueeze(-1)).sum(1)
        bench.expect(f"gather-rows, {channels} channels", relative(gather_rows(table, *fixed), plain))
        update = mean_field_update(table, 3 * table.flip(0), weights[:rows])
        plain = (table.double() + weights[:rows, None].double() * 3 * table.flip(0).double()).softmax(1)
        bench.expect(f"mean-field update, {channels} labels", relative(update, plain))


# Inference, training, search.


def inference(bench: Bench) -> None:
    height, width, classes = (18, 25, 3) if bench.quick else (375, 500, 21)
    print(f"{height} x {width}, {classes} classes, 10 iterations, everything included; exact at eps {EPS:g}")
    print("| theta | images | filter | ms per image | build | one filtering | floor | times | MB "
          "| pydensecrf ms | equal labels |\n|" + " --- |" * 11)  # fmt: skip
    for alpha, beta in THETAS[:1] if bench.quick else THETAS:
        for batch in (1, 2) if bench.quick else (1, 16):
            for name in ("permutohedral", "exact"):
                row = measured(bench, bench.picture(height, width, batch), classes, (alpha, beta), name)
                print(f"| {alpha:g}/{beta:g} | {batch} | {name} | " + " | ".join(row) + " |", flush=True)


@torch.inference_mode()
def measured(bench: Bench, image: Tensor, classes: int, theta: tuple[float, float], name: str) -> list[str]:
    batch = len(image)
    logits = bench.logits(image, classes)
    config = CRFConfig(w1=4, theta_alpha=theta[0], theta_beta=theta[1], filter=name, eps=EPS)
    crf = DenseCRF(classes, config).to(bench.device).eval()
    filter = config.build_filter()
    features = bilateral_features(image, *theta)
    operator = filter.operator(features)
    q = logits.flatten(2).mT.contiguous().softmax(2).mT
    whole = bench.milliseconds(lambda: crf(logits, image)) / batch
    build = bench.milliseconds(lambda: filter.operator(features)) / batch
    one = bench.milliseconds(lambda: operator(q)) / batch
    floor = (11 if name == "exact" else 10) * floor_of(bench, operator, features, classes, name) / batch
    theirs = equal = "-"
    if dcrf is not None and batch == 1:
        clock = time.perf_counter()
        labels = by_pydensecrf(image.cpu().to(torch.uint8), logits.cpu(), config)
        theirs = f"{1000 * (time.perf_counter() - clock):.0f}"
        equal = f"{(crf.map(logits, image)[0].cpu().numpy() == labels).mean():.2%}"
    memory = bench.peak(lambda: crf(logits, image)) / batch
    figures = [f"{whole:.2f}", f"{build:.2f}", f"{one:.3f}", f"{floor:.2f}", f"{whole / floor:.1f}"]
    return [*figures, f"{memory:.0f}", theirs, equal]


def floor_of(bench: Bench, operator: object, features: Tensor, classes: int, name: str) -> float:
    """Milliseconds of one filtering at the machine's ceilings."""
    batch, dimensions, pixels = features.shape
    if name == "exact":
        tiles = operator._pairs.tiles  # type: ignore[attr-defined]
        size = tiles.order.shape[1] // tiles.used.shape[1]
        pairs = len(tiles.pair_list(math.sqrt(-2 * math.log(EPS)))[1]) * size**2
        return max(2 * dimensions + 2, 8) * pairs / bench.operations_per_ms
    lattice = operator.lattice  # type: ignore[attr-defined]
    entry, row = 8, 4 * classes
    splat_and_slice = 2 * (batch * pixels * ((dimensions + 1) * entry + row) + lattice.corners * row)
    blur = (dimensions + 1) * lattice.corners * (3 * entry + 2 * row)
    return (splat_and_slice + blur) / bench.bytes_per_ms


@torch.inference_mode()
def variants(bench: Bench) -> None:
    """One filtering of the exact kernel, in sizes of tiles and precisions, and the torch path."""
    from crfnet.kernels import exact

    if not kernels.usable(torch.zeros(1, device=bench.device)):
        print("the kernels do not run here")
        return
    image = bench.picture(375, 500)
    features, before = bilateral_features(image, *THETAS[0]), exact_module._TILE
    values = bench.logits(image, 21).flatten(2).softmax(1)
    for size in (32, 64, 128):
        exact_module._TILE = size
        listed = ExactFilter(EPS).operator(features)._pairs.listed  # type: ignore[attr-defined]
        share = len(listed.columns) / len(listed.points) ** 2
        for precision in ("tf32x3", "ieee"):
            forward = bench.milliseconds(lambda: exact.filter_values(values, listed, precision))  # noqa: B023
            print(
                f"exact, tiles of {size:3d}, {precision:6s}: {forward:7.3f} ms, {share:.1%} of pairs",
                flush=True,
            )
        backward = bench.milliseconds(lambda: exact.grad_features(values, values, listed))  # noqa: B023
        print(f"exact, tiles of {size:3d}, gradient of features: {backward:7.3f} ms", flush=True)
    exact_module._TILE = before
    local = LocalFilter(11).operator(features, grid=(375, 500))
    print(f"local, window 11: {bench.milliseconds(lambda: local(values)):.3f} ms", flush=True)
    lattice, table = build_lattice(features), values[0].T.contiguous()
    lattices = {"": "auto", ", torch path": "off"}
    for said, mode in lattices.items():
        with kernels.using(mode):
            print(f"lattice{said}: {bench.milliseconds(lambda: lattice(table, False)):.3f} ms", flush=True)
            if mode == "off":
                print(f"local{said}: {bench.milliseconds(lambda: local(values)):.3f} ms", flush=True)


def training(bench: Bench) -> None:
    """A step of DeepLab v2 ResNet-101 at 321x321, batch 10: without a CRF, and with 5 steps that learn."""
    from crfnet.models import ModelConfig
    from crfnet.segmenter import build_segmenter

    size, batch = (33, 2) if bench.quick else (321, 10)
    model = ModelConfig(variant="deeplab_v2", backbone="resnet101", width=0.125 if bench.quick else 1.0)
    image = bench.picture(size, size, batch)
    labels = torch.randint(0, 21, (batch, size, size), device=bench.device)
    print(f"{size} x {size}, batch {batch}, 21 classes, 5 iterations, w and theta learned, SGD")
    print("| network in | CRF | ms per step | share of the CRF | MB |\n| --- | --- | --- | --- | --- |")
    for low in (None, torch.bfloat16) if not bench.quick else (None,):
        alone = math.nan
        for name in (None, "permutohedral", "exact"):
            crf = None if name is None else CRFConfig(filter=name, eps=EPS)
            segmenter = build_segmenter(model, 21, crf).to(bench.device).train()
            optimiser = torch.optim.SGD(segmenter.parameters(), lr=1e-4, momentum=0.9)

            def step(segmenter=segmenter, optimiser=optimiser, low=low):  # type: ignore[no-untyped-def]
                with torch.autocast(bench.device.type, dtype=low, enabled=low is not None):
                    logits = segmenter(image)
                F.cross_entropy(logits.float(), labels).backward()
                optimiser.step()
                optimiser.zero_grad()

            taken, memory = bench.milliseconds(step, 2 if bench.quick else 5), bench.peak(step)
            alone = taken if name is None else alone
            share = "-" if name is None else f"{1 - alone / taken:.1%}"
            print(
                f"| {low or torch.float32} | {name or 'none'} | {taken:.1f} | {share} | {memory:.0f} |",
                flush=True,
            )


@torch.inference_mode()
def search(bench: Bench) -> None:
    """The paper's coarse search: w1 in 3..6, theta_alpha in 30..100 by 10, theta_beta in 3..6; 100 images."""
    height, width, classes, some = (12, 16, 3, 1) if bench.quick else (360, 480, 11, 4)
    thetas = [(alpha, beta) for alpha in range(30, 101, 10) for beta in range(3, 7)]
    weights = torch.arange(3.0, 7.0, device=bench.device).view(-1, 1, 1)
    taken_thetas = thetas[:2] if bench.quick else thetas

    images = bench.picture(height, width, 4).split(1)
    unaries = [bench.logits(image, classes).flatten(2) for image in images]

    def one_image(index: int) -> None:
        image, unary = images[index % 4], unaries[index % 4]
        truth = unary[0].argmax(0)
        spatial = normalized(SeparableGaussian((height, width), 3.0), unary, "after")
        for alpha, beta in taken_thetas:
            features = bilateral_features(image, float(alpha), float(beta))
            bilateral = normalized(PermutohedralFilter().operator(features), unary, "after")
            q = unary.softmax(1).expand(4, -1, -1)
            for _ in range(10):  # all four weights on one lattice, along the label axis
                stacked = q.reshape(1, -1, q.shape[-1])
                messages = bilateral(stacked).view(q.shape) * weights + 3 * spatial(stacked).view(q.shape)
                q = (unary + messages).softmax(1)
            for labels in q.argmax(1):
                torch.bincount(truth * classes + labels, minlength=classes**2)

    times = [bench.milliseconds(lambda index=index: one_image(index), 1) for index in range(some)]
    whole = statistics.median(times) * 100 * len(thetas) / len(taken_thetas) / 1000
    print(
        f"{height} x {width}, {classes} classes: {statistics.median(times):.0f} ms per image for "
        f"{4 * len(taken_thetas)} points, median of {some}; 128 points x 100 images: {whole:.1f} s "
        "(extrapolated; made-up scores; reading files not included)"
    )
    print(f"peak memory {bench.peak(lambda: one_image(0)):.0f} MB")


PARTS = {part.__name__: part for part in (ceilings, check, inference, variants, training, search)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--image", type=Path, help="a picture; default: a made-up one")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args()
    bench = Bench(options)
    torch.manual_seed(0)
    header(bench)
    for name in options.parts:
        print(f"\n{name}", flush=True)
        clock = time.perf_counter()
        try:
            PARTS[name](bench)
        except Exception as error:  # the other parts are still wanted
            bench.failed = True
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"
            print(f"FAILED: {type(error).__name__}: {error} ({where})", flush=True)
        print(f"({time.perf_counter() - clock:.0f} s)", flush=True)
    sys.exit(bench.failed)


if __name__ == "__main__":
    main()
