"""The kernels against torch and brute force, at sizes that the tests do not reach."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from crfnet import kernels
from crfnet.crf import DenseCRF
from crfnet.crf.filters import ExactFilter, GaussianFilter, LocalFilter, PermutohedralFilter
from crfnet.crf.reference import filter_values, local_matrix
from gpu.machine import BOUND, Bench, relative


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
        check_lattice(bench)
        check_layer(bench)
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
        from crfnet.kernels.gpu import exact

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


def check_lattice(bench: Bench) -> None:
    """Forward and adjoint, built and applied on the device, against the CPU's in float64."""
    for shape in [(2, 3, 60, 5)] if bench.quick else [(3, 21, 4000, 5), (1, 150, 3000, 2)]:
        values, features, grad = problem(bench, *shape)

        def run(values: Tensor, features: Tensor, grad: Tensor) -> list[Tensor]:
            values = values.detach().requires_grad_()
            out = PermutohedralFilter().operator(features)(values)
            return [out.detach().cpu(), *(x.cpu() for x in torch.autograd.grad(out, values, grad))]

        found, again = run(values, features, grad), run(values, features, grad)
        truth = run(*(x.cpu().double() for x in (values, features, grad)))
        for name, one, exactly in zip(NAMES, found, truth, strict=False):
            bench.expect(f"lattice {shape}: {name}", relative(one, exactly))
        differs = any(not torch.equal(a, b) for a, b in zip(found, again, strict=True))
        bench.expect(f"lattice {shape}: same bits again", float(differs), 0)


def check_layer(bench: Bench) -> None:
    """The whole CRF against the CPU's in float64."""
    size = (5, 6) if bench.quick else (60, 80)
    image = bench.picture(*size, 2)
    logits = bench.logits(image, 5)
    for name in ("permutohedral", "exact", *(() if bench.quick else ("local",))):
        crf = DenseCRF.preset("deeplab", 5, filter=name, iterations=2 if bench.quick else 10).eval()
        with torch.no_grad():
            truth = crf(logits.cpu().double(), image.cpu())
            found = crf.to(bench.device)(logits, image)
        # A point on the border of two simplices makes a corner or not, by its last bit.
        bound = 1e-2 if name == "permutohedral" else 1e-4
        bench.expect(f"layer, {name}: log marginals", relative(found.cpu(), truth), bound)


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
    from crfnet.kernels.gpu.gather import gather_rows, gather_sum
    from crfnet.kernels.gpu.update import mean_field_update

    rows = 40 if bench.quick else 20000
    for channels in (21,) if bench.quick else (21, 150):
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
