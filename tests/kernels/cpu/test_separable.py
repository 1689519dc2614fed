"""The Gaussian of a pixel grid against sums over all pairs of pixels."""

import numpy as np
import pytest

from crfnet.kernels.cpu.filtering_on_grid import filter_on_grid
from crfnet.kernels.cpu.grid import Grid, grid_of
from crfnet.kernels.cpu.theta_gamma import filter_with_slope, sum_of_some


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
    send, receive = rng.random((2, 2, values.shape[2])).astype(dtype)
    matrix, grid = grid_matrix(shape, theta, spacing), grid_of(shape, theta, dtype, spacing)
    expected = receive[:, None] * ((send[:, None] * values).astype(float) @ matrix)
    for count in (1, 3, 5):
        filtered = filter_on_grid(
            values, grid.shape, grid.radii, grid.taps[None], send=send, receive=receive, count=count
        )
        np.testing.assert_allclose(filtered, expected, atol=tolerance * max(1.0, np.abs(expected).max()))


def slopes_of(grid: Grid, theta: float, spacing) -> np.ndarray:
    """The taps' derivatives in theta."""
    away = np.arange(grid.taps.shape[1]) * np.array(spacing)[:, None]
    return grid.taps * away**2 / theta**3


def test_every_image_has_taps_of_its_own():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(3, 9, 7 * 11))
    grids = [
        grid_of((7, 11), theta, np.float64, radius_in_sigmas=5.5 * 2 / theta) for theta in (1.0, 2.0, 1.5)
    ]
    taps = np.stack([grid.taps for grid in grids])
    filtered = filter_on_grid(values, grids[0].shape, grids[0].radii, taps)
    for one, grid, result in zip(values, grids, filtered, strict=True):
        alone = filter_on_grid(one[None], grid.shape, grid.radii, grid.taps[None])
        np.testing.assert_allclose(result, alone[0], atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-4), (np.float64, 1e-11)])
@pytest.mark.parametrize("theta", [0.3, 1.0, 3.0, 40.0])
@pytest.mark.parametrize("shape", [(1,), (2,), (9,), (1, 13), (13, 1), (7, 5), (3, 67), (131, 70)])
def test_the_derivative_of_theta_is_a_difference_of_two_thetas(dtype, tolerance, theta, shape):
    """With factors, beside the filtered gradient; the radius stays."""
    rng = np.random.default_rng(2)
    missing = 3 - len(shape)
    spacing = [1.0] * missing + [1.0 + i / 2 for i in range(len(shape))]
    values, grad = rng.normal(size=(2, 2, 11, int(np.prod(shape)))).astype(dtype)
    send, receive = rng.random((2, 2, values.shape[2])).astype(dtype)
    grid = grid_of(shape, theta, np.dtype(np.float64), spacing[missing:])

    def product(change: float) -> np.ndarray:
        away = np.arange(grid.taps.shape[1]) * np.array(spacing)[:, None]
        taps = np.exp(-0.5 * (away / (theta + change)) ** 2)
        sent = send[:, None].astype(float) * grad
        return filter_on_grid(sent, grid.shape, grid.radii, taps[None]) * receive[:, None]

    step = 1e-5 * theta
    terms = values * (product(step) - product(-step)) / (2 * step)
    for count in (1, 3):
        filtered, slope = filter_with_slope(
            grad, values, grid.shape, grid.radii, grid.taps[None].astype(dtype),
            slopes_of(grid, theta, spacing)[None].astype(dtype), send=send, receive=receive, count=count,
        )  # fmt: skip
        np.testing.assert_allclose(filtered, product(0.0), atol=tolerance * np.abs(filtered).max())
        assert abs(slope - terms.sum()) <= max(tolerance, 1e-8) * np.abs(terms).sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("images", [1, 2])
def test_sum_of_some_pixels(dtype, images):
    """Of two images; the last eight of 29 pixels are not whole."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 2, 5, 29)).astype(dtype)
    weights = np.zeros((images, 29), dtype)
    weights[:, [0, 9, 25, 28]] = rng.normal(size=(images, 4))
    expected = (weights[:, None].astype(float) * x * y).sum()
    for count in (1, 3):
        found = sum_of_some(x, y, np.array([0, 1, 3]), weights, count)
        np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == np.float32 else 1e-12)
