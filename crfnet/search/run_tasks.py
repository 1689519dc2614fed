"""Runs a search's rounds task by task, together with every other process at the same database."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from tqdm import tqdm

from crfnet.crf.allocator import retain_freed_memory
from crfnet.search.config import SearchConfig
from crfnet.search.counting import PointCounts, count_predictions
from crfnet.search.grid import Point
from crfnet.search.images import SearchImages
from crfnet.search.leaderboard import Leaderboard
from crfnet.search.sweep import sweep_labels
from crfnet.search.task_queue import Task, TaskQueue, TaskResult
from crfnet.shapes import Image, LabelMap, Logits

__all__ = ["run_tasks"]

#: Seconds between two looks at the results of others, at first and at most.
_POLL_SECONDS = (0.02, 0.5)


def run_tasks(
    queue: TaskQueue,
    images: SearchImages,
    config: SearchConfig,
    device: torch.device,
    *,
    progress: "tqdm[Any]",
    rank: int = 0,
    check_alive: Callable[[], None] = lambda: None,
) -> Leaderboard:
    """Run the tasks that no other process has done until the search is over.

    A round ends when all its tasks are done, whoever did them; what follows is the same in every process.

    Args:
        queue: of an open study.
        images: in the evaluation order.
        config: of the search.
        device: that computes.
        progress: shows the progress of all processes, in points times images.
        rank: of this process among those of a machine, from 0, so that not all claim the same task first.
        check_alive: called before every image; raises to stop.

    Returns:
        The leaderboard of the whole search.
    """
    leaderboard = Leaderboard(config, len(images))
    runner = _TaskRunner(queue, images, config, device, progress, rank, check_alive)
    round_number = 1
    while leaderboard.propose(round_number):
        for start, stop in leaderboard.image_blocks:
            tasks = leaderboard.tasks(start, stop)
            runner.run(tasks)
            for task in tasks:
                leaderboard.add_result(task, queue.result(task, images.num_classes))
            if stop < len(images):
                leaderboard.eliminate(stop)
            overall = leaderboard.overall
            best = max(leaderboard.metric(point, overall.seen(stop)) for point in overall.points)
            progress.set_postfix(best=f"{100 * best:.2f}%")
        round_number += 1
    return leaderboard


class _TaskRunner:
    """Claims and runs tasks in this process."""

    def __init__(
        self,
        queue: TaskQueue,
        images: SearchImages,
        config: SearchConfig,
        device: torch.device,
        progress: "tqdm[Any]",
        rank: int,
        check_alive: Callable[[], None],
    ) -> None:
        self.queue, self.images, self.config, self.device = queue, images, config, device
        self.progress, self.rank, self.check_alive = progress, rank, check_alive

    def run(self, tasks: Sequence[Task]) -> None:
        """Return when all `tasks` are done, by this process or another."""
        before, pause = self.progress.n, _POLL_SECONDS[0]
        self.progress.total = (self.progress.total or 0) + sum(map(_num_evaluations, tasks))
        while True:
            self.queue.refresh()
            pending = [task for task in tasks if task.key not in self.queue.finished]
            done = [task for task in tasks if task.key in self.queue.finished]
            self.progress.n = before + sum(map(_num_evaluations, done))
            self.progress.refresh()
            if not pending:
                return
            first = self.rank % len(pending)
            if any(self._try_task(task) for task in (*pending[first:], *pending[:first])):
                pause = _POLL_SECONDS[0]
                continue
            self.check_alive()
            time.sleep(pause)
            pause = min(2 * pause, _POLL_SECONDS[1])

    def _try_task(self, task: Task) -> bool:
        """Run a task unless another process has claimed it; whether it was run."""
        claim = self.queue.claim(task)
        if claim is None:
            return False
        with self.queue.heartbeat(claim):
            start = time.perf_counter()
            counts = self._evaluate(task)
            seconds = time.perf_counter() - start
            self.queue.finish(claim, task, TaskResult(counts, seconds))
        return True

    def _evaluate(self, task: Task) -> tuple[PointCounts, ...]:
        """The counts of each point of a task on its images; the memory is that of one image."""
        per_image: list[PointCounts] = []
        with retain_freed_memory(self.device):
            for sample in self.images.load(task.start, task.stop):
                self.check_alive()
                logits, image = sample.logits.to(self.device), sample.image.to(self.device)
                labels = {}
                for point, predicted in _predict(logits, image, task.points, self.config):
                    labels[point] = predicted
                    self.progress.update()
                predictions = [labels[point] for point in task.points]
                per_image.append(
                    count_predictions(predictions, sample.labels, self.images.num_classes, self.config)
                )
        counts = PointCounts.concatenate_images(per_image)
        return tuple(counts.select_point(i) for i in range(len(task.points)))


def _num_evaluations(task: Task) -> int:
    """Points times images."""
    return len(task.points) * (task.stop - task.start)


def _predict(
    logits: Logits, image: Image, points: Sequence[Point], config: SearchConfig
) -> Iterator[tuple[Point, LabelMap]]:
    """The labels of every point, lattice by lattice."""
    for _, same_lattice in groupby(points, lambda point: (point.theta_alpha, point.theta_beta)):
        for point, labels in sweep_labels(logits, image, list(same_lattice), config):
            yield point, labels.cpu()
