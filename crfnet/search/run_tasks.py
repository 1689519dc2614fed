"""Goes through a search's rounds, together with every other process that does."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from tqdm import tqdm

from crfnet.crf.allocator import retain_freed_memory
from crfnet.search.config import SearchConfig
from crfnet.search.counting import Counted, count
from crfnet.search.grid import Point
from crfnet.search.images import Images
from crfnet.search.leaderboard import Leaderboard
from crfnet.search.open_pixels import OpenPixels
from crfnet.search.sweep import sweep
from crfnet.search.task_queue import Task, TaskQueue, TaskResult
from crfnet.shapes import Image, LabelMap, Logits

__all__ = ["run_tasks"]

#: Seconds between two looks at the work of others, at first and at most.
_PAUSES = (0.02, 0.5)


def run_tasks(
    study: TaskQueue,
    images: Images,
    config: SearchConfig,
    device: torch.device,
    *,
    bar: "tqdm[Any]",
    rank: int = 0,
    alive: Callable[[], None] = lambda: None,
) -> Leaderboard:
    """Does the work that nobody has done yet until the search is over.

    A round ends when all its units are done, whoever did them; what follows is the same in every process.

    Args:
        study: open.
        images: in the order of visit.
        config: of the search.
        device: that computes.
        bar: shows the work of all processes, in points on an image.
        rank: of this process among those of a machine, from 0, so that not all claim the same first.
        alive: called before every image; raises to stop.

    Returns:
        The ledger of the whole search.
    """
    ledger = Leaderboard(config, len(images))
    work = _Work(study, images, config, device, bar, rank, alive)
    number = 1
    while ledger.ask(number):
        for start, stop in ledger.blocks:
            units = ledger.units(start, stop)
            work.finish(units)
            for unit in units:
                ledger.add(unit, study.finished[unit.key])
            if stop < len(images):
                ledger.race(stop)
            everything = ledger.views[0]
            best = max(ledger.score(point, everything.seen(stop)) for point in everything.points)
            bar.set_postfix(best=f"{100 * best:.2f}%")
        number += 1
    return ledger


class _Work:
    """This process's share."""

    def __init__(
        self,
        study: TaskQueue,
        images: Images,
        config: SearchConfig,
        device: torch.device,
        bar: "tqdm[Any]",
        rank: int,
        alive: Callable[[], None],
    ) -> None:
        self.study, self.images, self.config, self.device = study, images, config, device
        self.bar, self.rank, self.alive = bar, rank, alive

    def finish(self, units: Sequence[Task]) -> None:
        """Returns when all `units` are done."""
        before, pause = self.bar.n, _PAUSES[0]
        self.bar.total = (self.bar.total or 0) + sum(map(_cases, units))
        while True:
            self.study.refresh()
            left = [unit for unit in units if unit.key not in self.study.finished]
            done = [unit for unit in units if unit.key in self.study.finished]
            self.bar.n = before + sum(map(_cases, done))
            self.bar.refresh()
            if not left:
                return
            first = self.rank % len(left)
            if any(self._try(unit) for unit in (*left[first:], *left[:first])):
                pause = _PAUSES[0]
                continue
            self.alive()
            time.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])

    def _try(self, unit: Task) -> bool:
        """Does a unit if nobody else does; whether it did."""
        claim = self.study.claim(unit)
        if claim is None:
            return False
        with self.study.at_work(claim):
            start = time.perf_counter()
            counted = self._score(unit)
            seconds = time.perf_counter() - start
            self.study.finish(claim, unit, TaskResult(counted, seconds))
        return True

    def _score(self, unit: Task) -> tuple[Counted, ...]:
        """What the points of a unit do on its images; the memory is that of one image."""
        found: list[Counted] = []
        with retain_freed_memory(self.device):
            for case in self.images.visit(unit.start, unit.stop):
                self.alive()
                logits, image = case.logits.to(self.device), case.image.to(self.device)
                labels = {}
                for point, predicted in _predicted(logits, image, unit.points, self.config):
                    labels[point] = predicted
                    self.bar.update()
                predictions = [labels[point] for point in unit.points]
                found.append(count(predictions, case.labels, self.images.num_classes, self.config))
        together = Counted.of_images(found)
        return tuple(together.of_point(i) for i in range(len(unit.points)))


def _cases(unit: Task) -> int:
    """Points on an image."""
    return len(unit.points) * (unit.stop - unit.start)


def _predicted(
    logits: Logits, image: Image, points: Sequence[Point], config: SearchConfig
) -> Iterator[tuple[Point, LabelMap]]:
    """The labels of every point, lattice by lattice."""
    pixels = OpenPixels(logits, image, config) if config.tolerance > 0 else None
    for _, group in groupby(points, lambda point: (point.theta_alpha, point.theta_beta)):
        same = list(group)
        if pixels is not None:
            yield from ((point, labels.cpu()) for point, labels in pixels.labels(same))
            continue
        for point, log_q in sweep(logits, image, same, config):
            # An argmax over an axis that is not the last takes six times as long.
            yield point, log_q[0].max(0).indices.cpu()
