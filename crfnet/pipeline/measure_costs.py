"""What each arm costs per image: time of all arms side by side, memory of each arm by itself.

Other work, a clock that goes down, a disk that is read for the first time: whatever slows the machine slows
the arms alike, since every arm predicts an image before any predicts the next one. Wall time is what a user
waits, processor time (of all threads) what the arm took of the machine; the load that is written beside them
tells how far the former can be trusted. Memory is measured in a process for each arm.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch

from crfnet.data import Sample, SegmentationDataset
from crfnet.distributed import on_rank_zero
from crfnet.files import write_csv
from crfnet.pipeline.peak_memory import peak_memory_alone
from crfnet.pipeline.predictors import Predictor
from crfnet.pipeline.run_folder import run_stage
from crfnet.pipeline.samples import select_samples, with_progress
from crfnet.report import ArmResult

__all__ = ["MEASURED_IMAGES", "BuildPredictor", "ImageCost", "image_costs", "measure_costs"]

MEASURED_IMAGES = 16  #: evenly among those that are evaluated
_MIN_IMAGES = 3
_SECONDS = 120.0  #: after which no further image is begun

BuildPredictor: TypeAlias = Callable[[], Predictor]  #: picklable: it is called in another process, too


class ImageCost(NamedTuple):
    """What one arm took for one image; seconds of the wall clock and of all processors."""

    arm: str
    image: str
    seconds: float
    cpu_seconds: float


def measure_costs(
    folder: Path,
    arms: Sequence[ArmResult],
    builds: Mapping[str, BuildPredictor],
    dataset: SegmentationDataset,
) -> list[ArmResult]:
    """Measure the arms on some of the images that they scored; a finished folder is read, not measured again.

    Writes every single time as ``folder/per_image.csv``. Of several processes the first one measures alone.

    Args:
        folder: made when missing.
        arms: what was scored.
        builds: by arm; one that is not here is left as it is.
        dataset: holds the images.

    Returns:
        The arms with what an image costs at inference: medians over the images, and the load of the machine
        meanwhile.
    """
    if not builds:
        return list(arms)

    def measure() -> dict[str, float]:
        samples = list(select_samples(dataset, _spread(arms[0].evaluation.ids)))
        predictors = {name: build() for name, build in builds.items()}
        costs, load = image_costs(predictors, samples)
        write_csv(folder / "per_image.csv", ImageCost._fields, costs)
        del predictors
        torch.cuda.empty_cache()  # another process measures the memory
        largest = max(samples, key=lambda sample: sample.labels.numel())
        memory = peak_memory_alone(builds, largest, limit=60 + 20 * max(each.seconds for each in costs))
        found = {"load": load}
        for name in builds:
            mine = [each for each in costs if each.arm == name]
            found[f"{name} seconds"] = statistics.median(each.seconds for each in mine)
            found[f"{name} cpu"] = statistics.median(each.cpu_seconds for each in mine)
            found[f"{name} peak"] = memory[name]
        return found

    def work() -> dict[str, float]:
        return on_rank_zero(measure)

    found = run_stage(folder, work)
    return [
        replace(
            arm,
            seconds_per_image=found[f"{arm.name} seconds"],
            cpu_seconds_per_image=found[f"{arm.name} cpu"],
            peak_memory_mb=found[f"{arm.name} peak"],
            machine_load=found["load"],
        )
        if arm.name in builds
        else arm
        for arm in arms
    ]


def image_costs(
    predictors: Mapping[str, Predictor], samples: Sequence[Sample]
) -> tuple[list[ImageCost], float]:
    """Every predictor on the first image, then every predictor on the second, and so on.

    Each predicts the first image once without being measured, since a first call compiles. The order of the
    predictors goes round by one with every image, so that none always follows the same other.

    Returns:
        A cost for each predictor and image, and the mean load of the machine (see `_load`).
    """
    for predict in predictors.values():
        predict(samples[0])
    costs: list[ImageCost] = []
    loads = []
    began = time.perf_counter()
    for turn, sample in enumerate(with_progress(iter(samples), "costs", len(samples))):
        if turn >= _MIN_IMAGES and time.perf_counter() - began > _SECONDS:
            break
        names = list(predictors)
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            costs.append(ImageCost(name, sample.id, *_timed(predictors[name], sample)))
        loads.append(_load())
    return costs, statistics.fmean(loads)


def _timed(predict: Predictor, sample: Sample) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    if predict(sample).is_cuda:
        torch.cuda.synchronize()  # or its time would be counted as that of what waits for it
    return time.perf_counter() - wall, time.process_time() - processor


def _load() -> float:
    """Processes that ran or wanted to, over the last minute, for each core; NaN where nobody tells."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (AttributeError, OSError):
        return float("nan")


def _spread(ids: Sequence[str]) -> list[str]:
    """Images evenly among all, `MEASURED_IMAGES` at most."""
    count = min(MEASURED_IMAGES, len(ids))
    return [ids[turn * len(ids) // count] for turn in range(count)]
