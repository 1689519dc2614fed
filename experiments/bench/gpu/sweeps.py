"""What the constants of the code should be: `auto`'s bound, the exact filter's tiles and precision."""

import torch
from torch import Tensor

from crfnet import kernels
from crfnet.crf import CRFConfig, DenseCRF
from crfnet.crf.features import bilateral_features
from crfnet.crf.filters import ExactFilter, LocalFilter
from crfnet.crf.filters import auto as auto_module
from crfnet.crf.filters.exact import filter as exact_module
from crfnet.crf.filters.permutohedral.lattice import build_lattice
from gpu.inference import THETAS
from gpu.machine import EPS, Bench

SIDES = (64, 128, 181, 256, 362, 512, 724)
ENOUGH = 25.0  # ms per image: up to here exact values are worth their time


@torch.inference_mode()
def bound(bench: Bench) -> None:
    """Square images of growing size: where exact stops being quick, and where being the quicker one."""
    classes = 3 if bench.quick else 21
    print(f"{classes} classes, 10 iterations, exact at its default eps; ms per image, one image")
    print("| points | theta | exact | lattice | exact MB | lattice MB |\n|" + " --- |" * 6)
    quick_enough, quicker = [0], [0]
    for side in (8, 12) if bench.quick else SIDES:
        image = bench.picture(side, side)
        logits = bench.logits(image, classes)
        slowest, wins = 0.0, True
        for alpha, beta in (THETAS[0], THETAS[2]):
            taken, megabytes = {}, {}
            for name in ("exact", "permutohedral"):
                config = CRFConfig(theta_alpha=alpha, theta_beta=beta, filter=name)
                crf = DenseCRF(classes, config).to(bench.device).eval()
                taken[name] = bench.milliseconds(lambda: crf(logits, image), 3)  # noqa: B023
                megabytes[name] = bench.peak(lambda: crf(logits, image))  # noqa: B023
            figures = [f"{x:.2f}" for x in taken.values()] + [f"{x:.0f}" for x in megabytes.values()]
            print(f"| {side**2} | {alpha:g}/{beta:g} | {' | '.join(figures)} |", flush=True)
            slowest, wins = max(slowest, taken["exact"]), wins and taken["exact"] <= taken["permutohedral"]
        quick_enough += [side**2] * (slowest <= ENOUGH)
        quicker += [side**2] * wins
        if slowest > 4 * ENOUGH:
            break
    kind = bench.device.type
    now = auto_module._EXACT_POINTS.get(kind, auto_module._EXACT_POINTS["cpu"])
    print(f"auto: exact is within {ENOUGH:g} ms at every theta up to {max(quick_enough)} points and the "
          f"quicker one up to {max(quicker)}; its bound on {kind} is {now}")  # fmt: skip


@torch.inference_mode()
def tiles(bench: Bench) -> None:
    """One filtering of the exact kernel, in sizes of tiles and precisions; and the torch paths."""
    image = bench.picture(*((12, 16) if bench.quick else (375, 500)))
    features, values = bilateral_features(image, *THETAS[0]), bench.logits(image, 21).flatten(2).softmax(1)
    with kernels.using("auto" if bench.on_gpu else "on"):
        if bench.has_kernels:
            sizes(bench, features, values)
        else:
            print("the kernels do not run here")
    local = LocalFilter(11).operator(features, grid=tuple(image.shape[2:]))
    lattice, table = build_lattice(features), values[0].T.contiguous()
    for said, mode in {"": "auto", ", torch path": "off"}.items():
        with kernels.using(mode):
            print(f"lattice{said}: {bench.milliseconds(lambda: lattice(table)):.3f} ms", flush=True)
            print(f"local, window 11{said}: {bench.milliseconds(lambda: local(values)):.3f} ms", flush=True)


def sizes(bench: Bench, features: Tensor, values: Tensor) -> None:
    from crfnet.kernels.gpu import exact

    times, before = {}, exact_module._TILE
    for points in (32, 64, 128):
        exact_module._TILE = points
        build = bench.milliseconds(lambda: ExactFilter(EPS).operator(features))
        listed = ExactFilter(EPS).operator(features)._pairs.listed  # type: ignore[attr-defined]
        share = len(listed.columns) / len(listed.points) ** 2
        for precision in ("tf32x3", "ieee"):
            forward = bench.milliseconds(lambda: exact.filter_values(values, listed, precision))  # noqa: B023
            times[points, precision] = 11 * forward + build
            print(f"exact, tiles of {points:3d}, {precision:6s}: {forward:7.3f} ms, build {build:.2f} ms, "
                  f"{share:.1%} of pairs", flush=True)  # fmt: skip
        backward = bench.milliseconds(lambda: exact.grad_features(values, values, listed))  # noqa: B023
        print(f"exact, tiles of {points:3d}, gradient of features: {backward:7.3f} ms", flush=True)
    exact_module._TILE = before
    best = min(times, key=lambda which: times[which])
    print(f"best for a build and 11 filterings: tiles of {best[0]}, {best[1]}, {times[best]:.2f} ms; "
          f"_TILE is {before} with tf32x3, {times[before, 'tf32x3']:.2f} ms")  # fmt: skip
