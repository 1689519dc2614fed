"""Results of every point of a search: proposes points, eliminates them in a race, picks the best.

Everything here follows from the config and the counts. Processes that share a search keep a leaderboard each,
and all leaderboards agree.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from crfnet.evaluation.confusion import metrics
from crfnet.search.config import SearchConfig
from crfnet.search.counting import PointCounts
from crfnet.search.folds import Fold, make_folds
from crfnet.search.grid import Point, first_best
from crfnet.search.racing import MIN_IMAGES, eliminated, image_blocks
from crfnet.search.sampling import SAMPLERS
from crfnet.search.selection_criteria import CRITERIA
from crfnet.search.task_queue import Task, TaskResult

__all__ = ["Candidate", "Leaderboard"]

#: Size of a task at most, what a kill may lose. An image is read once for it.
LATTICES_PER_TASK, IMAGES_PER_TASK = 32, 1


@dataclass
class Candidate:
    """One point and its results.

    Attributes:
        round: the round that proposed it first, from 1.
        point: its parameters.
        seconds: wall time of its tasks, each divided by the task's number of points.
        block_counts: its counts, block by block.
    """

    round: int
    point: Point
    seconds: float = 0.0
    block_counts: list[PointCounts] = field(default_factory=list)

    @property
    def num_images(self) -> int:
        """How many images it has been evaluated on: the first ones of the evaluation order."""
        return sum(block.confusion.shape[1] for block in self.block_counts)

    def criterion_counts(self) -> Int[Tensor, "i ..."]:
        """Counts of the criterion on each of its images."""
        return torch.cat([block.criterion[0] for block in self.block_counts])

    def confusion(self) -> Int[Tensor, "l l"]:
        """Confusion matrix over all its images."""
        return torch.cat([block.confusion[0] for block in self.block_counts]).sum(0)

    @property
    def miou(self) -> float:
        """Mean IoU of the one confusion matrix over its images, 0..1."""
        return float(metrics(self.confusion()).miou)

    @property
    def pixel_accuracy(self) -> float:
        """Fraction of labeled pixels that are right, 0..1."""
        return float(metrics(self.confusion()).pixel_accuracy)


class Leaderboard:
    """The candidates of a search, and the choices among them.

    Args:
        config: of the search.
        num_images: how many images are drawn.

    Attributes:
        candidates: by point, in the order that decides ties.
        overall: the choice on all images.
        folds: the choices of cross-validation; empty without.
        image_blocks: (start, stop) of the images between two eliminations.
    """

    def __init__(self, config: SearchConfig, num_images: int) -> None:
        self.config, self.num_images = config, num_images
        self.criterion = CRITERIA[config.criterion]
        self.image_blocks = image_blocks(num_images, config.racing)
        self.candidates: dict[Point, Candidate] = {}
        self.overall, *self.folds = make_folds(num_images, config)

    def propose(self, round_number: int) -> bool:
        """Add the points of a round, from 1; False when the search is over."""
        sampler, any_proposed = SAMPLERS[self.config.sampler], False
        for fold in (self.overall, *self.folds):
            values = {point: self.metric(point, fold.selection_images) for point in fold.points}
            proposed = list(dict.fromkeys(sampler(self.config, round_number, values)))
            known = fold.eliminated.union(fold.points)
            fold.points += [point for point in proposed if point not in known]
            fold.rounds.append(proposed)
            any_proposed = any_proposed or bool(proposed)
            for point in proposed:
                self.candidates.setdefault(point, Candidate(round_number, point))
        return any_proposed

    def tasks(self, start: int, stop: int) -> list[Task]:
        """The tasks of this round on the images `start` to `stop`: some lattices on some images each."""
        alive = {point for fold in (self.overall, *self.folds) for point in fold.points}
        groups: dict[tuple[float, float], list[Point]] = {}
        for point, candidate in self.candidates.items():
            if point in alive and candidate.num_images == start:
                groups.setdefault((point.theta_alpha, point.theta_beta), []).append(point)
        lattices = list(groups.values())
        starts = range(0, len(lattices), LATTICES_PER_TASK)
        batches = [lattices[i : i + LATTICES_PER_TASK] for i in starts]
        return [
            Task(tuple(itertools.chain.from_iterable(batch)), first, min(first + IMAGES_PER_TASK, stop))
            for first in range(start, stop, IMAGES_PER_TASK)
            for batch in batches
        ]

    def add_result(self, task: Task, result: TaskResult) -> None:
        """Add the result of a task to its points."""
        for point, counts in zip(task.points, result.counts, strict=True):
            self.candidates[point].block_counts.append(counts)
            self.candidates[point].seconds += result.seconds / len(task.points)

    def eliminate(self, num_seen: int) -> None:
        """Drop points that cannot win any more, given `num_seen` images; see `crfnet.search.racing`."""
        for fold in (self.overall, *self.folds):
            seen = fold.seen(num_seen)
            if len(seen) < MIN_IMAGES:
                continue
            out = eliminated(
                [self.candidates[point].criterion_counts()[seen] for point in fold.points],
                self.criterion.metric,
                num_images=len(fold.selection_images),
                level=self.config.racing / (len(self.image_blocks) - 1),
            )
            lost = {point for point, worse in zip(fold.points, out, strict=True) if worse}
            # Those of earlier rounds have seen all images; a finer grid proposes its center again.
            fold.eliminated |= lost.intersection(fold.rounds[-1]).difference(*fold.rounds[:-1])
            fold.points = [point for point in fold.points if point not in fold.eliminated]

    def metric(self, point: Point, images: Sequence[int]) -> float:
        """The criterion over `images` (positions in the evaluation order), which the point must have seen."""
        counts = self.candidates[point].criterion_counts()[images]
        return float(self.criterion.metric(counts.sum(0)))

    def best(self, fold: Fold) -> Point:
        """The best point of a fold on its selection images; of equal ones the first."""
        return first_best({point: self.metric(point, fold.selection_images) for point in fold.points})

    def cross_validated(self) -> float:
        """The criterion over all images, each with the best point of the fold that holds it out."""
        counts = [
            self.candidates[self.best(fold)].criterion_counts()[fold.held_out_images].sum(0)
            for fold in self.folds
        ]
        return float(self.criterion.metric(torch.stack(counts).sum(0)))
