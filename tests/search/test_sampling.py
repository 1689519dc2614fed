import dataclasses

import pytest

from crfnet.search import SearchConfig
from crfnet.search.config import DrawnPoints
from crfnet.search.grid import AXES
from crfnet.search.sampling import SAMPLERS, TPE_BATCH

CONFIG = SearchConfig(
    w1=(1.0, 5.0),
    theta_alpha=(10.0, 20.0, 90.0),
    theta_beta=(4.0,),
    iterations=(3, 9),
    random=DrawnPoints(40),
    tpe=DrawnPoints(40),
)


def rounds(sampler: str, config: SearchConfig, score) -> list:
    scores, found = {}, []
    while wanted := SAMPLERS[sampler](config, len(found) + 1, dict(scores)):
        found.append(list(wanted))
        scores.update({point: score(point) for point in wanted})
    return found


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_within_the_ranges_and_the_same_every_time(sampler):
    found = rounds(sampler, CONFIG, lambda point: -point.w1)
    points = [point for batch in found for point in batch]
    assert len(points) == 40
    for i, (low, high) in enumerate([(1, 5), (10, 90), (4, 4), (3, 3), (3, 3), (3, 9)]):
        values = {point[i] for point in points}
        assert low <= min(values) <= max(values) <= high
        assert (len(values) > 4) == (low < high), AXES[i]
    assert all(type(point.iterations) is int for point in points)
    assert rounds(sampler, CONFIG, lambda point: -point.w1) == found
    assert rounds(sampler, dataclasses.replace(CONFIG, seed=11), lambda point: -point.w1) != found


def test_tpe_comes_in_batches_and_goes_where_it_is_good():
    config = dataclasses.replace(CONFIG, tpe=DrawnPoints(5 * TPE_BATCH + 3))
    found = rounds("tpe", config, lambda point: -abs(point.w1 - 4.2))
    assert [len(batch) for batch in found] == [TPE_BATCH] * 5 + [3]
    far = [sum(abs(point.w1 - 4.2) for point in batch) / len(batch) for batch in found]
    assert sum(far[3:]) / 3 < 0.6 * far[0]


def test_random_is_one_round():
    assert [len(batch) for batch in rounds("random", CONFIG, lambda point: 0.0)] == [40]
