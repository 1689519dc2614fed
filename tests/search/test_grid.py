import math

import pytest

from crfnet.errors import InputError
from crfnet.search.grid import Grid, Point, SearchConfig, coarse_grid, finer_grid, first_best


def test_defaults_are_the_published_coarse_grid():
    points = coarse_grid(SearchConfig()).points()
    assert len(points) == 128
    assert points[0] == (3, 30, 3)
    assert points[1] == (3, 30, 4)
    assert points[4] == (3, 40, 3)
    assert points[-1] == (6, 100, 6)


def test_order_is_w1_then_alpha_then_beta():
    points = Grid((1.0, 2.0), (3.0, 4.0), (5.0, 6.0)).points()
    assert points == tuple(sorted(points))
    assert points[1] == Point(1.0, 3.0, 6.0)


def test_finer_round_halves_every_step():
    config = SearchConfig()
    second = finer_grid(config, Point(3.0, 60.0, 6.0), 2)
    assert second == ((2.5, 3, 3.5), (55, 60, 65), (5.5, 6, 6.5))
    third = finer_grid(config, Point(2.5, 65.0, 6.0), 3)
    assert third == ((2.25, 2.5, 2.75), (62.5, 65, 67.5), (5.75, 6, 6.25))


def test_values_stay_positive():
    config = SearchConfig(w1=(1.0, 3.0), theta_alpha=(2.0, 8.0), theta_beta=(0.5, 1.0))
    assert finer_grid(config, Point(1.0, 2.0, 0.5), 2) == ((1, 2), (2, 5), (0.25, 0.5, 0.75))


def test_step_is_the_smallest_distance_and_one_value_is_fixed():
    config = SearchConfig(w1=(5.0, 10.0), theta_alpha=(50.0,), theta_beta=(3.0, 4.0, 10.0))
    assert finer_grid(config, Point(5.0, 50.0, 10.0), 2) == ((2.5, 5, 7.5), (50,), (9.5, 10, 10.5))


def test_decimal_values_meet_across_rounds():
    config = SearchConfig(w1=(0.1, 0.3))
    assert finer_grid(config, Point(0.2, 30.0, 3.0), 2).w1 == (0.1, 0.2, 0.3)


def test_first_best_wins_ties():
    a, b, c = Point(1.0, 1.0, 1.0), Point(1.0, 1.0, 2.0), Point(1.0, 2.0, 1.0)
    assert first_best({a: 0.1, b: 0.5, c: 0.5}) == b
    assert first_best({c: 0.5, b: 0.5, a: 0.1}) == c


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
        ("theta_gamma", 0.0),
    ],
)
def test_bad_config(key, value):
    with pytest.raises(InputError, match=rf"search\.{key} is "):
        SearchConfig(**{key: value})
