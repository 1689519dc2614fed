"""What steps may leave out, and what they may not: labels of a block, directions, looks at the rank."""

import numpy as np
import pytest

from crfnet.kernels.cpu import mean_field as module
from crfnet.kernels.cpu import steps
from crfnet.kernels.cpu.grid import grid_of
from crfnet.kernels.cpu.mean_field import mean_field
from crfnet.kernels.cpu.possible_labels import largest_marginal
from tests.kernels.cpu.test_mean_field import _expected, _normalized
from tests.kernels.cpu.test_separable import grid_matrix

SHAPE, PIXELS = (64, 128), 8192


def _grid(theta=3.0, shape=SHAPE):
    return grid_of(shape, theta, np.float64)


def _only_somewhere(few, many, labels, seed=0):
    """Sure of ``few`` labels in blocks that are sampled (one in four), of ``many`` in the others."""
    rng = np.random.default_rng(seed)
    unary = np.full((labels, PIXELS), -60.0)
    unary[:many] = 3 * rng.normal(size=(many, PIXELS))
    unary[few:, np.arange(PIXELS) // 8 % 4 == 0] = -60
    return unary


def test_a_label_far_below_comes_back_where_messages_can_bring_it():
    unary = np.zeros((3, 192))
    unary[0] = 100
    unary[0, 104:112] = -50  # the cut is 40 nats; the message of the pixels around comes to more than 10
    run = mean_field(unary, [], [_grid(shape=(8, 24))], np.array([[80.0]]), iterations=2, reduce=0)
    kernel = _normalized(grid_matrix((8, 24), 3.0), "after", np.ones(192))
    np.testing.assert_allclose(run.log_marginals[0], _expected(unary, [kernel], [80.0], 2), atol=1e-8)


def test_a_label_comes_back_where_messages_push_the_best_one_down():
    unary = np.zeros((2, 192))
    unary[0] = 30
    unary[1] = -30
    run = mean_field(unary, [], [_grid(shape=(8, 24))], np.array([[-100.0]]), iterations=1, reduce=0)
    second = mean_field(unary, [], [_grid(shape=(8, 24))], np.array([[-100.0]]), iterations=2, reduce=0)
    assert (run.log_marginals[0].argmax(0) == 1).all()
    assert (second.log_marginals[0].argmax(0) == 0).all()  # label 1 sends in the second step


@pytest.mark.parametrize("normalization", ["after", "none"])
def test_labels_of_a_block_are_those_that_messages_can_bring_above_the_cut(monkeypatch, normalization):
    kept, make = [], module._tables

    def spy(*args):
        kept.append(make(*args))
        return kept[-1]

    monkeypatch.setattr(module, "_tables", spy)
    rng = np.random.default_rng(1)
    unary = 40 * rng.normal(size=(12, 1)) + 20 * rng.normal(size=(12, 400))
    weights = 10 * rng.normal(size=(2, 2, 12))
    grids = [_grid(shape=(20, 20)), _grid(1.5, (20, 20))]
    mean_field(unary, [], grids, weights, iterations=1, normalization=normalization)
    most, least = np.maximum(weights, 0).sum(1)[:, :, None], np.minimum(weights, 0).sum(1)[:, :, None]
    nearest = (unary - (unary + least.min(0)).max(0)).max(1)
    first = np.exp(np.minimum(nearest, 0))
    largest = np.minimum(1, first * np.exp(np.minimum(700, most[:, :, 0] * first)))  # in the one step
    most = most * largest[:, :, None]
    possible = (unary + most + 40 > (unary + least).max(1, keepdims=True)).any(0)
    counts = possible.reshape(12, 50, 8).any(2).sum(0)
    assert 1 <= counts.min() < counts.max() <= 12
    np.testing.assert_array_equal(kept[0].counts, counts if normalization == "after" else 12)


@pytest.mark.parametrize("levels", [(0, -1, -4, -8, -20, -50), (0, -3.5, -3.8, -4.2, -4.6, -5)])
def test_a_label_that_is_nowhere_near_the_best_is_left_out_only_where_it_stays_so(levels):
    rng = np.random.default_rng(4)
    unary = np.array(levels)[:, None] - rng.exponential(0.3, (6, 192))
    unary[0, 60:70] -= 25  # here the others are all that is left
    weights = np.array([[4.0], [40.0]])
    run = mean_field(unary, [], [_grid(shape=(8, 24))], weights, iterations=6, reduce=0)
    kernel = _normalized(grid_matrix((8, 24), 3.0), "after", np.ones(192))
    for variant, weight in enumerate((4.0, 40.0)):
        expected = _expected(unary, [kernel], [weight], 6)
        np.testing.assert_allclose(run.log_marginals[variant], expected, atol=1e-8)


def test_the_largest_marginal_is_a_bound_that_is_reached():
    """All pixels alike, in which a label's message is its gain times its marginal."""
    for nearest, gain in [(-6.0, 3.0), (-3.0, 7.0), (-1.0, 40.0), (-40.0, 1e3), (0.0, 0.0)]:
        marginal = np.exp(nearest)
        for step in range(5):
            assert largest_marginal.py_func(nearest, gain, step) == pytest.approx(min(1, marginal), rel=1e-12)
            marginal = np.exp(nearest + min(700, gain * min(1, marginal)))
    assert largest_marginal.py_func(-30.0, np.inf, 5) == 1


@pytest.mark.parametrize(("few", "many", "channels"), [(5, 12, 16), (5, 5, 8), (5, 24, 24)])
def test_the_tolerance_holds_on_pixels_that_are_not_sampled(few, many, channels):
    unary = _only_somewhere(few, many, 24)
    weights = np.array([[2.0]])
    run = mean_field(unary, [], [_grid()], weights, iterations=3, reduce=1e-6)
    full = mean_field(unary, [], [_grid()], weights, iterations=3, reduce=0)
    assert (run.rms <= 1e-6).all()
    assert run.channels[0] == channels
    np.testing.assert_allclose(np.exp(run.log_marginals), np.exp(full.log_marginals), atol=1e-5)


def test_a_step_done_again_gives_the_same_bits_whatever_threads_do():
    unary = _only_somewhere(5, 14, 24)
    runs = [
        mean_field(unary, [], [_grid()], np.array([[2.0], [4.0]]), iterations=4, reduce=1e-6, count=3)
        for _ in range(5)
    ]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.log_marginals, runs[0].log_marginals)


def test_looks_become_rare_while_all_columns_are_needed_and_frequent_again_after():
    looks, pause, step = [], 0, 0
    while step < 20:
        looks.append(step)
        pause = steps._pause.py_func(step, pause, step < 7)
        step += 1 + pause
    assert looks == [0, 1, 3, *range(7, 20)]


def test_a_rank_that_falls_late_is_seen():
    unary = 2 * np.random.default_rng(3).normal(size=(20, PIXELS))
    unary[0] += 3
    weights = np.array([[40.0]])
    run = mean_field(unary, [], [_grid(20.0)], weights, iterations=9, reduce=1e-3)
    assert run.channels[0] == 20
    assert run.channels[-1] == 8
