import csv
import dataclasses
import json

import pytest
import torch

from crfnet.search import SearchConfig, search
from crfnet.search.config import DrawnPoints
from crfnet.search.counting import PointCounts
from crfnet.search.folds import make_folds
from crfnet.search.leaderboard import Leaderboard
from crfnet.search.task_queue import TaskResult

SMALL = SearchConfig(
    images=12, w1=(1.0, 2.0, 4.0), theta_alpha=(10.0, 20.0), theta_beta=(4.0,), rounds=3, folds=3
)


def test_folds_partition_the_images():
    everything, *folds = make_folds(11, SearchConfig(images=11, folds=4))
    assert everything.selection_images == list(range(11))
    assert everything.held_out_images == []
    assert sorted(i for fold in folds for i in fold.held_out_images) == list(range(11))
    assert sorted(len(fold.held_out_images) for fold in folds) == [2, 3, 3, 3]
    for fold in folds:
        assert sorted(fold.selection_images + fold.held_out_images) == list(range(11))
    assert folds[0].held_out_images != [0, 1, 2]  # drawn
    assert len(make_folds(11, SearchConfig(images=11))) == 1


def run(config: SearchConfig, table) -> Leaderboard:
    """A search in which `table(point)` gives the right pixels, of 1000, of every image."""
    leaderboard = Leaderboard(config, config.images)
    round_number = 1
    while leaderboard.propose(round_number):
        for start, stop in leaderboard.image_blocks:
            for task in leaderboard.tasks(start, stop):
                counts = []
                for point in task.points:
                    right = table(point)[start:stop].int()
                    confusion = torch.zeros(1, stop - start, 2, 2, dtype=torch.int32)
                    confusion[0, :, 0, 0], confusion[0, :, 0, 1] = right, 1000 - right
                    counts.append(PointCounts(confusion, confusion))
                leaderboard.add_result(task, TaskResult(tuple(counts), 1.0))
            if stop < config.images:
                leaderboard.eliminate(stop)
        round_number += 1
    return leaderboard


def rugged(point) -> torch.Tensor:
    """Every image likes another point best."""
    generator = torch.Generator().manual_seed(int(1000 * point.w1 + point.theta_alpha))
    return torch.randint(100, 900, (12,), generator=generator)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"racing": 0.4, "images": 36},
        {"sampler": "tpe", "tpe": DrawnPoints(16)},
        {"sampler": "random", "random": DrawnPoints(12)},
    ],
)
def test_held_out_images_do_not_change_the_choice(changes):
    config = dataclasses.replace(SMALL, **changes)

    def table(point, spoiled=()):
        values = rugged(point).repeat(5)[: config.images]
        values[list(spoiled)] = (values[list(spoiled)] * 7 + 13) % 1000
        return values

    first = run(config, table)
    for k in range(3):
        out = first.folds[k].held_out_images
        again = run(config, lambda point, out=out: table(point, out))
        assert again.best(again.folds[k]) == first.best(first.folds[k])
        assert again.folds[k].rounds == first.folds[k].rounds
        assert again.folds[k].eliminated == first.folds[k].eliminated
    assert len({first.best(fold) for fold in (first.overall, *first.folds)}) > 1


def test_cross_validated_score():
    leaderboard = run(SMALL, rugged)
    total = torch.zeros(2, 2)
    for fold in leaderboard.folds:
        best = leaderboard.best(fold)
        assert leaderboard.metric(best, fold.selection_images) == max(
            leaderboard.metric(p, fold.selection_images) for p in fold.points
        )
        for i in fold.held_out_images:
            right = int(rugged(best)[i])
            total += torch.tensor([[right, 1000 - right], [0, 0]])
    assert leaderboard.cross_validated() == pytest.approx(float(leaderboard.criterion.metric(total)))
    assert leaderboard.cross_validated() < leaderboard.metric(
        leaderboard.best(leaderboard.overall), range(12)
    )


def test_searched_with_folds(tmp_path, dataset, scores, config):
    small = dataclasses.replace(config, folds=2, rounds=1, theta_alpha=(4.0,))
    search(dataset, dataset.ids, scores, small, tmp_path)
    lines = list(csv.reader((tmp_path / "folds.csv").read_text().splitlines()))
    cross_validated = float(lines[-1][9])
    assert (
        f"cross-validated in 2 folds: {100 * cross_validated:.3f} %" in (tmp_path / "best.yaml").read_text()
    )
    held_out = [json.loads(line[-1]) for line in lines[1:3]]
    assert sorted(held_out[0] + held_out[1]) == (tmp_path / "images.txt").read_text().split()
