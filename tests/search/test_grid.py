import math

import pytest

from crfnet.errors import InputError
from crfnet.pipeline.run_config import load_run
from crfnet.search import SearchConfig
from crfnet.search.config import BoundaryCriterion, DrawnPoints, TrimapCriterion
from crfnet.search.grid import AXES, PRESETS, Grid, Point, finer_grid, first_best

FIXED = (3, 3, 10)  # w2, theta_gamma, iterations


def test_defaults_are_the_published_coarse_grid():
    points = SearchConfig().grid().points()
    assert len(points) == 128
    assert points[0] == (3, 30, 3, *FIXED)
    assert points[1] == (3, 30, 4, *FIXED)
    assert points[4] == (3, 40, 3, *FIXED)
    assert points[-1] == (6, 100, 6, *FIXED)


@pytest.mark.parametrize(
    ("preset", "number", "first", "last"),
    [
        ("v2", 128, (3, 30, 3), (6, 100, 6)),
        ("v1", 96, (5, 50, 3), (10, 100, 10)),
        ("v1-runner", 112, (5, 40, 3), (10, 100, 10)),
    ],
)
def test_presets(preset, number, first, last):
    points = SearchConfig(preset=preset).grid().points()
    assert len(set(points)) == number
    assert (points[0][:3], points[-1][:3]) == (first, last)


def test_given_axes_go_before_the_preset():
    grid = SearchConfig(preset="v1", w1=(1.0, 2.0)).grid()
    assert grid.w1 == (1.0, 2.0)
    assert grid.theta_beta == PRESETS["v1"]["theta_beta"]


def test_further_axes():
    config = SearchConfig(
        w1=(1.0,), theta_alpha=(9.0,), theta_beta=(4.0,), w2=(0.0, 3.0), theta_gamma=2.0, iterations=(5, 10)
    )
    points = config.grid().points()
    assert [point[3:] for point in points] == [(0, 2, 5), (0, 2, 10), (3, 2, 5), (3, 2, 10)]
    assert finer_grid(config.grid(), points[0], 2)[3:] == ((0, 1.5), (2,), (2, 5, 8))
    assert all(type(point.iterations) is int for point in points)
    assert AXES[3:] == ("w2", "theta_gamma", "iterations")


def test_facts_resolve_the_preset_and_leave_places_out():
    assert SearchConfig().facts() == SearchConfig(preset="v2", workers=4, storage="x", study="y").facts()
    explicit = {axis: tuple(values) for axis, values in PRESETS["v1"].items()}
    assert SearchConfig(preset="v1").facts() == SearchConfig(**explicit).facts()
    assert SearchConfig(preset="v1").facts() != SearchConfig().facts()


def test_order_is_w1_then_alpha_then_beta():
    points = Grid((1.0, 2.0), (3.0, 4.0), (5.0, 6.0)).points()
    assert points == tuple(sorted(points))
    assert points[1] == Point(1.0, 3.0, 6.0)


def test_finer_round_halves_every_step():
    coarse = SearchConfig().grid()
    second = finer_grid(coarse, Point(3.0, 60.0, 6.0), 2)
    assert second == ((2.5, 3, 3.5), (55, 60, 65), (5.5, 6, 6.5), (3,), (3,), (10,))
    third = finer_grid(coarse, Point(2.5, 65.0, 6.0), 3)
    assert third[:3] == ((2.25, 2.5, 2.75), (62.5, 65, 67.5), (5.75, 6, 6.25))


def test_values_stay_positive():
    config = SearchConfig(w1=(1.0, 3.0), theta_alpha=(2.0, 8.0), theta_beta=(0.5, 1.0))
    assert finer_grid(config.grid(), Point(1.0, 2.0, 0.5), 2)[:3] == ((1, 2), (2, 5), (0.25, 0.5, 0.75))


def test_a_weight_of_0_that_was_tried_stays():
    config = SearchConfig(w2=(0.0, 3.0))
    assert finer_grid(config.grid(), Point(5.0, 60.0, 4.0, 0.0), 2).w2 == (0, 1.5)
    assert finer_grid(config.grid(), Point(5.0, 60.0, 4.0, 1.5), 2).w2 == (0, 1.5, 3)
    assert finer_grid(SearchConfig(w2=(1.0, 2.0)).grid(), Point(5.0, 60.0, 4.0, 0.5), 2).w2 == (0.5, 1)


def test_step_is_the_smallest_distance_and_one_value_is_fixed():
    config = SearchConfig(w1=(5.0, 10.0), theta_alpha=(50.0,), theta_beta=(3.0, 4.0, 10.0))
    assert finer_grid(config.grid(), Point(5.0, 50.0, 10.0), 2)[:3] == ((2.5, 5, 7.5), (50,), (9.5, 10, 10.5))


def test_decimal_values_meet_across_rounds():
    config = SearchConfig(w1=(0.1, 0.3))
    assert finer_grid(config.grid(), Point(0.2, 30.0, 3.0), 2).w1 == (0.1, 0.2, 0.3)


def test_first_best_wins_ties():
    a, b, c = Point(1.0, 1.0, 1.0), Point(1.0, 1.0, 2.0), Point(1.0, 2.0, 1.0)
    assert first_best({a: 0.1, b: 0.5, c: 0.5}) == b
    assert first_best({c: 0.5, b: 0.5, a: 0.1}) == c
    assert first_best({c: math.nan, b: 0.0, a: math.nan}) == b


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("images", 0),
        ("rounds", 0),
        ("iterations", 0),
        ("seed", -1),
        ("w1", ()),
        ("w1", (0.0, 1.0)),
        ("theta_alpha", (30.0, 20.0)),
        ("theta_alpha", (30.0, 30.0)),
        ("theta_beta", (1.0, math.inf)),
        ("w2", -1.0),
        ("w2", math.nan),
        ("w2", (3.0, 1.0)),
        ("theta_gamma", 0.0),
        ("theta_gamma", ()),
        ("iterations", (5, 5)),
        ("racing", 0.6),
        ("racing", math.nan),
        ("folds", 1),
        ("folds", 101),
        ("prune", 1.0),
        ("tolerance", 0.5),
        ("tolerance", -1e-3),
        ("workers", -1),
        ("study", " "),
    ],
)
def test_bad_config(key, value):
    with pytest.raises(InputError, match=rf"search\.{key} is "):
        SearchConfig(**{key: value})


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [(TrimapCriterion, "width", 0), (BoundaryCriterion, "width", 0.0), (DrawnPoints, "trials", 0)],
)
def test_bad_sections(kind, key, value):
    with pytest.raises(InputError, match=rf"^{key} is {value}, must be"):
        kind(**{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [("preset", "v3"), ("criterion", "dice"), ("sampler", "cma"), ("trimap.band", "wide"), ("w1", "[3, x]")],
)
def test_bad_words_in_a_config(key, value):
    with pytest.raises(InputError, match=rf"search\.{key}") as caught:
        load_run(None, [f"--search.{key}", value])
    assert "\n" not in str(caught.value)


def test_axes_in_a_config():
    run = load_run(None, ["--search.w2", "[0, 3]", "--search.iterations", "5", "--search.preset", "v1"])
    assert (run.search.w2, run.search.iterations, run.search.w1) == ((0.0, 3.0), 5, None)
    assert run.search.grid().w1 == (5.0, 10.0)
