"""The compiled window against the reference's matrix: values and the gradient of the features."""

import math

import numpy as np
import pytest
import torch

from crfnet.crf.reference import local_matrix
from crfnet.kernels.cpu.local import filter_values, grad_features

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
GRIDS = [(1,), (9,), (47,), (1, 1), (1, 33), (33, 1), (5, 7), (9, 16), (3, 17), (2, 3, 4), (3, 1, 18)]


def problem(grid, labels, dimensions, dtype, batch=2):
    rng = np.random.default_rng(labels + dimensions)
    n = math.prod(grid)
    values, grad = rng.normal(size=(2, batch, labels, n)).astype(dtype)
    return values, grad, rng.normal(size=(batch, dimensions, n)).astype(dtype)


def expected(values, grad, features, grid, radius):
    """Products with the matrix in float64, and the features' gradient as autograd has it."""
    wide = [torch.from_numpy(x).double() for x in (values, grad, features)]
    leaf = wide[2].requires_grad_()
    out = wide[0] @ local_matrix(leaf, grid, 2 * radius + 1, 1).mT
    return out.detach().numpy(), torch.autograd.grad(out, leaf, wide[1])[0].numpy()


def assert_near(found, expected, dtype):
    assert found.dtype == dtype
    scale = max(np.linalg.norm(expected), 1.0)  # the gradient of a single pixel is 0
    assert np.linalg.norm(found - expected) <= TOLERANCE[dtype] * scale


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("radius", [0, 1, 2, 5, 60])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_values_and_gradient(grid, radius, dtype):
    """Lines shorter than a block and longer, windows larger than the grid, several threads."""
    values, grad, features = problem(grid, 7, 3, dtype)
    out, gradient = expected(values, grad, features, grid, radius)
    for count in (1, 3):
        assert_near(filter_values(values, features, grid, radius, count=count), out, dtype)
        assert_near(
            grad_features(grad, values, features, grid, radius, count=count), gradient, dtype
        )  # fmt: skip


@pytest.mark.parametrize("dimensions", [1, 2, 5, 9])
@pytest.mark.parametrize("labels", [1, 3, 4, 5, 21, 33])
def test_any_number_of_labels_and_features(labels, dimensions):
    grid = (6, 19)
    values, grad, features = problem(grid, labels, dimensions, np.float64, batch=1)
    out, gradient = expected(values, grad, features, grid, 2)
    assert_near(filter_values(values, features, grid, 2), out, np.float64)
    assert_near(grad_features(grad, values, features, grid, 2), gradient, np.float64)


def test_threads_do_not_change_a_bit():
    values, grad, features = problem((31, 37), 21, 5, np.float32)
    for function, given in ((filter_values, (values, features)), (grad_features, (grad, values, features))):
        one, four = (function(*given, (31, 37), 3, count=count) for count in (1, 4))
        np.testing.assert_array_equal(one, four)


def test_what_lies_beyond_the_grid_is_not_read():
    """Not a number at one pixel reaches those whose window holds it, and no others: not around a corner."""
    values, _, features = problem((8, 20), 2, 3, np.float64, batch=1)
    values[0, :, 3 * 20 + 19] = np.nan  # at the end of a line
    reached = np.isnan(filter_values(values, features, (8, 20), 2)[0, 0]).reshape(8, 20)
    near = np.zeros((8, 20), bool)
    near[1:6, 17:] = True
    np.testing.assert_array_equal(reached, near)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kernel_value_of_equal_features_is_1(dtype):
    ones = np.ones((1, 4, 20), dtype)
    np.testing.assert_array_equal(filter_values(ones, ones[:, :3], (4, 5), 0), ones)
