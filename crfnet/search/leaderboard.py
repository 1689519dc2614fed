"""What is known of every point, and what every view makes of it: asks for points, races them, picks winners.

Everything here follows from the config and from what was counted. Processes that share a search keep a ledger
each, and all ledgers agree.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from crfnet.evaluation.confusion import metrics
from crfnet.search.config import SearchConfig
from crfnet.search.counting import Counted
from crfnet.search.criteria import CRITERIA
from crfnet.search.folds import Fold, folds_of
from crfnet.search.grid import Point, first_best
from crfnet.search.racing import LEAST, blocks, eliminated
from crfnet.search.sampling import SAMPLERS
from crfnet.search.task_queue import Task, TaskResult

__all__ = ["Leaderboard", "Candidate"]

#: A unit of work at most, what a kill may lose. An image is read and its open pixels are found once for it.
LATTICES, IMAGES = 32, 1


@dataclass
class Candidate:
    """One point.

    Attributes:
        round: the round that asked for it first, from 1.
        point: its parameters.
        seconds: wall time of its units, each divided by the unit's number of points.
        blocks: what was counted, block by block.
    """

    round: int
    point: Point
    seconds: float = 0.0
    blocks: list[Counted] = field(default_factory=list)

    @property
    def images(self) -> int:
        """How many images it has seen: the first ones of the order of visit."""
        return sum(block.confusion.shape[1] for block in self.blocks)

    def counts(self) -> Int[Tensor, "i ..."]:
        """Of the criterion, of each image seen."""
        return torch.cat([block.counts[0] for block in self.blocks])

    def confusion(self) -> Int[Tensor, "l l"]:
        """Over all images seen."""
        return torch.cat([block.confusion[0] for block in self.blocks]).sum(0)

    @property
    def miou(self) -> float:
        """Mean IoU of the one confusion matrix over the images seen, 0..1."""
        return float(metrics(self.confusion()).miou)

    @property
    def pixel_accuracy(self) -> float:
        """Share of labeled pixels that are right, 0..1."""
        return float(metrics(self.confusion()).pixel_accuracy)


class Leaderboard:
    """The rows of all points, and the views.

    Args:
        config: of the search.
        images: how many are drawn.

    Attributes:
        rows: in the order that decides ties.
        views: first that of all images, then those of the folds.
    """

    def __init__(self, config: SearchConfig, images: int) -> None:
        self.config, self.images = config, images
        self.criterion = CRITERIA[config.criterion]
        self.blocks = blocks(images, config.racing)
        self.rows: dict[Point, Candidate] = {}
        self.views: list[Fold] = folds_of(images, config)

    def ask(self, number: int) -> bool:
        """Adds the points of round `number`, from 1; False when no view asks for any."""
        asked = False
        for view in self.views:
            scores = {point: self.score(point, view.images) for point in view.points}
            wanted = list(dict.fromkeys(SAMPLERS[self.config.sampler](self.config, number, scores)))
            known = view.dropped.union(view.points)
            view.points += [point for point in wanted if point not in known]
            view.rounds.append(wanted)
            asked = asked or bool(wanted)
            for point in wanted:
                self.rows.setdefault(point, Candidate(number, point))
        return asked

    def units(self, start: int, stop: int) -> list[Task]:
        """The work of this round on the images `start` to `stop`: some lattices on some images each."""
        alive = {point for view in self.views for point in view.points}
        groups: dict[tuple[float, float], list[Point]] = {}
        for point, row in self.rows.items():
            if point in alive and row.images == start:
                groups.setdefault((point.theta_alpha, point.theta_beta), []).append(point)
        lattices = list(groups.values())
        bundles = [lattices[i : i + LATTICES] for i in range(0, len(lattices), LATTICES)]
        return [
            Task(tuple(itertools.chain.from_iterable(bundle)), first, min(first + IMAGES, stop))
            for first in range(start, stop, IMAGES)
            for bundle in bundles
        ]

    def add(self, unit: Task, outcome: TaskResult) -> None:
        """Books what came out of a unit."""
        for point, counted in zip(unit.points, outcome.counted, strict=True):
            self.rows[point].blocks.append(counted)
            self.rows[point].seconds += outcome.seconds / len(unit.points)

    def race(self, seen: int) -> None:
        """Drops what cannot win any more, once `seen` images are counted; see `crfnet.search.racing`."""
        for view in self.views:
            on = view.seen(seen)
            if len(on) < LEAST:
                continue
            out = eliminated(
                [self.rows[point].counts()[on] for point in view.points],
                self.criterion.score,
                images=len(view.images),
                level=self.config.racing / (len(self.blocks) - 1),
            )
            lost = {point for point, worse in zip(view.points, out, strict=True) if worse}
            view.dropped |= lost.intersection(view.rounds[-1])
            view.points = [point for point in view.points if point not in view.dropped]

    def score(self, point: Point, images: Sequence[int]) -> float:
        """The criterion over `images` (positions in the order of visit), all of which it has seen."""
        return float(self.criterion.score(self.rows[point].counts()[images].sum(0)))

    def best(self, view: Fold) -> Point:
        """The winner of a view: of equal ones the first. It has seen all of the view's images."""
        return first_best({point: self.score(point, view.images) for point in view.points})

    def cross_validated(self) -> float:
        """The criterion over all images, each with the winner of the view that holds it out."""
        counts = [self.rows[self.best(view)].counts()[view.held_out].sum(0) for view in self.views[1:]]
        return float(self.criterion.score(torch.stack(counts).sum(0)))
