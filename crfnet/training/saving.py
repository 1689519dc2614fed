"""The checkpoints of a run: the last one, from which it goes on, and the best one by its validation."""

import dataclasses
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD

from crfnet.checkpoints.checkpoint import (
    Checkpoint,
    random_state,
    read_checkpoint,
    restore,
    save_checkpoint,
    set_random_state,
)
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.data import SegmentationDataset
from crfnet.distributed import all_gather, broadcast, on_rank_zero, rank, world_size
from crfnet.errors import InputError
from crfnet.nested import flat
from crfnet.segmenter import Segmenter
from crfnet.training.config import TrainConfig
from crfnet.training.status import TrainingDivergedError
from crfnet.variants import free_keys, to_plain

__all__ = ["Saves", "check_finite", "seed_all", "settings_of"]


@dataclasses.dataclass
class Saves:
    """The checkpoints in a run's folder; the first process alone writes, all of them call.

    Attributes:
        folder: of the run.
        settings: see `settings_of`.
        model: what is trained.
        optimizer: by which.
        scaler: of float16; disabled otherwise.
        best: highest mean IoU so far.
        owed: numbers of the last step where training stopped before its validation; empty otherwise.
    """

    folder: Path
    settings: dict[str, Any]
    model: Segmenter
    optimizer: SGD
    scaler: GradScaler
    best: float = -math.inf
    owed: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The last checkpoint."""
        return self.folder / "checkpoint.pt"

    @property
    def device(self) -> torch.device:
        """Where is computed."""
        return next(self.model.parameters()).device

    def resume(self) -> tuple[int, float]:
        """Everything becomes what it was at the last checkpoint.

        Returns:
            The updates done and the seconds they took.

        Raises:
            InputError: the checkpoint is damaged, of another model, or made with other settings.
        """
        checkpoint = read_checkpoint(self.path)
        began = checkpoint["settings"]
        for name in {**began, **self.settings}:
            if began.get(name) != self.settings.get(name):
                raise InputError(
                    f"{self.path}: the run began with {name} {began.get(name)!r}, now it is "
                    f"{self.settings.get(name)!r}; a run is resumed with the settings that it began with"
                )
        restore(self.path, checkpoint, self.model, self.optimizer)
        if checkpoint.get("scaler"):
            self.scaler.load_state_dict(checkpoint["scaler"])
        self.best = checkpoint.get("best", -math.inf)
        self.owed = checkpoint.get("owed", {})
        set_random_state(checkpoint["random"][str(rank())], self.device)
        return checkpoint["step"], checkpoint["seconds"]

    def save(self, step: int, seconds: float) -> None:
        """The last checkpoint becomes this one.

        Raises:
            TrainingDivergedError: a weight is not finite; the checkpoint stays as it was.
            OSError: it cannot be written, and stays as it was.
        """
        states = all_gather(random_state(self.device))
        everyone = {str(number): state for number, state in enumerate(states)}
        self._write(
            self.path, step, seconds, optimizer=lambda: dict(self.optimizer.state_dict()), random=everyone
        )

    def judge(self, step: int, seconds: float, miou: float) -> None:
        """Writes ``best.pt``, weights alone, where the validation is better than all before.

        Raises:
            TrainingDivergedError: as of `save`.
            OSError: as of `save`.
        """
        if miou > self.best:
            self.best = miou
            self._write(self.folder / "best.pt", step, seconds, optimizer=dict, random={})

    def _write(
        self,
        path: Path,
        step: int,
        seconds: float,
        *,
        optimizer: Callable[[], dict[str, Any]],
        random: dict[str, Any],
    ) -> None:
        broadcast(self.model.buffers())  # statistics of batches: those of the first process count

        def work() -> None:
            state = self.model.state_dict()
            # A finite gradient times a large learning rate may still overflow, which the next loss would
            # tell too late.
            finite = all(bool(value.isfinite().all()) for value in state.values())
            check_finite({"a weight": 0.0 if finite else math.nan}, step, self.path)
            save_checkpoint(
                path,
                Checkpoint(
                    step=step,
                    seconds=seconds,
                    settings=self.settings,
                    model=state,
                    optimizer=optimizer(),
                    random=random,
                    scaler=self.scaler.state_dict(),
                    best=self.best,
                    owed=self.owed,
                ),
            )

        on_rank_zero(work)


def settings_of(
    model: Segmenter, dataset: SegmentationDataset, config: TrainConfig, seed: int
) -> dict[str, Any]:
    """What decides the weights, as flat plain values; a run is only resumed where all of it is the same."""
    plain = flat(to_plain(config))
    unimportant = free_keys(TrainConfig)
    if isinstance(model.crf, DenseCRF):
        plain |= flat(to_plain(model.crf.config), "crf.")
        unimportant |= free_keys(CRFConfig, "crf.")
    plain |= {"seed": seed, "dataset": dataset.name, "images": len(dataset), "processes": world_size()}
    return {name: value for name, value in plain.items() if name not in unimportant}


def seed_all(seed: int) -> None:
    """Every global random generator begins at ``seed``, in further processes at numbers drawn from it.

    So dropout masks and sampled rows differ between processes, and a run is a function of its seed and their
    number. Nothing here draws from Python's or NumPy's generator, but a network from elsewhere may.
    """
    if rank():
        seed = int(np.random.SeedSequence((seed, rank())).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def check_finite(numbers: dict[str, float], step: int, path: Path) -> None:
    """Refuses numbers that are not finite.

    Args:
        numbers: by name; alike in every process.
        step: from 1 on.
        path: of the last checkpoint, if there is one.

    Raises:
        TrainingDivergedError: one is not finite.
    """
    for name, number in numbers.items():
        if not math.isfinite(number):
            kept = f"the last good checkpoint is {path}" if path.exists() else "there is no checkpoint yet"
            raise TrainingDivergedError(
                f"training diverged: {name} is {number} in iteration {step}; {kept}; "
                "try a lower lr or crf_lr, or set clip"
            )
