"""The lattice against its readable twin, and where that is too slow, against the one in torch."""

import numpy as np
import pytest
import torch

from crfnet.crf import reference
from crfnet.crf.filters.permutohedral.lattice import build_lattice as torch_lattice
from crfnet.kernels.cpu import lattice as module
from crfnet.kernels.cpu.filtering import filter_on_lattices, lattices_of
from crfnet.kernels.cpu.lattice import build_lattice

TOLERANCE = {np.float32: 2e-4, np.float64: 1e-11}


def filter_on_lattice(values: np.ndarray, lattice, **options) -> np.ndarray:
    """By the lattice of a whole batch, whose points are those of one image."""
    batch, labels, points = values.shape
    one = np.ascontiguousarray(values.transpose(1, 0, 2)).reshape(1, labels, batch * points)
    filtered = filter_on_lattices(one, lattices_of([lattice]), **options)
    return filtered.reshape(labels, batch, points).transpose(1, 0, 2)


def _reference(features: np.ndarray, values: np.ndarray, transposed: bool = False) -> np.ndarray:
    out = []
    for f, v in zip(features, values, strict=True):
        matrix = reference.permutohedral_matrix(torch.tensor(f, dtype=torch.float64)).numpy()
        out.append(v @ (matrix if transposed else matrix.T))
    return np.array(out)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    ("batch", "dimensions", "points", "channels"),
    [(1, 5, 1, 1), (1, 1, 7, 3), (2, 2, 35, 8), (3, 5, 29, 21), (1, 8, 13, 9), (2, 3, 8, 16)],
)
def test_filters_as_its_matrix(dtype, transposed, count, batch, dimensions, points, channels):
    rng = np.random.default_rng(points)
    features = (2 * rng.normal(size=(batch, dimensions, points))).astype(dtype)
    values = rng.normal(size=(batch, channels, points)).astype(dtype)
    lattice = build_lattice(features, count)
    filtered = filter_on_lattice(values, lattice, transposed=transposed, count=count)
    np.testing.assert_allclose(filtered, _reference(features, values, transposed), atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    ("batch", "points", "channels"), [(1, 5, 8), (1, 300, 21), (2, 131, 5), (3, 150, 16), (5, 40, 9)]
)
def test_filters_an_image_at_a_time_with_factors(dtype, transposed, count, batch, points, channels):
    """Tasks that one thread does alone, and such that all share; images of unequal numbers of corners."""
    rng = np.random.default_rng(points)
    spread = np.linspace(1, 4, batch)[:, None, None]
    features = (spread * rng.normal(size=(batch, 3, points))).astype(dtype)
    values = rng.normal(size=(batch, channels, points)).astype(dtype)
    send, receive = rng.random((2, batch, points)).astype(dtype)
    lattices = lattices_of([build_lattice(one[None]) for one in features])
    assert lattices.corners_in_all == sum(build_lattice(one[None]).size for one in features)
    filtered = filter_on_lattices(
        values, lattices, send=send, receive=receive, transposed=transposed, count=count
    )
    expected = receive[:, None] * _reference(features, send[:, None] * values, transposed)
    np.testing.assert_allclose(filtered, expected, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("points", [1000, 5003])
def test_filters_as_the_lattice_in_torch(points):
    rng = np.random.default_rng(1)
    features, values = rng.normal(size=(2, 5, points)) * 3, rng.normal(size=(2, 11, points))
    other = torch_lattice(torch.tensor(features))
    lattice = build_lattice(features)
    assert lattice.size == other.corners
    table = torch.tensor(values.transpose(0, 2, 1).reshape(-1, 11))
    for transposed in (False, True):
        expected = other(table, transposed).numpy().reshape(2, points, 11).transpose(0, 2, 1)
        filtered = filter_on_lattice(values, lattice, transposed=transposed)
        np.testing.assert_allclose(filtered, expected, atol=1e-11)


def test_the_lattice_does_not_depend_on_threads():
    features = np.random.default_rng(2).normal(size=(2, 5, 3001)).astype(np.float32) * 5
    one = build_lattice(features, 1)
    for count in (2, 3):
        for mine, other in zip(build_lattice(features, count), one, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_runs_with_as_many_threads_give_the_same_bits():
    rng = np.random.default_rng(3)
    lattice = build_lattice(rng.normal(size=(1, 5, 4000)).astype(np.float32))
    values = rng.normal(size=(1, 9, 4000)).astype(np.float32)
    first = filter_on_lattice(values, lattice, count=3)
    for _ in range(5):
        np.testing.assert_array_equal(filter_on_lattice(values, lattice, count=3), first)


def test_weights_of_a_point_sum_to_1_and_neighbors_are_mutual():
    lattice = build_lattice(np.random.default_rng(4).normal(size=(1, 4, 777)))
    np.testing.assert_allclose(lattice.weights.sum(1), 1, atol=1e-12)
    assert (lattice.weights > -1e-12).all()
    for right, left in lattice.neighbors.transpose(0, 2, 1):
        has = right < lattice.size
        np.testing.assert_array_equal(left[right[has]], np.flatnonzero(has))
        assert (left < lattice.size).sum() == has.sum()


def test_a_table_that_becomes_full_is_made_larger(monkeypatch):
    features = np.random.default_rng(5).normal(size=(1, 5, 30_000)) * 40  # 6 corners for most points
    made = []
    monkeypatch.setattr(module, "EMPTY", module.EMPTY)
    full = np.full
    monkeypatch.setattr(module.np, "full", lambda shape, *a: (made.append(shape), full(shape, *a))[1])
    lattice = build_lattice(features, 2)
    monkeypatch.undo()
    assert len([shape for shape in made if isinstance(shape, int)]) > 1
    assert lattice.size == torch_lattice(torch.tensor(features)).corners


@pytest.mark.parametrize("spread", [1e4, 1e8])
def test_far_points_are_placed_and_codes_beyond_63_bits_are_hashed(spread):
    rng = np.random.default_rng(6)
    features = (rng.normal(size=(1, 6, 40)) + spread * rng.integers(-1, 2, size=(1, 6, 40))).astype(
        np.float32
    )
    values = rng.normal(size=(1, 8, 40))
    lattice = build_lattice(features.astype(np.float64))
    expected = _reference(features.astype(float), values)
    np.testing.assert_allclose(filter_on_lattice(values, lattice), expected, atol=1e-6)
    single = filter_on_lattice(values.astype(np.float32), build_lattice(features))
    np.testing.assert_allclose(single, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "NaN or infinity"), (np.inf, "NaN or infinity"), (1e13, "bandwidths")]
)
def test_features_that_have_no_place_are_refused(value, message):
    features = np.zeros((1, 5, 9))
    features[0, 2, 4] = value
    with pytest.raises(ValueError, match=message):
        build_lattice(features)
