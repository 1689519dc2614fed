"""The compiled sums over near pairs against all pairs of the reference: values and the features' gradient."""

import math

import numpy as np
import pytest
import torch

from crfnet.crf.filters.exact.compiled import CompiledPairs
from crfnet.crf.reference import filter_values, kernel_matrix
from tests.tolerances import assert_close

DTYPES = [torch.float32, torch.float64]


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def against_brute_force(features, values, reach=math.inf, mask=None):
    grad = torch.rand_like(values) - 0.3
    if mask is not None:
        values, grad = (x * mask.unsqueeze(1) for x in (values, grad))
    pairs = CompiledPairs(features, mask, reach)
    found = pairs.filter(values), pairs.grad_features(grad, values)
    wide = features.double().requires_grad_()
    out = filter_values(values.double(), wide)
    expected = out, torch.autograd.grad(out, wide, grad.double())[0]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == features.dtype
        inside = 1 if mask is None else mask.unsqueeze(1)
        assert_close(one * inside, other * inside, "exact", features.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pixels", [2, 15, 16, 17, 63, 129, 257, 500])
def test_any_number_of_points(threads, pixels, dtype):
    """One block and many, filled up or not; more threads than blocks; a batch of 2."""
    against_brute_force(torch.randn(2, 3, pixels, dtype=dtype), torch.rand(2, 7, pixels, dtype=dtype))


@pytest.mark.parametrize("dimensions", [1, 2, 5, 18])
@pytest.mark.parametrize("labels", [1, 3, 4, 5, 21, 150])
def test_any_number_of_labels_and_features(labels, dimensions):
    features = torch.randn(1, dimensions, 90, dtype=torch.float64) / max(1, dimensions / 4) ** 0.5
    against_brute_force(features, torch.rand(1, labels, 90, dtype=torch.float64))


def test_a_point_alone():
    pairs = CompiledPairs(torch.randn(1, 3, 1), None, 5.0)
    values = torch.rand(1, 2, 1)
    torch.testing.assert_close(pairs.filter(values), values)
    assert (pairs.grad_features(values, values) == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reach", [math.inf, 7.6])
def test_points_outside_a_mask(threads, reach, dtype):
    """Each image its own; a few of one image are inside, and none of many whole blocks."""
    mask = torch.rand(3, 800) < torch.tensor([[1.0], [0.5], [0.05]])
    mask[2, :400] = False
    mask[:, 500] = True
    features = torch.randn(3, 3, 800, dtype=dtype)
    features = torch.where(mask.unsqueeze(1), features, features[:, :, [500]])
    against_brute_force(features, torch.rand(3, 5, 800, dtype=dtype), reach, mask)


@pytest.mark.parametrize("pixels", [200, 1000])
def test_what_is_left_out_is_beyond_reach(threads, pixels):
    """The operator as a matrix: symmetric, each entry K_ij or, if beyond, possibly 0; few points keep all."""
    features = 2 * torch.randn(1, 2, pixels, dtype=torch.float64)
    reach = 3.0
    matrix = CompiledPairs(features, None, reach).filter(torch.eye(pixels, dtype=torch.float64)[None])[0]
    kernel = kernel_matrix(features)[0]
    left_out = matrix == 0
    assert bool(left_out.any()) == (pixels > 256)
    assert (kernel[left_out] < math.exp(-(reach**2) / 2)).all()
    assert_close(matrix[~left_out], kernel[~left_out], "exact", torch.float64)
    assert torch.equal(left_out, left_out.mT)
    if pixels > 256:  # boxes of 16 points are cut close
        assert left_out.sum() > 0.8 * (kernel < math.exp(-((reach + 1.5) ** 2) / 2)).sum()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("side", [-1, 1])
def test_distance_between_boxes(axis, side):
    """Two groups of points left of, right of, above or below one another, just within reach or beyond."""
    for distance, reaches in ((3.9999, True), (4.001, False)):
        features = torch.zeros(1, 2, 512, dtype=torch.float64)
        features[0, 1 - axis] = torch.linspace(0, 1, 512) % 0.5
        features[0, axis, 256:] = side * distance
        values = torch.zeros(1, 1, 512, dtype=torch.float64)
        values[..., :256] = 1
        out = CompiledPairs(features, None, 4.0).filter(values)[0, 0, 256:]
        assert bool((out > 0).any()) == reaches


def test_single_precision_far_from_zero_and_with_outliers():
    plain = 3 * torch.randn(2, 3, 500)
    outlier = torch.rand(2, 1, 500) < 0.03
    for features in (plain + 1e5, torch.where(outlier, 1e25 * plain, plain), torch.full_like(plain, 1e3)):
        against_brute_force(features, torch.rand(2, 3, 500), 5.3)


def test_values_of_another_precision_than_the_features():
    features, values = torch.randn(1, 3, 300, dtype=torch.float64), torch.rand(1, 5, 300)
    pairs = CompiledPairs(features, None, math.inf)
    assert pairs.filter(values).dtype == torch.float32
    assert_close(pairs.filter(values), pairs.filter(values.double()), "exact", torch.float32)


def test_threads_do_not_change_a_bit():
    features, values = torch.randn(2, 5, 700), torch.rand(2, 21, 700)
    pairs, before, found = CompiledPairs(features, None, 5.3), torch.get_num_threads(), []
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            found.append((pairs.filter(values).numpy(), pairs.grad_features(values, values).numpy()))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
