import dataclasses

import pytest
import torch

from crfnet.search import SearchConfig, search
from crfnet.search.config import DrawnPoints
from crfnet.search.counting import Counted
from crfnet.search.folds import folds_of
from crfnet.search.leaderboard import Leaderboard
from crfnet.search.task_queue import TaskResult

SMALL = SearchConfig(
    images=12, w1=(1.0, 2.0, 4.0), theta_alpha=(10.0, 20.0), theta_beta=(4.0,), rounds=3, folds=3
)


def test_views_part_the_images():
    everything, *folds = folds_of(11, SearchConfig(images=11, folds=4))
    assert everything.images == list(range(11))
    assert everything.held_out == []
    assert sorted(i for fold in folds for i in fold.held_out) == list(range(11))
    assert sorted(len(fold.held_out) for fold in folds) == [2, 3, 3, 3]
    for fold in folds:
        assert sorted(fold.images + fold.held_out) == list(range(11))
    assert folds[0].held_out != [0, 1, 2]  # drawn
    assert len(folds_of(11, SearchConfig(images=11))) == 1


def run(config: SearchConfig, table) -> Leaderboard:
    """A search in which `table(point)` gives the right pixels, of 1000, of every image."""
    ledger = Leaderboard(config, config.images)
    number = 1
    while ledger.ask(number):
        for start, stop in ledger.blocks:
            for unit in ledger.units(start, stop):
                counted = []
                for point in unit.points:
                    right = table(point)[start:stop].int()
                    confusion = torch.zeros(1, stop - start, 2, 2, dtype=torch.int32)
                    confusion[0, :, 0, 0], confusion[0, :, 0, 1] = right, 1000 - right
                    counted.append(Counted(confusion, confusion))
                ledger.add(unit, TaskResult(tuple(counted), 1.0))
            if stop < config.images:
                ledger.race(stop)
        number += 1
    return ledger


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
def test_a_fold_has_no_say_in_its_own_choice(changes):
    config = dataclasses.replace(SMALL, **changes)

    def table(point, spoiled=()):
        values = rugged(point).repeat(5)[: config.images]
        values[list(spoiled)] = (values[list(spoiled)] * 7 + 13) % 1000
        return values

    first = run(config, table)
    for k in range(1, 4):
        out = first.views[k].held_out
        again = run(config, lambda point, out=out: table(point, out))
        assert again.best(again.views[k]) == first.best(first.views[k])
        assert again.views[k].rounds == first.views[k].rounds
        assert again.views[k].dropped == first.views[k].dropped
    assert len({first.best(view) for view in first.views}) > 1


def test_cross_validated_score():
    ledger = run(SMALL, rugged)
    total = torch.zeros(2, 2)
    for view in ledger.views[1:]:
        best = ledger.best(view)
        assert ledger.score(best, view.images) == max(ledger.score(p, view.images) for p in view.points)
        for i in view.held_out:
            right = int(rugged(best)[i])
            total += torch.tensor([[right, 1000 - right], [0, 0]])
    assert ledger.cross_validated() == pytest.approx(float(ledger.criterion.score(total)))
    assert ledger.cross_validated() < ledger.score(ledger.best(ledger.views[0]), range(12))


def test_searched_with_folds(tmp_path, pictures, scores, config):
    small = dataclasses.replace(config, folds=2, rounds=1, theta_alpha=(4.0,))
    search(pictures, pictures.ids, scores, small, tmp_path)
    lines = (tmp_path / "folds.csv").read_text().splitlines()
    honest = float(lines[-1].split(",")[9])
    assert f"cross-validated in 2 folds: {100 * honest:.3f} %" in (tmp_path / "best.yaml").read_text()
    held_out = [line.split(",")[-1].split() for line in lines[1:3]]
    assert sorted(held_out[0] + held_out[1]) == (tmp_path / "images.txt").read_text().split()
