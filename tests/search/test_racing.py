import csv
import dataclasses

import pytest
import torch
from scipy.stats import ttest_rel

from crfnet.search import ScoreFolder, SearchConfig, search, write_scores
from crfnet.search.racing import blocks, cannot_win
from tests.search.pictures import CLASSES, Pictures, noisy_logits


def test_blocks():
    assert blocks(100, 0.0) == [(0, 100)]
    assert blocks(100, 0.05) == [(10 * k, 10 * k + 10) for k in range(10)]
    assert blocks(25, 0.05) == [(0, 10), (10, 20), (20, 25)]
    assert blocks(3, 0.05) == [(0, 3)]
    assert blocks(1449, 0.05)[-1] == (1305, 1449)


def accuracy(counts: torch.Tensor) -> torch.Tensor:
    """Of counts (right, all): the mean over images, as long as all are equally large."""
    return counts[..., 0].double() / counts[..., 1]


def images(right: torch.Tensor) -> torch.Tensor:
    return torch.stack([right, torch.full_like(right, 1000)], -1).int()


def test_of_a_mean_it_is_the_paired_t_test():
    generator = torch.Generator().manual_seed(3)
    better = torch.randint(400, 620, (12,), generator=generator)
    worse = better - torch.randint(-20, 60, (12,), generator=generator)
    p = float(ttest_rel(better.numpy(), worse.numpy(), alternative="greater").pvalue)
    assert 1e-4 < p < 0.2

    def out(level: float, everything: int = 10**9) -> bool:
        return cannot_win(images(better), [images(worse)], accuracy, images=everything, level=level)[0]

    assert out(1.01 * p)
    assert not out(0.99 * p)
    assert out(p / 5, everything=13)  # of 13 images 12 are seen: little is left to chance
    assert not cannot_win(images(worse), [images(better)], accuracy, images=10**9, level=0.5)[0]


def test_equal_points_stay():
    right = torch.randint(0, 1000, (10,))
    assert cannot_win(images(right), [images(right)], accuracy, images=100, level=0.4) == [False]
    assert cannot_win(images(right[:1]), [images(right[:1] - 1)], accuracy, images=9, level=0.4) == [False]


def test_a_score_that_is_not_defined_drops_nothing():
    nothing = torch.zeros(5, 2, dtype=torch.int32)
    assert cannot_win(images(torch.arange(5)), [nothing], accuracy, images=100, level=0.4) == [False]


def test_error_level():
    """Of many races between points that are close, no larger share than the level drops its best one."""
    generator = torch.Generator().manual_seed(0)
    racing, number, total, failures, dropped = 0.2, 8, 60, 0, 0
    for _ in range(150):
        hard = torch.randint(0, 500, (total,), generator=generator)
        means = torch.randint(0, 30, (number, 1), generator=generator)
        counts = images(hard + means + torch.randint(0, 120, (number, total), generator=generator))
        best = int(accuracy(counts.sum(1)).argmax())
        alive = list(range(number))
        stages = blocks(total, racing)
        for _, stop in stages[:-1]:
            leader = max(alive, key=lambda k: float(accuracy(counts[k, :stop].sum(0))))
            others = [k for k in alive if k != leader]
            level = racing / (number * (len(stages) - 1))
            out = cannot_win(
                counts[leader, :stop], [counts[k, :stop] for k in others], accuracy, images=total, level=level
            )
            alive = [leader, *(k for k, lost in zip(others, out, strict=True) if not lost)]
        failures += best not in alive
        dropped += number - len(alive)
    assert failures <= racing * 150
    assert dropped > 150


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> tuple[Pictures, ScoreFolder]:
    pictures = Pictures(20, (8, 12))
    folder = tmp_path_factory.mktemp("many")
    return pictures, write_scores(folder, noisy_logits(pictures), CLASSES, False, "noise")


def test_a_race(tmp_path, many):
    pictures, scores = many
    plain = SearchConfig(
        images=20, w1=(0.05, 3.0), theta_alpha=(4.0,), theta_beta=(10.0,), rounds=1, iterations=2, w2=0.0
    )
    expected = search(pictures, pictures.ids, scores, plain, tmp_path / "plain")
    racing = dataclasses.replace(plain, racing=0.05)
    best = search(pictures, pictures.ids, scores, racing, tmp_path / "race")
    assert best == expected
    rows = {}
    for name in ("plain", "race"):
        with (tmp_path / name / "table.csv").open(newline="") as file:
            rows[name] = list(csv.DictReader(file))
    assert [row["images"] for row in rows["plain"]] == ["20", "20"]
    assert [row["images"] for row in rows["race"]] == ["10", "20"]
    assert rows["race"][1]["miou"] == rows["plain"][1]["miou"]
    drawn = {name: (tmp_path / name / "images.txt").read_text().split() for name in rows}
    assert sorted(drawn["race"]) == sorted(drawn["plain"])
    assert drawn["race"] != drawn["plain"]
