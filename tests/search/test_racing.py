import csv
import dataclasses

import pytest
import torch
from scipy.stats import ttest_rel

from crfnet.score_cache import ScoreFolder, write_scores
from crfnet.search import SearchConfig, racing, search
from crfnet.search.counting import PointCounts
from crfnet.search.leaderboard import Leaderboard
from crfnet.search.racing import eliminated, image_blocks
from tests.search.tiny_dataset import CLASSES, TinyDataset, noisy_logits


def test_image_blocks():
    assert image_blocks(100, 0.0) == [(0, 100)]
    assert image_blocks(100, 0.05) == [(10 * k, 10 * k + 10) for k in range(10)]
    assert image_blocks(25, 0.05) == [(0, 10), (10, 20), (20, 25)]
    assert image_blocks(3, 0.05) == [(0, 3)]
    assert image_blocks(1449, 0.05)[-1] == (1305, 1449)


def accuracy(counts: torch.Tensor) -> torch.Tensor:
    """Of counts (right, all): the mean over images, as long as all are equally large."""
    return counts[..., 0].double() / counts[..., 1]


def images(right: torch.Tensor) -> torch.Tensor:
    return torch.stack([right, torch.full_like(right, 1000)], -1).int()


def lost(points: list[torch.Tensor], level: float, everything: int = 10**9) -> list[bool]:
    return eliminated([images(point) for point in points], accuracy, num_images=everything, level=level)


def test_of_two_means_it_is_the_paired_t_test(monkeypatch):
    monkeypatch.setattr(racing, "_NUM_SIMULATIONS", 100_000)
    generator = torch.Generator().manual_seed(3)
    better = torch.randint(400, 620, (12,), generator=generator)
    worse = better - torch.randint(-20, 60, (12,), generator=generator)
    p = float(ttest_rel(better.numpy(), worse.numpy(), alternative="greater").pvalue)
    assert 1e-3 < p < 0.2
    assert lost([better, worse], 1.1 * p) == [False, True]
    assert lost([worse, better], 1.1 * p) == [True, False]
    assert lost([better, worse], 0.9 * p) == [False, False]
    assert lost([better, worse], p / 5, everything=13)[1]  # 12 of 13 images are seen


def test_many_independent_points_are_many_tests_and_points_alike_are_one(monkeypatch):
    """The best of many leads by more than one does when they differ by chance; not when they are alike."""
    monkeypatch.setattr(racing, "_NUM_SIMULATIONS", 1000)
    generator = torch.Generator().manual_seed(5)
    level, n, independent, alike, single = 0.05, 20, 0, 0, 0
    for _ in range(30):
        truth, twin = torch.randint(300, 700, (2, n), generator=generator)
        others = torch.randint(300, 700, (30, n), generator=generator)
        twins = twin + torch.randint(-3, 4, (30, n), generator=generator)
        independent += lost([truth, *others], level)[0]
        alike += lost([truth, *twins], level)[0]
        single += lost([truth, twin], level)[0]
    assert independent <= 5  # 1.5 are expected; by tests of one point each some 15
    assert single <= 5
    assert alike <= 5
    far = truth + torch.randint(60, 180, (n,), generator=generator)
    near = [far + torch.randint(-3, 4, (n,), generator=generator) for _ in range(30)]
    p = float(ttest_rel(far.numpy(), truth.numpy(), alternative="greater").pvalue)
    assert lost([truth, *near], min(0.4, max(4 * p, 0.001)))[0]


def test_equal_points_stay():
    right = torch.randint(0, 1000, (10,))
    assert lost([right, right], 0.4, 100) == [False, False]
    assert lost([right[:1], right[:1] - 1], 0.4, 9) == [False, False]


def test_a_metric_that_is_not_defined_eliminates_nothing():
    nothing = torch.zeros(5, 2, dtype=torch.int32)
    counts = [nothing, images(torch.arange(5)), nothing]
    assert eliminated(counts, accuracy, num_images=100, level=0.4) == [False] * 3


def test_error_level(monkeypatch):
    """Of many races between close points, no larger fraction than the level eliminates its best one."""
    monkeypatch.setattr(racing, "_NUM_SIMULATIONS", 1000)
    generator = torch.Generator().manual_seed(0)
    level, number, total, failures, dropped = 0.2, 8, 60, 0, 0
    for _ in range(150):
        hard = torch.randint(0, 500, (total,), generator=generator)
        means = torch.randint(0, 30, (number, 1), generator=generator)
        right = hard + means + torch.randint(0, 120, (number, total), generator=generator)
        best = int(right.sum(1).argmax())
        alive = list(range(number))
        stages = image_blocks(total, level)
        for _, stop in stages[:-1]:
            out = lost([right[k, :stop] for k in alive], level / (len(stages) - 1), total)
            alive = [k for k, worse in zip(alive, out, strict=True) if not worse]
        failures += best not in alive
        dropped += number - len(alive)
    assert failures <= level * 150
    assert dropped > 250


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> tuple[TinyDataset, ScoreFolder]:
    dataset = TinyDataset(20, (8, 12))
    folder = tmp_path_factory.mktemp("many")
    return dataset, write_scores(folder, noisy_logits(dataset), CLASSES, False, "noise")


def test_a_race(tmp_path, many):
    dataset, scores = many
    plain = SearchConfig(
        images=20, w1=(0.05, 3.0), theta_alpha=(4.0,), theta_beta=(10.0,), rounds=1, iterations=2, w2=0.0
    )
    expected = search(dataset, dataset.ids, scores, plain, tmp_path / "plain")
    race = dataclasses.replace(plain, racing=0.05)
    best = search(dataset, dataset.ids, scores, race, tmp_path / "race")
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


def test_a_point_that_has_seen_all_images_stays_in_later_rounds():
    """A finer grid proposes its center again, which may be behind on the first images."""
    grid = {"w1": (3.0, 5.0), "theta_alpha": (4.0,), "theta_beta": (10.0,)}
    board = Leaderboard(SearchConfig(images=20, **grid, rounds=2, racing=0.4), 20)

    def counts(right: list[int]) -> PointCounts:
        rows = torch.tensor([[[[n, 100 - n], [0, 0]] for n in right]], dtype=torch.int32)
        return PointCounts(rows, rows)

    first, last = [50] * 10, [90] * 10  # of the best point: worse on the images of the first block
    board.propose(1)
    for point, candidate in board.candidates.items():
        candidate.block_counts = [counts(first + last if point.w1 == 5 else [51, 49] * 10)]
    board.propose(2)
    fresh = [candidate for candidate in board.candidates.values() if not candidate.block_counts]
    for candidate in fresh:
        candidate.block_counts = [counts([80, 79, 81, 80, 78, 82, 80, 80, 79, 81])]
    assert len(fresh) == 2
    center = next(point for point in board.overall.rounds[1] if point.w1 == 5)
    board.eliminate(10)
    assert center in board.overall.points
