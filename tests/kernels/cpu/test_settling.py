"""Mean field whose pixels settle, against the same rule in plain numpy with whole matrices."""

import numpy as np
import pytest

from crfnet.kernels.cpu.grid import grid_of
from crfnet.kernels.cpu.lattice import build_lattice
from crfnet.kernels.cpu.mean_field import NORMALIZATIONS, mean_field
from crfnet.kernels.cpu.settling import settled_labels
from tests.kernels.cpu.test_mean_field import THETA, _log_softmax, _normalized, _problem


def _by_rule(unary, kernels, weights, iterations, tolerance):
    """Labels (variants, n), and the share of blocks that send in each step."""
    pixels = unary.shape[1]
    block = np.arange(pixels) // 8
    x = np.repeat(unary[None], len(weights), 0)
    sent, active, shares = np.zeros_like(x), np.ones(block[-1] + 1, bool), []
    for step in range(iterations):
        change = np.stack([np.exp(_log_softmax(each)) for each in x]) - sent
        if step > 0:
            largest = np.abs(change).max((0, 1))
            active &= np.array([largest[block == b].max() > tolerance for b in range(len(active))])
        shares.append(active.mean())
        change *= active[block]
        sent += change
        for v, pair in enumerate(weights):
            messages = sum(w * (change[v] @ kernel.T) for w, kernel in zip(pair, kernels, strict=True))
            x[v] += messages * active[block]
    return x.argmax(1), np.array(shares)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize(
    ("shape", "labels", "variants", "kernels"),
    [((5, 7), 3, 2, 2), ((1, 8), 2, 1, 2), ((9, 16), 4, 2, 2), ((13, 11), 7, 3, 2), ((6, 10), 5, 2, 1)],
)
@pytest.mark.parametrize("tolerance", [1e-5, 3e-2])
def test_same_as_the_rule(dtype, normalization, shape, labels, variants, kernels, tolerance):
    features, unary, matrices = _problem(shape, labels)
    everywhere = np.ones(unary.shape[1], bool)
    matrices = [_normalized(kernel, normalization, everywhere) for kernel in matrices[:kernels]]
    scale = 0.2 if normalization == "none" else 2.0
    weights = scale * np.random.default_rng(1).random((variants, kernels))
    lattice = build_lattice(features[None].astype(dtype))
    grid = grid_of(shape, THETA, dtype) if kernels == 2 else None
    run = settled_labels(
        unary.astype(dtype), lattice, grid, weights, iterations=6, normalization=normalization,
        tolerance=tolerance,
    )  # fmt: skip
    expected, shares = _by_rule(unary, matrices, weights, 6, tolerance)
    if labels * variants <= 8:  # directions leave nothing
        np.testing.assert_array_equal(run.labels, expected)
        np.testing.assert_allclose(run.active, shares, atol=1e-12 if tolerance > 1e-3 else 0.3)
    assert (run.labels != expected).mean() < tolerance
    assert tolerance < 1e-3 or shares[-1] < 1  # some have settled


@pytest.mark.parametrize("size", [1e9, 1e30])
@pytest.mark.parametrize("pixels", [slice(8, 16), slice(10, 11)], ids=["a block", "one of a block"])
def test_seeds_are_certain_however_large(size, pixels):
    """In float32 the best of such logits less what is cut off is the best."""
    features, unary, matrices = _problem((6, 7), 5)
    unary[3] -= 40
    unary[3, pixels] = size
    matrices = [_normalized(kernel, "after", np.ones(42, bool)) for kernel in matrices]
    grid, weights = grid_of((6, 7), THETA, np.float32), np.array([[1.0, 300.0]])
    run = settled_labels(
        unary.astype(np.float32), build_lattice(features[None].astype(np.float32)), grid, weights,
        iterations=4, normalization="after", tolerance=1e-5,
    )  # fmt: skip
    expected, _ = _by_rule(unary, matrices, weights, 4, 1e-5)
    np.testing.assert_array_equal(run.labels, expected)
    assert (run.labels[:, pixels] == 3).all()


@pytest.mark.parametrize("iterations", [0, 1, 2])
def test_few_steps(iterations):
    features, unary, matrices = _problem((6, 7), 4)
    matrices = [_normalized(kernel, "after", np.ones(42, bool)) for kernel in matrices]
    weights = np.array([[2.0, 1.0], [5.0, 1.0]])
    run = settled_labels(
        unary, build_lattice(features[None]), grid_of((6, 7), THETA, np.float64), weights,
        iterations=iterations, normalization="after", tolerance=1e-4,
    )  # fmt: skip
    expected, _ = _by_rule(unary, matrices, weights, iterations, 1e-4)
    np.testing.assert_array_equal(run.labels, expected)
    assert len(run.active) == len(run.channels) == iterations


def _scene(labels, seed=0, shape=(40, 50), sureness=10.0):
    """Regions with soft borders and noise, as networks give them; features as of an image."""
    rng = np.random.default_rng(seed)
    grid = grid_of(shape, 3.0, np.float64)
    noise = rng.normal(size=(labels, shape[0], shape[1]))
    for axis in (1, 2):
        taps = np.concatenate([grid.taps[axis][:0:-1], grid.taps[axis]])
        noise = np.apply_along_axis(np.convolve, axis, noise, taps / taps.sum(), "same")
    unary = sureness * noise.reshape(labels, -1) / noise.std()
    color = unary.argmax(0) + 0.3 * rng.normal(size=unary.shape[1])
    down, across = np.divmod(np.arange(unary.shape[1]), shape[1])
    return np.stack([down / 8, across / 8, color, 0.5 * color, -color]), unary, shape


@pytest.mark.parametrize("labels", [5, 11, 30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_directions_find_the_labels_of_all(labels, dtype):
    features, unary, shape = _scene(labels)
    lattice, grid = build_lattice(features[None].astype(dtype)), grid_of(shape, 3.0, dtype)
    weights = np.array([[3.0, 3.0], [4.0, 3.0], [6.0, 3.0]])
    run = settled_labels(
        unary.astype(dtype), lattice, grid, weights, iterations=10, normalization="after", tolerance=3e-3
    )
    whole = mean_field(unary.astype(dtype), [lattice], [grid], weights, iterations=10, reduce=0)
    expected = whole.log_marginals.argmax(1)
    assert (expected != unary.argmax(0)).mean() > 0.01
    assert (run.labels != expected).mean() < 1e-3
    assert run.active[0] == 1
    assert run.active[-1] < 0.5
    assert min(run.channels) < 3 * labels


def test_labels_that_are_nowhere_likely_change_nothing():
    features, unary, shape = _scene(6)
    unlikely = np.concatenate([unary[:3], unary.min() - 20 + 0 * unary[:3], unary[3:]])
    lattice, grid = build_lattice(features[None]), grid_of(shape, 3.0, np.float64)
    weights = np.array([[3.0, 3.0], [6.0, 3.0]])
    few, many = (
        settled_labels(u, lattice, grid, weights, iterations=8, normalization="after", tolerance=3e-3).labels
        for u in (unary, unlikely)
    )
    moved = np.where(few >= 3, few + 3, few)
    assert (many != moved).mean() < 1e-3


def test_a_smaller_tolerance_keeps_more_pixels():
    features, unary, shape = _scene(6)
    lattice, grid = build_lattice(features[None]), grid_of(shape, 3.0, np.float64)
    shares = [
        settled_labels(
            unary, lattice, grid, np.array([[4.0, 3.0]]), iterations=10, normalization="after", tolerance=t
        ).active.mean()
        for t in (1e-1, 1e-2, 1e-4)
    ]
    assert shares[0] < shares[1] < shares[2]
