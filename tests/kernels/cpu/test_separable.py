"""The Gaussian of a pixel grid against sums over all pairs of pixels."""

import numpy as np
import pytest

from crfnet.kernels.cpu.filtering import filter_on_grid
from crfnet.kernels.cpu.separable import grid_of


def grid_matrix(shape, theta, spacing=None) -> np.ndarray:
    """Product over axes of ``exp(-d^2 / 2 theta^2)``, cut off at 5.5 theta; slowest axis first."""
    matrix = np.ones((1, 1))
    for size, apart in zip(shape, spacing or [1] * len(shape), strict=True):
        away = np.abs(np.arange(size)[:, None] - np.arange(size))
        near = away <= np.ceil(5.5 * theta / apart)
        matrix = np.kron(matrix, np.exp(-0.5 * (away * apart / theta) ** 2) * near)
    return matrix


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("theta", [0.1, 0.5, 3.0, 40.0])
@pytest.mark.parametrize(
    "shape",
    [(1,), (9,), (1, 1), (1, 13), (13, 1), (7, 5), (13, 20), (67, 9), (3, 4, 5), (2, 9, 17), (5, 1, 3)],
)
def test_filters_as_its_matrix(dtype, tolerance, theta, shape):
    rng = np.random.default_rng(0)
    spacing = (rng.random(len(shape)) + 0.5).tolist()
    values = rng.normal(size=(2, 11, int(np.prod(shape)))).astype(dtype)
    for count in (1, 3):
        filtered = filter_on_grid(values, grid_of(shape, theta, dtype, spacing), count=count)
        expected = values.astype(float) @ grid_matrix(shape, theta, spacing)
        np.testing.assert_allclose(filtered, expected, atol=tolerance * max(1.0, np.abs(expected).max()))
