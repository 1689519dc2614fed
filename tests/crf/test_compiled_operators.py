"""Operators by the compiled kernels beside torch: values, gradients of both orders; and which serve when."""

import subprocess
import sys

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from crfnet import kernels
from crfnet.crf import CRFConfig, DenseCRF, MeanField
from crfnet.crf.filters import (
    ExactFilter,
    LocalFilter,
    PermutohedralFilter,
    SeparableGaussian,
    compiled,
    local,
)
from crfnet.crf.filters.exact.compiled import CompiledPairs

F64 = torch.float64
GRIDS = [(9,), (5, 7), (1, 1), (70, 9), (3, 4, 5)]


def grid_operator(grid, theta, masked=False, spaced=False):
    pixels = torch.Size(grid).numel()
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(2, pixels, generator=generator) < 0.7 if masked else None
    if mask is not None:
        mask[:, 0] = True
    spacing = 0.5 + torch.rand(2, len(grid), generator=generator, dtype=F64) if spaced else None
    return SeparableGaussian(grid, theta, mask=mask, spacing=spacing)


def on_both(run):
    with kernels.using("off"):
        expected = run()
    return run(), expected


@pytest.mark.parametrize("applied", ["product", "average"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_grid_values_and_gradients_as_by_torch(grid, spaced, masked, applied):
    values = torch.randn(2, 11, torch.Size(grid).numel(), dtype=F64, requires_grad=True)
    grad = torch.randn_like(values)

    def run():
        theta = torch.tensor(1.7, dtype=F64, requires_grad=True)
        operator = grid_operator(grid, theta, masked, spaced)
        out = operator(values) if applied == "product" else operator.average(values)
        return out.detach(), *torch.autograd.grad(out, (values, theta), grad)

    for found, expected in zip(*on_both(run), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("applied", ["product", "average"])
@pytest.mark.parametrize("masked", [False, True])
def test_grid_gradients_of_both_orders(masked, applied):
    values = torch.randn(2, 2, 12, dtype=F64, requires_grad=True)
    theta = torch.tensor(1.3, dtype=F64, requires_grad=True)

    def run(values, theta):
        operator = grid_operator((3, 4), theta, masked)
        return operator(values) if applied == "product" else operator.average(values)

    assert gradcheck(run, (values, theta))
    assert gradgradcheck(run, (values, theta))


@pytest.mark.parametrize("normalization", ["after", "symmetric", "before", "none"])
def test_factors_of_a_learned_weight(normalization):
    """Full weights and a scalar one that learn, theta fixed: the layer's gradients are those by torch."""
    for weights in ("scalar", "full"):
        config = CRFConfig(
            w1=0.5, w2=0.3, theta_alpha=5.0, theta_beta=30.0, learn_theta=False, weights=weights,
            normalization=normalization, train_iterations=2,
        )  # fmt: skip
        crf = DenseCRF(3, config).double().train()
        logits = torch.randn(2, 3, 9, 8, dtype=F64, requires_grad=True)
        image, mask = 255 * torch.rand(2, 3, 9, 8, dtype=F64), torch.rand(2, 9, 8) < 0.8
        learned = [logits, *(p for p in crf.parameters() if p.requires_grad)]

        def run(crf=crf, logits=logits, image=image, mask=mask, learned=learned):
            return torch.autograd.grad(crf(logits, image, mask=mask).square().sum(), learned)

        for found, expected in zip(*on_both(run), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("filter", ["exact", "local"])
@pytest.mark.parametrize("normalization", ["after", "symmetric"])
def test_layer_with_near_pairs_as_by_torch(filter, normalization):
    """Training with learned bandwidths and a mask, and evaluation, of a batch of two."""
    config = CRFConfig(
        w1=0.5, w2=0.3, theta_alpha=5.0, theta_beta=30.0, normalization=normalization, filter=filter,
        iterations=3, train_iterations=2,
    )  # fmt: skip
    crf = DenseCRF(3, config).double().train()
    logits = torch.randn(2, 3, 19, 17, dtype=F64, requires_grad=True)
    image, mask = 255 * torch.rand(2, 3, 19, 17, dtype=F64), torch.rand(2, 19, 17) < 0.8

    def run():
        found = torch.autograd.grad(
            crf.train()(logits, image, mask=mask).square().sum(), [logits, *crf.parameters()]
        )
        with torch.no_grad():
            return *found, crf.eval()(logits, image, mask=mask)

    for found, expected in zip(*on_both(run), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)  # pairs below eps are others


@pytest.mark.parametrize("filter", ["permutohedral", "exact", "local"])
def test_recompute_gives_the_same_gradients(filter):
    logits = torch.randn(1, 4, 11, 12, dtype=F64, requires_grad=True)
    image = 255 * torch.rand(1, 3, 11, 12, dtype=F64)
    found = []
    for recompute in (False, True):
        config = CRFConfig(
            theta_alpha=5.0, theta_beta=30.0, inference=MeanField(recompute=recompute), filter=filter
        )
        crf = DenseCRF(4, config).double().train()
        torch.manual_seed(0)
        found.append(torch.autograd.grad(crf(logits, image).square().sum(), [logits, *crf.parameters()]))
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(again, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("filter", [ExactFilter(), LocalFilter(3), LocalFilter(3, 2)], ids=str)
def test_gradient_of_the_features_serves_where_numba_is(filter, monkeypatch):
    """A first derivative comes from the compiled kernels; one to be differentiated again from torch."""
    called = []
    for name, place in (("_grad_features", CompiledPairs), ("features_gradient_in_window", local)):
        function = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *a, f=function: called.append(1) or f(*a))
    features = torch.randn(1, 3, 40, dtype=F64, requires_grad=True)
    values = torch.rand(1, 5, 40, dtype=F64)
    for again, count in ((False, 1), (True, 0)):
        called.clear()
        out = filter.operator(features, grid=(5, 8))(values)
        torch.autograd.grad(out.square().sum(), features, create_graph=again)
        assert len(called) == count


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_values_of_half_precision_are_summed_in_single(dtype):
    features, values = torch.randn(1, 3, 40), torch.rand(1, 5, 40)
    for operator in (PermutohedralFilter().operator(features), SeparableGaussian((5, 8), 1.5)):
        out = operator(values.to(dtype))
        assert out.dtype == dtype
        assert torch.linalg.norm(out.float() - operator(values)) < 0.02 * torch.linalg.norm(operator(values))


def test_double_values_on_single_features():
    features, values = torch.randn(1, 3, 40), torch.rand(1, 5, 40, dtype=F64)
    operator = PermutohedralFilter().operator(features)
    assert operator(values).dtype == F64
    torch.testing.assert_close(operator(values), operator(values.float()).double(), rtol=1e-5, atol=1e-6)


def test_serves_where_numba_is_and_only_there(monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("compiled")

    monkeypatch.setattr(compiled.CompiledLattice, "_filter", refuse)
    monkeypatch.setattr(compiled.CompiledGrid, "_filter", refuse)
    monkeypatch.setattr(CompiledPairs, "_filter", refuse)
    monkeypatch.setattr(local, "filter_in_window", refuse)
    features, values = torch.randn(1, 3, 40), torch.rand(1, 5, 40)

    def operators():
        return (
            PermutohedralFilter().operator(features),
            SeparableGaussian((5, 8), 1.5),
            ExactFilter().operator(features),
            LocalFilter(3).operator(features, grid=(5, 8)),
        )

    def apply():
        return [operator(values) for operator in operators()]

    for operator in operators():
        with pytest.raises(RuntimeError, match="compiled"):
            operator(values)
    with kernels.using("off"):
        apply()
    monkeypatch.setitem(sys.modules, "numba", None)
    apply()


def test_operators_alone_inside_a_compiled_model():
    """Graph breaks are allowed, errors are not; in a process of its own, where shapes are not checked."""
    code = """
import torch
from crfnet.crf.filters import ExactFilter, LocalFilter, PermutohedralFilter, SeparableGaussian
values, features = torch.rand(1, 5, 40, requires_grad=True), torch.randn(1, 3, 40)
for operator in (
    PermutohedralFilter().operator(features), SeparableGaussian((5, 8), 1.5),
    ExactFilter().operator(features), LocalFilter(3).operator(features, grid=(5, 8)),
):
    model = lambda x: operator(2 * x) + operator.average(x)
    results = [torch.autograd.grad(f(values).square().sum(), values)[0]
               for f in (model, torch.compile(model, backend="eager"))]
    torch.testing.assert_close(*results)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
