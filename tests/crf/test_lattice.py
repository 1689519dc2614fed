"""Lattices scaled, summed, with points that only bring corners: all against the readable loops."""

import pytest
import torch

from crfnet import kernels
from crfnet.crf.filters import ExactFilter, PermutohedralFilter
from crfnet.crf.filters.permutohedral import lattice as lattice_module
from crfnet.crf.filters.permutohedral.lattice import build_lattice, sum_of
from crfnet.crf.reference import permutohedral_matrix
from tests.tolerances import assert_close

F64 = torch.float64


@pytest.fixture(params=["auto", "off"], autouse=True)
def path(request):
    """Operators by the compiled kernels, and by torch."""
    with kernels.using(request.param):
        yield


def matrix(features):
    """Of one image (1, d, n)."""
    return permutohedral_matrix(features[0].double())


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_factors_in_the_weights(dtype):
    features, values = torch.randn(1, 3, 13, dtype=dtype), torch.randn(13, 4, dtype=dtype)
    send, receive = torch.rand(13, dtype=dtype), torch.rand(13, dtype=dtype)
    lattice = build_lattice(features)
    both = receive.diag().double() @ matrix(features) @ send.diag().double()
    assert_close(lattice.scaled(send, receive)(values), both @ values.double(), "lattice", dtype)
    assert_close(
        lattice.scaled(None, receive)(values),
        receive.diag().double() @ matrix(features) @ values.double(),
        "lattice",
        dtype,
    )
    assert_close(lattice(values), matrix(features) @ values.double(), "lattice", dtype)  # is what it was


@pytest.mark.parametrize("dimensions", [(2, 5), (5, 2), (3, 3), (1, 4, 2), (6,)])
def test_a_sum_of_lattices_is_the_sum_of_their_matrices(dimensions):
    features = [torch.randn(1, d, 17, dtype=F64) for d in dimensions]
    values = torch.randn(17, 3, dtype=F64)
    total = sum_of([build_lattice(one) for one in features])
    expected = sum(matrix(one) for one in features) @ values
    assert_close(total(values), expected, "lattice", F64)


def test_a_sum_of_lattices_of_a_batch():
    first, second = torch.randn(3, 2, 7, dtype=F64), torch.randn(3, 4, 7, dtype=F64)
    values = torch.randn(3, 7, 2, dtype=F64)
    total = sum_of([build_lattice(first), build_lattice(second)])(values.view(21, 2)).view(3, 7, 2)
    for image in range(3):
        both = permutohedral_matrix(first[image]) + permutohedral_matrix(second[image])
        assert_close(total[image], both @ values[image], "lattice", F64)


@pytest.mark.parametrize("silent", [0, 1, 3])
def test_silent_points_have_corners_and_nothing_else(silent):
    features = torch.randn(1, 3, 15, dtype=F64)
    heard = 15 - silent
    values = torch.randn(heard, 2, dtype=F64)
    expected = matrix(features)[:heard, :heard] @ values
    assert_close(build_lattice(features, silent)(values), expected, "lattice", F64)


@pytest.mark.parametrize("normalization", ["after", "symmetric", "before", "none"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("filter", [PermutohedralFilter(), ExactFilter()], ids=["lattice", "exact"])
def test_scaled_without_gradients_is_scaled_with_them(filter, masked, normalization):
    from crfnet.crf.normalization import normalized

    features, values = torch.randn(2, 3, 11, dtype=F64), torch.randn(2, 4, 11, dtype=F64)
    mask = torch.rand(2, 11) > 0.3 if masked else None
    operator = filter.operator(features, mask=mask)
    weight = torch.tensor(2.5, dtype=F64)
    expected = normalized(operator, values, normalization, weight)(values)
    before = values.clone()
    with torch.no_grad():
        folded = normalized(operator, values, normalization, weight)
        assert_close(folded(values), expected, "lattice", F64)
    assert torch.equal(values, before)
    # Made without gradients and called with them, it still passes them on.
    values.requires_grad_()
    (grad,) = torch.autograd.grad(folded(values).square().sum(), values)
    (wanted,) = torch.autograd.grad(
        normalized(operator, values, normalization, weight)(values).square().sum(), values
    )
    assert_close(grad, wanted, "lattice", F64)


@pytest.mark.parametrize("codes", ["small", "wide", "negative"])
def test_codes_are_sorted_whatever_their_size(codes):
    low, high = {"small": (0, 9), "wide": (0, 2**62), "negative": (-(2**62), 2**62)}[codes]
    given = torch.randint(low, high, (101,))
    ordered, order = lattice_module._sorted(given)
    assert torch.equal(ordered, given.sort().values)
    assert torch.equal(given[order], ordered)
