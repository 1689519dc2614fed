"""The mean-field loop against the same steps in plain numpy with whole matrices, in float64."""

import itertools

import numpy as np
import pytest
import torch

from crfnet.crf import reference
from crfnet.kernels.cpu.grid import grid_of
from crfnet.kernels.cpu.lattice import build_lattice
from crfnet.kernels.cpu.mean_field import NORMALIZATIONS, mean_field
from tests.kernels.cpu.test_separable import grid_matrix

THETA = 1.5


def _problem(shape, labels, seed=0, spread=1.0):
    """Features, logits and both kernels' matrices."""
    rng = np.random.default_rng(seed)
    pixels = int(np.prod(shape))
    features = spread * rng.normal(size=(5, pixels))
    unary = 2 * rng.normal(size=(labels, pixels))
    lattice = reference.permutohedral_matrix(torch.tensor(features)).numpy()
    return features, unary, [lattice, grid_matrix(shape, THETA)]


def _normalized(kernel, normalization, mask):
    kernel = kernel * np.outer(mask, mask)
    sums = np.where(mask, kernel.sum(1), 1.0)
    if normalization == "after":
        return kernel / sums[:, None]
    if normalization == "before":
        return kernel / sums
    return kernel / np.sqrt(np.outer(sums, sums)) if normalization == "symmetric" else kernel


def _log_softmax(x):
    x = x - x.max(0)
    return x - np.log(np.exp(x).sum(0))


def _expected(unary, kernels, weights, iterations):
    x = unary
    for _ in range(iterations):
        q = np.exp(_log_softmax(x))
        x = unary + sum(
            np.reshape(w, (-1, 1)) * (q @ kernel.T) for w, kernel in zip(weights, kernels, strict=True)
        )
    return _log_softmax(x)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-4), (np.float64, 1e-10)])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("shape", "labels", "variants", "per_class"),
    [
        ((1, 1), 2, 1, False),
        ((1, 7), 3, 1, True),
        ((7, 5), 8, 2, False),
        ((8, 4), 9, 1, False),
        ((9, 11), 21, 3, True),
        ((3, 4, 5), 17, 1, False),
    ],
)
def test_steps_are_those_of_whole_matrices(
    dtype, tolerance, normalization, masked, shape, labels, variants, per_class
):
    features, unary, kernels = _problem(shape, labels)
    rng = np.random.default_rng(1)
    mask = rng.random(unary.shape[1]) > (0.3 if masked else -1)
    mask[0] = True
    scale = 0.2 if normalization == "none" else 2.0
    weights = scale * rng.random((variants, 2, labels) if per_class else (variants, 2))
    kernels = [_normalized(kernel, normalization, mask) for kernel in kernels]
    lattice, grid = build_lattice(features[None].astype(dtype)), grid_of(shape, THETA, dtype)
    for reduce, count in ((0, 1), (0, 3), (1e-8, 2)):
        run = mean_field(
            unary.astype(dtype), [lattice], [grid], weights, iterations=3, normalization=normalization,
            mask=mask if masked else None, reduce=reduce, count=count,
        )  # fmt: skip
        for got, each in zip(run.log_marginals, weights, strict=True):
            np.testing.assert_allclose(got, _expected(unary, kernels, each, 3), atol=tolerance)


def test_any_number_of_kernels():
    features, unary, (first, grid) = _problem((6, 7), 4)
    second = reference.permutohedral_matrix(torch.tensor(features[:2] / 2)).numpy()
    lattices = [build_lattice(features[None]), build_lattice(features[None, :2] / 2)]
    of_grid = grid_of((6, 7), THETA, np.float64)
    wide = grid_of((6, 7), 2 * THETA, np.float64)
    mask = np.ones(42, bool)
    for matrices, some, grids in (
        ([], [], []),
        ([first], lattices[:1], []),
        ([grid], [], [of_grid]),
        ([first, second, grid, grid_matrix((6, 7), 2 * THETA)], lattices, [of_grid, wide]),
    ):
        weights = np.linspace(0.5, 2, len(matrices))[None]
        run = mean_field(unary, some, grids, weights, iterations=4)
        expected = _expected(unary, [_normalized(k, "after", mask) for k in matrices], weights[0], 4)
        np.testing.assert_allclose(run.log_marginals[0], expected, atol=1e-10)


@pytest.mark.parametrize("masked", [False, True])
def test_each_kernel_has_a_normalization_of_its_own(masked):
    features, unary, kernels = _problem((6, 7), 4)
    lattice, grid = build_lattice(features[None]), grid_of((6, 7), THETA, np.float64)
    mask = np.random.default_rng(1).random(42) > (0.3 if masked else -1)
    for names in itertools.product(NORMALIZATIONS, repeat=2):
        weights = np.array([[0.2 if name == "none" else 2.0 for name in names]])
        run = mean_field(
            unary, [lattice], [grid], weights, iterations=3, normalization=names,
            mask=mask if masked else None,
        )  # fmt: skip
        matrices = [_normalized(kernel, name, mask) for kernel, name in zip(kernels, names, strict=True)]
        expected = _expected(unary, matrices, weights[0], 3)
        np.testing.assert_allclose(run.log_marginals[0], expected, atol=1e-10)


def test_large_logits_do_not_round_the_marginals():
    """Their spacing at 1e6 is 0.06 in float32."""
    unary = np.float32(1e6) + np.random.default_rng(0).integers(-2, 3, (5, 24)).astype(np.float32)
    run = mean_field(unary, [], [grid_of((4, 6), 1.0, np.float32)], np.zeros((1, 1)), iterations=1)
    np.testing.assert_allclose(run.log_marginals[0], _log_softmax(unary.astype(float)), atol=1e-6)


def test_no_step_is_a_softmax():
    _, unary, _ = _problem((5, 5), 6)
    run = mean_field(unary, [], [grid_of((5, 5), 1.0, np.float64)], np.ones((1, 1)), iterations=0)
    np.testing.assert_allclose(run.log_marginals[0], _log_softmax(unary), atol=1e-12)
    assert len(run.channels) == len(run.rms) == 0


def _low_rank(labels, pixels, rank, seed=0):
    """Logits of a sure network that sees few objects: the others are far below everywhere."""
    rng = np.random.default_rng(seed)
    unary = np.full((labels, pixels), -30.0)
    unary[:rank] = 3 * rng.normal(size=(rank, pixels))
    return unary


def test_few_directions_are_filtered_where_few_are_needed():
    shape, labels = (24, 25), 40
    rng = np.random.default_rng(2)
    unary = _low_rank(labels, 600, 6)
    lattice, grid = build_lattice(rng.normal(size=(1, 5, 600))), grid_of(shape, THETA, np.float64)
    weights = np.array([[2.0, 1.0]])
    full = mean_field(unary, [lattice], [grid], weights, iterations=5, reduce=0)
    run = mean_field(unary, [lattice], [grid], weights, iterations=5, reduce=1e-6)
    assert (full.channels == labels).all()
    assert (run.channels == 8).all()
    assert (run.rms <= 1e-6).all()
    np.testing.assert_allclose(np.exp(run.log_marginals), np.exp(full.log_marginals), atol=1e-6)


def test_what_is_left_out_is_measured_and_bounds_the_messages():
    """One step: the logits are off by at most w times the largest rest, since rows of "after" are means."""
    shape, labels = (30, 31), 20
    unary = 2 * np.random.default_rng(3).normal(size=(labels, 930))
    unary[10:] -= 6
    grid, weights = grid_of(shape, THETA, np.float64), np.array([[3.0]])
    full = mean_field(unary, [], [grid], weights, iterations=1, reduce=0)
    run = mean_field(unary, [], [grid], weights, iterations=1, reduce=0.2)
    assert run.channels[0] < labels
    assert 1e-3 < run.rms[0] < 0.22
    assert run.rms[0] < run.largest[0]
    off = (run.log_marginals - full.log_marginals)[0]
    off -= off.mean(0)  # the softmax takes a constant off
    assert 0 < np.abs(off).max() < 3 * run.largest[0]
    q = np.exp(_log_softmax(unary))
    _, directions = np.linalg.eigh(q @ q.T)
    v = directions[:, -int(run.channels[0]) :]
    best = np.sqrt(np.square(q - v @ (v.T @ q)).sum(0).mean())
    assert best <= run.rms[0] < 1.05 * best  # no basis of that many directions leaves less


def test_variants_side_by_side_are_those_alone():
    features, unary, _ = _problem((20, 21), 12)
    lattice, grid = build_lattice(features[None]), grid_of((20, 21), THETA, np.float64)
    weights = np.array([[1.0, 3.0], [2.0, 3.0], [6.0, 0.5]])
    together = mean_field(unary, [lattice], [grid], weights, iterations=4, reduce=1e-9).log_marginals
    for each, got in zip(weights, together, strict=True):
        alone = mean_field(unary, [lattice], [grid], each[None], iterations=4, reduce=0).log_marginals[0]
        np.testing.assert_allclose(got, alone, atol=1e-7)


def test_pixels_outside_a_mask_change_nothing_inside():
    features, unary, _ = _problem((9, 10), 10)
    mask = np.ones(90, bool)
    mask[np.arange(90) % 10 >= 7] = False
    grid, weights = grid_of((9, 10), THETA, np.float64), np.array([[2.0, 1.0]])
    lattice = build_lattice(features[None])
    first = mean_field(unary, [lattice], [grid], weights, iterations=3, mask=mask).log_marginals[0]
    other = unary.copy()
    other[:, ~mask] = 50 * np.random.default_rng(5).normal(size=(10, int((~mask).sum())))
    second = mean_field(other, [lattice], [grid], weights, iterations=3, mask=mask).log_marginals[0]
    np.testing.assert_allclose(first[:, mask], second[:, mask], atol=1e-12)
    np.testing.assert_allclose(second[:, ~mask], _log_softmax(other)[:, ~mask], atol=1e-12)


@pytest.mark.parametrize("size", [1e3, 1e4])
def test_large_logits_stay_finite(size):
    _, unary, _ = _problem((6, 7), 5)
    run = mean_field(
        (size * unary).astype(np.float32),
        [],
        [grid_of((6, 7), 2.0, np.float32)],
        np.full((1, 1), 9.0),
        iterations=5,
    )
    assert np.isfinite(run.log_marginals).all()


@pytest.mark.parametrize("size", [1e9, 1e30])
@pytest.mark.parametrize("pixels", [slice(8, 16), slice(10, 11)], ids=["a block", "one of a block"])
def test_seeds_are_certain_however_large(size, pixels):
    """In float32 the best of such logits less 16 is the best."""
    _, unary, (_, kernel) = _problem((6, 7), 5)
    unary[3] -= 40  # far behind at the other pixels
    unary[3, pixels] = size
    expected = _expected(unary, [_normalized(kernel, "after", np.ones(42, bool))], [0.5], 3)
    found = _float32(unary)
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=2e-4)


@pytest.mark.parametrize("size", [1e9, np.finfo(np.float32).max])
@pytest.mark.parametrize("pixels", [slice(8, 16), slice(10, 11)], ids=["a block", "one of a block"])
def test_what_all_labels_lack_leaves_them_alike(size, pixels):
    """As in padding that is filled with a large negative number."""
    _, unary, _ = _problem((6, 7), 5)
    unary[:, pixels] = -size
    np.testing.assert_allclose(np.exp(_float32(unary))[:, pixels], 0.2, atol=1e-6)
    np.testing.assert_allclose(np.exp(_float32(unary)).sum(0), 1, atol=1e-5)


def _float32(unary):
    grid = grid_of((6, 7), THETA, np.float32)
    run = mean_field(unary.astype(np.float32), [], [grid], np.full((1, 1), 0.5), iterations=3)
    return run.log_marginals[0]


def test_runs_with_as_many_threads_give_the_same_bits():
    rng = np.random.default_rng(6)
    unary = _low_rank(30, 4004, 9).astype(np.float32)
    lattice = build_lattice(rng.normal(size=(1, 5, 4004)).astype(np.float32))
    grid, weights = grid_of((52, 77), 3.0, np.float32), np.array([[3.0, 2.0]])
    runs = [mean_field(unary, [lattice], [grid], weights, iterations=5, count=3) for _ in range(4)]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.log_marginals, runs[0].log_marginals)


@pytest.mark.parametrize("below", [6.0, 12.0, 25.0])
def test_unlikely_labels_are_left_out_only_where_rounding_hides_them(below):
    """Labels that are far below in all pixels still send what they are worth."""
    _, unary, (_, grid) = _problem((8, 10), 6)
    unary[3:] -= below + unary[3:].max() - unary[:3].max(0).min()
    kernel = _normalized(grid, "none", np.ones(80, bool))
    run = mean_field(
        unary,
        [],
        [grid_of((8, 10), THETA, np.float64)],
        np.full((1, 1), 0.3),
        iterations=3,
        normalization="none",
    )
    np.testing.assert_allclose(run.log_marginals[0], _expected(unary, [kernel], [0.3], 3), atol=1e-10, rtol=0)


def test_pixels_outside_a_mask_do_not_count_as_left_out():
    unary = _low_rank(20, 640, 6)
    mask = np.arange(640) % 32 < 16
    unary[:, ~mask] = 20 * np.random.default_rng(7).normal(size=(20, 320))
    grid, weights = grid_of((20, 32), THETA, np.float64), np.ones((1, 1))
    run = mean_field(unary, [], [grid], weights, iterations=2, mask=mask, reduce=1e-6)
    assert (run.channels == 8).all()
    assert (run.largest <= 1e-5).all()


def _by_rule(unary, kernels, weights, iterations, reduce):
    """Log marginals (variants, l, n), and the share of blocks that send in each step."""
    block = np.arange(unary.shape[1]) // 8
    messages, shares = np.zeros((len(weights), *unary.shape)), []
    for step in range(iterations):
        q = np.exp([_log_softmax(unary + each) for each in messages])
        few = 2 <= step < iterations - 1 and step % 8 != 1
        if not few:
            sent, active, messages = np.zeros_like(q), np.ones(block[-1] + 1, bool), np.zeros_like(q)
        change = q - sent
        if few:
            moved = np.square(change).sum((0, 1)) > (0.3 * reduce) ** 2
            active &= np.array([moved[block == b].any() for b in range(len(active))])
        change *= active[block]
        sent = sent + change
        for v, pair in enumerate(weights):
            heard = sum(w * (change[v] @ kernel.T) for w, kernel in zip(pair, kernels, strict=True))
            messages[v] += heard * active[block]
        shares.append(active.mean())
    return np.array([_log_softmax(unary + each) for each in messages]), np.array(shares)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("shape", "labels", "variants"), [((1, 7), 2, 1), ((9, 16), 4, 1), ((13, 8), 3, 2), ((3, 4, 8), 11, 1)]
)
def test_only_what_changed_is_sent(dtype, normalization, masked, shape, labels, variants):
    """Lines of whole blocks: elsewhere a block hears the grid where another one of its eight pixels does."""
    features, unary, matrices = _problem(shape, labels)
    mask = np.random.default_rng(1).random(unary.shape[1]) > (0.3 if masked else -1)
    mask[0] = True
    matrices = [_normalized(kernel, normalization, mask) for kernel in matrices]
    weights = (0.1 if normalization == "none" else 1.5) * np.random.default_rng(2).random((variants, 2))
    lattice, grid = build_lattice(features[None].astype(dtype)), grid_of(shape, THETA, dtype)
    for reduce, count in ((3e-2, 1), (3e-2, 3), (2e-3, 2)):
        run = mean_field(
            unary.astype(dtype), [lattice], [grid], weights, iterations=12, normalization=normalization,
            mask=mask if masked else None, reduce=reduce, count=count,
        )  # fmt: skip
        expected, shares = _by_rule(np.where(mask, unary, 0), matrices, weights, 12, reduce)
        close = 1e-9 if dtype == np.float64 else 3e-4
        np.testing.assert_allclose(run.log_marginals[:, :, mask], expected[:, :, mask], atol=close, rtol=0)
        if dtype == np.float64:
            np.testing.assert_allclose(run.active, shares)
        assert run.active[[0, 1, 9, 11]].tolist() == [1] * 4
        assert (run.largest <= reduce * (1 + 1e-6)).all()
    assert run.active.min() < 1


def test_directions_are_kept_while_few_send_and_found_anew_where_they_leave_too_much():
    """Labels that appear late are not in the basis of the second step."""
    rng = np.random.default_rng(8)
    shape, labels = (24, 32), 24
    unary = _low_rank(labels, 768, 6, seed=8)
    unary[6:20] = -14 + 2 * rng.normal(size=(14, 768))  # rise where messages help them
    lattice, grid = build_lattice(rng.normal(size=(1, 5, 768))), grid_of(shape, THETA, np.float64)
    weights = np.ones((1, 2, labels))
    weights[:, :, 6:20] = 60.0
    full = mean_field(unary, [lattice], [grid], weights, iterations=10, reduce=0)
    run = mean_field(unary, [lattice], [grid], weights, iterations=10, reduce=1e-6)
    assert run.channels.min() < labels
    assert (run.rms <= 1e-6).all()
    np.testing.assert_allclose(np.exp(run.log_marginals), np.exp(full.log_marginals), atol=1e-4)
    assert full.active.tolist() == [1] * 10


def test_nothing_is_sent_where_nothing_changes():
    """Sure pixels rest after the second step, and the answer is that of all steps."""
    unary = _low_rank(3, 640, 3)
    unary[0] += 60
    grid, weights = grid_of((20, 32), THETA, np.float64), np.ones((1, 1))
    run = mean_field(unary, [], [grid], weights, iterations=8)
    assert run.active.tolist() == [1, 1, 0, 0, 0, 0, 0, 1]
    full = mean_field(unary, [], [grid], weights, iterations=8, reduce=0)
    np.testing.assert_allclose(run.log_marginals, full.log_marginals, atol=1e-9)
