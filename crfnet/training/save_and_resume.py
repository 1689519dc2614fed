"""Checkpoints of a run: the last one, which it resumes from, and the best one by its validation."""

import dataclasses
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD

from crfnet.checkpoints.checkpoint import (
    REFINEMENTS,
    Checkpoint,
    random_state,
    read_checkpoint,
    restore,
    save_checkpoint,
    set_random_state,
)
from crfnet.config.nested import differing, flat
from crfnet.config.variants import free_keys, to_plain
from crfnet.data import SegmentationDataset
from crfnet.distributed import all_gather, broadcast, on_rank_zero, rank, world_size
from crfnet.errors import InputError, require
from crfnet.files import check_type, one_line
from crfnet.segmenter import Segmenter
from crfnet.training.config import TrainConfig
from crfnet.training.failures import check_finite

__all__ = ["CheckpointSaver", "resume_settings", "seed_everything"]


@dataclasses.dataclass
class CheckpointSaver:
    """Writer and reader of a run's checkpoints; rank 0 writes, all ranks must call it.

    Attributes:
        folder: of the run.
        settings: see `resume_settings`.
        model: what is trained.
        optimizer: over its trainable parameters.
        scaler: of float16; disabled otherwise.
        best: highest mean IoU of a validation so far.
        stale: validations since that one.
    """

    folder: Path
    settings: dict[str, Any]
    model: Segmenter
    optimizer: SGD
    scaler: GradScaler
    best: float = -math.inf
    stale: int = 0

    @property
    def path(self) -> Path:
        """Path of the last checkpoint."""
        return self.folder / "checkpoint.pt"

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    def resume(self) -> tuple[int, float, dict[str, float]]:
        """Restore everything to the state of the last checkpoint.

        Returns:
            The updates done; the seconds they took; the metrics of the last step if its validation is still
            pending, empty otherwise.

        Raises:
            InputError: the checkpoint is damaged, of another model, or made with other settings.
        """
        checkpoint = read_checkpoint(self.path)
        began = checkpoint["settings"]
        for name in differing(began, self.settings):
            raise InputError(
                f"{self.path}: the run began with {name} {began.get(name)!r}, now it is "
                f"{self.settings.get(name)!r}; a run is resumed with the settings that it began with"
            )
        done, last = checkpoint["step"], began.get("iterations", math.inf)
        require(f"{self.path}: its step", done, done <= last, f"at most {last}, the iterations")
        restore(self.path, checkpoint, self.model, self.optimizer)
        self._restore_scaler(checkpoint.get("scaler", {}))
        self.best, self.stale = float(checkpoint.get("best", -math.inf)), checkpoint.get("stale", 0)
        try:
            set_random_state(checkpoint["random"].get(str(rank()), {}), self.device)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error
        pending = {name: float(value) for name, value in checkpoint.get("pending_validation", {}).items()}
        return checkpoint["step"], float(checkpoint["seconds"]), pending

    def _restore_scaler(self, state: dict[str, Any]) -> None:
        if not state:
            return
        try:
            check_type(state, dict[str, float], "its scaler")
            self.scaler.load_state_dict(state)
        except Exception as error:  # a key is missing, or it is of another version
            raise InputError(f"{self.path}: damaged: {one_line(error)}") from error

    def save(
        self, step: int, seconds: float, pending_validation: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        """Replace the last checkpoint.

        Args:
            step: updates done.
            seconds: spent on them.
            pending_validation: the step's metrics if training stops before its validation.

        Raises:
            TrainingDivergedError: a weight is not finite; the checkpoint stays as it was.
            OSError: it cannot be written, and stays as it was.
        """
        states = all_gather(random_state(self.device))
        everyone = {str(number): state for number, state in enumerate(states)}
        training = {"random": everyone, "pending_validation": dict(pending_validation)}
        self._write(self.path, step, seconds, lambda: {"optimizer": self.optimizer.state_dict(), **training})

    def save_if_best(self, step: int, seconds: float, miou: float) -> None:
        """Write ``best.pt``, weights alone, if ``miou`` is the highest so far; raises what `save` raises."""
        self.stale += 1
        if miou > self.best:
            self.best, self.stale = miou, 0
            self._write(self.folder / "best.pt", step, seconds, dict)

    def _write(self, path: Path, step: int, seconds: float, training: Callable[[], dict[str, Any]]) -> None:
        broadcast(self.model.buffers())  # statistics of batches: those of the first process count

        def work() -> None:
            state = self.model.state_dict()
            # A finite gradient times a large learning rate may still overflow; the next loss, which would
            # show it, comes after this checkpoint.
            finite = all(bool(value.isfinite().all()) for value in state.values())
            check_finite({"a weight": 0.0 if finite else math.nan}, step, self.path)
            checkpoint: dict[str, Any] = {
                "step": step,
                "seconds": seconds,
                "settings": self.settings,
                "model": state,
                "optimizer": {},
                "random": {},
                "scaler": self.scaler.state_dict(),
                "best": self.best,
                "stale": self.stale,
                "pending_validation": {},
                **training(),
            }
            save_checkpoint(path, cast(Checkpoint, checkpoint))

        on_rank_zero(work)


def resume_settings(
    model: Segmenter, dataset: SegmentationDataset, config: TrainConfig, seed: int
) -> dict[str, Any]:
    """Collect what decides the weights, as flat plain values; a run is resumed only if all are the same."""
    plain = flat(to_plain(config))
    unimportant = free_keys(TrainConfig)
    for prefix, kind in REFINEMENTS.items():
        config_of_crf = getattr(model.crf, "config", None)
        if type(config_of_crf) is kind:
            plain |= flat(to_plain(config_of_crf), prefix)
            unimportant |= free_keys(kind, prefix)
    plain |= {"seed": seed, "dataset": dataset.name, "images": len(dataset), "processes": world_size()}
    return {name: value for name, value in plain.items() if name not in unimportant}


def seed_everything(seed: int) -> None:
    """Seed every global random generator; ranks above 0 with numbers drawn from ``seed``.

    So dropout masks and sampled rows differ between processes, and a run is a function of its seed and their
    number. Nothing here draws from Python's or NumPy's generator, but a network from elsewhere may.
    """
    if rank():
        seed = int(np.random.SeedSequence((seed, rank())).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
