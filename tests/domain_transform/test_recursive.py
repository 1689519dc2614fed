"""The recursive filter on every path, against the twin in float64: forward and both gradients."""

import pytest
import torch

from crfnet import kernels
from crfnet.domain_transform import recursive, reference

SIZES = [(2, 3, 5, 7), (1, 21, 17, 11), (2, 9, 1, 6), (1, 11, 9, 1), (1, 1, 1, 1), (1, 2, 2, 140)]


@pytest.fixture(params=["compiled", "scans", "torch"])
def path(request):
    """Every way to compute it; scans in Triton's interpreter where there is no GPU."""
    if request.param == "scans":
        pytest.importorskip("triton")
    with kernels.using({"compiled": "auto", "scans": "on", "torch": "off"}[request.param]):
        yield request.param


def random(size, dtype, iterations=2):
    b, _, h, w = size
    values = torch.randn(size, dtype=dtype)
    weights = torch.rand(iterations, 2, b, h, w, dtype=dtype)
    return values, weights, torch.randn(size, dtype=dtype)


def gradients(function, values, weights, gradient):
    values, weights = values.clone().requires_grad_(), weights.clone().requires_grad_()
    out = function(values, weights)
    return out, *torch.autograd.grad(out, (values, weights), gradient, materialize_grads=True)


@pytest.mark.parametrize("size", SIZES)
def test_awkward_sizes(path, size):
    if path == "scans":  # the interpreter takes a second for a thousand numbers
        size = (size[0], min(size[1], 2), min(size[2], 5), min(size[3], 140))
    given = random(size, torch.float32)
    expected = gradients(reference.recursive_filter, *(x.double() for x in given))
    for actual, other in zip(gradients(recursive.recursive_filter, *given), expected, strict=True):
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual.double(), other, atol=2e-5, rtol=1e-5)


def test_memory_in_another_order(path):
    values, weights, gradient = random((2, 2, 3, 5), torch.float32)
    expected = gradients(recursive.recursive_filter, values, weights, gradient)
    given = (x.transpose(-1, -2).contiguous().transpose(-1, -2) for x in (values, weights, gradient))
    for actual, other in zip(gradients(recursive.recursive_filter, *given), expected, strict=True):
        torch.testing.assert_close(actual, other)


def test_gradcheck_in_float64():
    values, weights, _ = random((2, 3, 4, 5), torch.float64)
    inputs = (values.requires_grad_(), weights.requires_grad_())
    assert torch.autograd.gradcheck(recursive.recursive_filter, inputs)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_threads(count):
    from crfnet.kernels.cpu import domain_transform

    values, weights, gradient = (x.numpy() for x in random((2, 21, 19, 30), torch.float64))
    one = domain_transform.recursive_filter_gradient(values, weights, gradient, count=1)
    several = domain_transform.recursive_filter_gradient(values, weights, gradient, count=count)
    for actual, expected in zip(several, one, strict=True):
        torch.testing.assert_close(actual, expected)
