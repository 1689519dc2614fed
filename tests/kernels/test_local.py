"""The local filter through both paths, against its matrix in float64."""

import math

import pytest
import torch

from crfnet.crf.filters import LocalFilter
from crfnet.crf.reference import filter_values, local_matrix
from crfnet.kernels.gpu import local
from tests.kernels.conftest import gradients, recorded
from tests.tolerances import assert_as_good, assert_close

F32 = torch.float32


@pytest.fixture
def launched(monkeypatch):
    return recorded(monkeypatch, local)


def by_matrix(grid, window, pool=1):
    return lambda v, f: (v.double() @ local_matrix(f.double(), grid, window, pool).mT).to(v.dtype)


@pytest.mark.parametrize(
    ("grid", "window", "pool", "dimensions", "labels"),
    [
        ((1, 1), 5, 1, 1, 1),
        ((71,), 3, 1, 2, 3),
        ((3, 5), 3, 1, 5, 21),
        ((1, 35), 3, 1, 1, 33),
        ((1, 3), 3, 1, 2, 150),
        ((2, 3, 2), 3, 1, 1, 2),
        ((1, 3), 3, 1, 18, 1),
        ((5, 3), 3, 2, 2, 3),
        ((3, 4), 1, 1, 2, 2),
    ],
)
def test_awkward_sizes(path, launched, grid, window, pool, dimensions, labels, device):
    """Forward and both gradients; values and features that do not lie in memory one after the other."""
    pixels = math.prod(grid)
    values = torch.randn(2, pixels, labels, device=device).mT
    features, grad = (torch.randn(2, c, pixels, device=device) for c in (dimensions, labels))
    apply = LocalFilter(window, pool)
    actual = gradients(
        lambda v, f: apply.operator(f, grid=grid)(v), values, features.mT.contiguous().mT, grad
    )
    expected = gradients(by_matrix(grid, window, pool), *(x.double() for x in (values, features, grad)))
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == F32
        assert_close(one, other, "exact", F32)
    count = 1 if path == "kernels" else 0
    assert launched == ["filter_values", "filter_values", "grad_features"] * count


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # the interpreter's: exp2 of -infinity is 0
def test_points_far_from_zero_and_from_one_another(path, device):
    features = torch.randn(1, 2, 30, device=device) + 1e5
    features[..., ::7] *= 1e20
    values = torch.randn(1, 3, 30, device=device)
    out = LocalFilter(5).operator(features, grid=(5, 6))(values)
    assert_close(out, by_matrix((5, 6), 5)(values.double(), features.double()), "exact", F32)


def test_second_derivatives(device, launched, kernels_on):
    """They go through torch where features learn."""
    features, values, grad = (torch.randn(1, c, 20, device=device) for c in (2, 3, 3))

    def second(dtype):
        leaves = [x.to(dtype).requires_grad_() for x in (values, features)]
        out = LocalFilter(3).operator(leaves[1], grid=(4, 5))(leaves[0])
        first = torch.autograd.grad(out, leaves, grad.to(dtype), create_graph=True)
        assert "grad_features" not in launched
        return torch.autograd.grad(sum(x.square().sum() for x in first), leaves)

    actual = second(F32)
    launched.clear()
    for one, other in zip(actual, second(torch.float64), strict=True):
        assert_close(one, other, "exact", F32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype, device, kernels_on):
    """A window over everything, so that `reference` has the same sums."""
    features, values, grad = (torch.randn(1, c, 7, device=device, dtype=dtype) for c in (2, 5, 5))
    actual = gradients(lambda v, f: LocalFilter(13).operator(f, grid=(7,))(v), values, features, grad)
    plain = gradients(filter_values, values, features, grad)
    expected = gradients(filter_values, values.double(), features.double(), grad.double())
    for one, other, truth in zip(actual, plain, expected, strict=True):
        assert_as_good(one, other, truth)


def test_types_that_are_not_taken(device):
    values = torch.zeros(1, 2, 5, device=device)
    with pytest.raises(ValueError, match=r"features is torch.float64; kernels take"):
        local.filter_values(values, values.double(), 1)
