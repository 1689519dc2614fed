"""The lattice and mean field through the kernels: the torch path's answers, forward and adjoint."""

import pytest
import torch

from crfnet import kernels
from crfnet.crf import DenseCRF, MeanField
from crfnet.crf.filters import PermutohedralFilter
from crfnet.crf.filters.permutohedral.lattice import build_lattice, sum_of
from tests.tolerances import assert_as_good, assert_close

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def both(work):
    """What ``work`` gives on the torch path, and with the kernels."""
    with kernels.using("off"):
        plain = work()
    with kernels.using("on"):
        return plain, work()


@pytest.mark.parametrize(("labels", "dimensions"), [(1, 2), (3, 5), (21, 1)])
def test_filter_and_adjoint(labels, dimensions):
    features = torch.randn(2, dimensions, 13, device=DEVICE)
    values = torch.randn(2, labels, 13, device=DEVICE, requires_grad=True)
    grad = torch.randn_like(values)

    def work():
        out = PermutohedralFilter().operator(features)(values)
        return out.detach(), *torch.autograd.grad(out, values, grad)

    for expected, got in zip(*both(work), strict=True):
        assert_close(got, expected, "lattice", torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_values(dtype):
    """The filter and its adjoint, against the same lattice in float64."""
    features = torch.randn(2, 3, 23, device=DEVICE)
    values, grad = (torch.randn(2, 4, 23, device=DEVICE, dtype=dtype) for _ in range(2))

    def work(values, grad):
        values = values.detach().requires_grad_()
        out = PermutohedralFilter().operator(features)(values)
        return out.detach(), *torch.autograd.grad(out, values, grad)

    plain, found = both(lambda: work(values, grad))
    for one, other, exactly in zip(found, plain, work(values.double(), grad.double()), strict=True):
        assert_as_good(one, other, exactly)


def test_a_sum_of_lattices_with_factors():
    features = [torch.randn(1, d, 11, device=DEVICE) for d in (2, 5)]
    values, factor = torch.randn(11, 4, device=DEVICE), torch.rand(11, device=DEVICE)
    expected, got = both(
        lambda: sum_of([build_lattice(one).scaled(factor, 2 * factor) for one in features])(values)
    )
    assert_close(got, expected, "lattice", torch.float32)


@pytest.mark.parametrize(
    "changes",
    [
        {"iterations": 0},
        {"iterations": 1},
        {"normalization": "symmetric"},
        {"inference": MeanField(damping=0.3)},
    ],
    ids=str,
)
def test_the_layer_in_evaluation(changes):
    logits = 2 * torch.randn(2, 3, 2, 3, device=DEVICE)
    image = torch.randint(0, 256, (2, 3, 2, 3), dtype=torch.uint8, device=DEVICE)
    crf = DenseCRF.preset("deeplab", 3, **{"iterations": 3, **changes}).eval().to(DEVICE)
    with torch.no_grad():
        expected, got = both(lambda: crf(logits, image))
    assert_close(got, expected, "layer", torch.float32)
    assert logits.isfinite().all()


def test_nothing_given_is_overwritten():
    logits = torch.randn(1, 3, 2, 3, device=DEVICE)
    image = torch.randint(0, 256, (1, 3, 2, 3), dtype=torch.uint8, device=DEVICE)
    before = logits.clone()
    with torch.no_grad(), kernels.using("on"):
        DenseCRF.preset("deeplab", 3, iterations=2).eval().to(DEVICE)(logits, image)
    assert torch.equal(logits, before)
