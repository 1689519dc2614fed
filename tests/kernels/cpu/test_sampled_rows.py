"""The compiled rows of the exact kernel beside the torch path, which draws the same ones."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from crfnet.crf.filters.permutohedral.sampled_theta_gradient import SampledRows
from crfnet.kernels.cpu import sampled_rows
from crfnet.kernels.cpu.sampled_rows import pixel_runs, sums_of_sizes
from tests.lossy_products import LossyProducts

F64 = torch.float64


class Problem:
    """Random features, values and gradients; with ``holes`` a mask."""

    def __init__(self, batch=2, labels=3, dimensions=5, pixels=150, *, holes=False, width=8.0, dtype=F64):
        torch.manual_seed(pixels + dimensions)
        self.features = (torch.rand(batch, dimensions, pixels, dtype=F64) * width).to(dtype)
        self.values = torch.rand(batch, pixels, labels, dtype=dtype).mT  # as mean field holds them
        self.grad = torch.randn(batch, pixels, labels, dtype=dtype).mT
        self.row_sums = 0.5 + torch.rand(batch, 1, pixels, dtype=dtype)
        self.mask = None
        if holes:
            self.mask = torch.rand(batch, pixels) < 0.5
            self.mask[:, pixels // 2] = True
            inside = self.mask.unsqueeze(1)
            middle = self.features[:, :, [pixels // 2]]
            self.features = torch.where(inside, self.features, middle)
            self.values, self.grad = self.values * inside, self.grad * inside
            self.row_sums = torch.where(inside, self.row_sums, 1.0)

    def gradient(self, rows, *, scaled=False, seed=3):
        torch.manual_seed(seed)
        sampled = SampledRows(self.features, self.mask, rows)
        return sampled.gradient(self.grad, self.values, self.row_sums if scaled else None)


def both(monkeypatch, problem, rows, **options):
    compiled = problem.gradient(rows, **options)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "numba", None)
        return compiled, problem.gradient(rows, **options)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 10**6])
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"pixels": 1, "batch": 1},
        {"pixels": 64, "dimensions": 1},
        {"pixels": 65, "labels": 21},
        {"pixels": 200, "dimensions": 9, "labels": 1},
        {"pixels": 130, "batch": 3, "width": 40.0},
    ],
    ids=str,
)
def test_equals_torch(monkeypatch, sizes, rows, holes, scaled):
    compiled, torch_path = both(monkeypatch, Problem(**sizes, holes=holes), rows, scaled=scaled)
    torch.testing.assert_close(compiled, torch_path, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("scaled", [False, True])
def test_theta_gradient_where_products_lose_digits(monkeypatch, scaled):
    """That of the bandwidths, where positions and colors are far from 0: a row and its neighbors cancel."""
    monkeypatch.setitem(sys.modules, "numba", None)
    problem = Problem(pixels=300, width=4.0)
    problem.features += 50
    exact = (problem.gradient(10**6, scaled=scaled) * problem.features).sum(2)
    for name in ("features", "values", "grad", "row_sums"):
        setattr(problem, name, getattr(problem, name).float())
    with LossyProducts():
        lossy = problem.gradient(10**6, scaled=scaled)
    torch.testing.assert_close((lossy * problem.features).sum(2), exact.float(), rtol=1e-3, atol=0.01)


def test_single_precision(monkeypatch):
    problem = Problem(pixels=300, labels=21, width=4.0)
    exact = problem.gradient(10**6)
    for name in ("features", "values", "grad"):
        setattr(problem, name, getattr(problem, name).float())
    for gradient in both(monkeypatch, problem, 10**6):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient.double(), exact, rtol=1e-4, atol=1e-5)


def test_far_from_zero():
    """Differences of features count, not how far they are from 0."""
    problem = Problem(dtype=torch.float32)
    problem.features = problem.features.round()
    here = problem.gradient(10)
    problem.features += 1000
    torch.testing.assert_close(problem.gradient(10), here, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threads", [2, 3, 5, 64])
def test_threads_do_not_change_it(threads):
    problem = Problem(pixels=500)
    before = torch.get_num_threads()
    results = []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            results.append(problem.gradient(33))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_skipped_is_small(dtype):
    """Even where all other pixels lie just beyond the cut-off."""
    missed = {np.float32: 1e-5, np.float64: 1e-13}[dtype]
    pixels = 1000
    runs = pixel_runs(np.zeros((2, pixels), dtype), np.ones(pixels, bool))
    assert (pixels - 1) * np.exp(-runs.farthest / 2) <= missed


def test_far_runs_are_skipped():
    """Two groups of pixels beyond each other's cut-off, eight of each in turn."""
    problem = Problem(batch=1, pixels=256, width=1.0)
    other = torch.arange(256) // 8 % 2 == 1
    problem.features[..., other] += 100.0
    problem.grad[..., other] = 0  # rows of one group only
    runs = pixel_runs(problem.features[0].numpy(), np.ones(256, bool))
    assert (runs.high - runs.low)[:, :32].max() <= 1.0
    assert (problem.gradient(10**6)[..., other] == 0).all()


@pytest.mark.parametrize("heavy", [1, 8])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("side", [-1, 1])
def test_distance_from_a_box(axis, side, heavy):
    """8 pixels are left of, right of, above or below others, just within reach of the nearest, or not.

    Of a row that comes to 8, less is within reach than of one that comes to 1.
    """
    runs = pixel_runs(np.zeros((2, 16)), np.ones(16, bool))
    reach = (runs.farthest - 2 * np.log(heavy)) ** 0.5
    for distance, reaches in ((reach - 1e-6, True), (reach + 1e-6, False)):
        problem = Problem(batch=1, pixels=16, dimensions=2)
        problem.features[:] = 0
        problem.features[0, axis, :8] = -side * torch.linspace(0, 1, 8, dtype=F64)
        problem.features[0, axis, 8:] = side * distance
        if heavy == 1:  # far from one another on the other axis
            problem.features[0, 1 - axis, 9:] = 1e3 * torch.arange(1, 8, dtype=F64)
        problem.grad[..., :8] = 0
        problem.grad[..., 9:] = 0
        assert bool((problem.gradient(10**6)[..., :8] != 0).any()) == reaches


@pytest.mark.parametrize("pixels", [1, 63, 64, 65])
def test_runs_hold_every_pixel_once(pixels):
    """The last one is filled up with pixels that do not count; boxes are of those that do, in eights."""
    rng = np.random.default_rng(0)
    features, inside = rng.normal(size=(3, pixels)), rng.random(pixels) < 0.7
    inside[0] = True
    runs = pixel_runs(features, inside)
    assert runs.features.shape[1] == 8 * -(-pixels // 8)
    assert (runs.features[:, :pixels] == features).all()
    assert (runs.inside == np.pad(inside, (0, -pixels % 8))).all()
    assert runs.low.shape[1] % 8 == 0
    for k in range(runs.low.shape[1]):
        some = features[:, 8 * k : 8 * k + 8][:, inside[8 * k : 8 * k + 8]]
        np.testing.assert_array_equal(runs.low[:, k], some.min(1, initial=1e15))
        if some.size:
            np.testing.assert_array_equal(runs.high[:, k], some.max(1))


@pytest.mark.parametrize("pixels", [1, 8, 1030])
def test_sums_of_sizes(pixels):
    x = np.random.default_rng(0).normal(size=(2, 3, pixels))
    for count in (1, 3):
        np.testing.assert_allclose(sums_of_sizes(x, count), np.abs(x).sum(1), rtol=1e-14)
    x[0, 1, 0], x[1, 0, 0] = np.nan, -np.inf
    assert np.isnan(sums_of_sizes(x)[0, 0])
    assert sums_of_sizes(x)[1, 0] == np.inf


DRAWS = 4000


def copies(problem):
    """Every image of a batch draws rows of its own, so that 4000 equal images are 4000 draws."""
    for name in ("features", "values", "grad", "row_sums", "mask"):
        setattr(problem, name, getattr(problem, name).expand(DRAWS, *getattr(problem, name).shape[1:]))
    return problem


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("hidden", [False, True], ids=["compiled", "torch"])
def test_unbiased(monkeypatch, hidden, scaled):
    """The mean of many draws is the gradient from all rows within its standard error."""
    if hidden:
        monkeypatch.setitem(sys.modules, "numba", None)
    problem = Problem(batch=1, pixels=30, holes=True, width=3.0)
    problem.grad = problem.grad * (torch.rand(1, 1, 30) < 0.3)
    exact = problem.gradient(10**6, scaled=scaled)[0]
    draws = copies(problem).gradient(6, scaled=scaled)
    error = (draws.mean(0) - exact) / (draws.std(0) / DRAWS**0.5 + 1e-12)
    assert error.abs().max() < 4.5  # of 150 numbers
    assert error.square().mean() < 2


def test_weights_count_every_pixel_once():
    """Weights of a pixel's draws have mean 1 whatever its gradient; pixels outside are not drawn."""
    problem = Problem(batch=1, pixels=40, holes=True)
    problem.grad = problem.grad * torch.logspace(-12, 3, 40, dtype=F64)
    outside = ~problem.mask[0]
    copies(problem)
    index, weight = SampledRows(problem.features, problem.mask, 8)._drawn(problem.grad, None)
    counts = torch.zeros(DRAWS, 40, dtype=F64).scatter_add(1, index, weight)
    assert (counts[:, outside] == 0).all()
    error = (counts.mean(0) - 1) / (counts.std(0) / DRAWS**0.5 + 1e-9)
    assert error[~outside].abs().max() < 4.5


@pytest.mark.parametrize("hidden", [False, True], ids=["compiled", "torch"])
def test_not_a_number_stays_none(monkeypatch, hidden):
    if hidden:
        monkeypatch.setitem(sys.modules, "numba", None)
    for value in (torch.nan, torch.inf):
        problem = Problem()
        problem.grad[0, 1, 7] = value
        gradient = problem.gradient(4)
        assert gradient[0].isnan().any()
        assert gradient[1].isfinite().all()


def test_serves_only_where_numba_is(monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("compiled")

    monkeypatch.setattr(sampled_rows, "sampled_rows_gradient", refuse)
    problem = Problem()
    with pytest.raises(RuntimeError, match="compiled"):
        problem.gradient(3)
    monkeypatch.setitem(sys.modules, "numba", None)
    problem.gradient(3)


def test_import_of_the_package_leaves_numba_alone():
    check = "import sys, crfnet, crfnet.crf.filters; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
