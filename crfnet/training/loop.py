"""The training loop: one function, top to bottom."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.amp.grad_scaler import GradScaler

from crfnet.crf.layer import DenseCRF
from crfnet.data import SegmentationDataset
from crfnet.distributed import broadcast, on_rank_zero
from crfnet.errors import InputError
from crfnet.memory import peak_memory_mb
from crfnet.segmenter import Segmenter
from crfnet.shapes import Image, LabelMap
from crfnet.training.config import TrainConfig
from crfnet.training.optim import build_optimizer
from crfnet.training.run_logger import RunLogger
from crfnet.training.saving import Saves, seed_all, settings_of
from crfnet.training.status import track_status
from crfnet.training.stopping import TrainingInterrupted, stop_requests
from crfnet.training.train_loader import TrainLoader
from crfnet.training.train_step import TrainStep, check_batch_size, prepare, trains_crf
from crfnet.training.validation import validate

__all__ = ["TrainResult", "train"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What came of a training run.

    Attributes:
        path: the last checkpoint.
        seconds: wall-clock time of all iterations, over all resumed parts.
        data_seconds: waiting for images in this part.
        peak_memory_mb: largest resident size of this process since it began, MiB (Linux).
    """

    path: Path
    seconds: float
    data_seconds: float
    peak_memory_mb: float


def train(
    model: Segmenter,
    dataset: SegmentationDataset,
    config: TrainConfig,
    folder: Path,
    *,
    seed: int,
    validation: SegmentationDataset | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> TrainResult:
    """Trains ``model`` in place and leaves it in evaluation mode.

    Writes ``checkpoint.pt``, ``log.jsonl`` (a line per iteration), ``tensorboard/`` and ``state.json`` into
    ``folder``, and ``best.pt`` where it validates. On a CPU the weights are a function of the model, the
    data, ``config``, ``seed`` and the number of processes alone, bit for bit, however often the run was
    killed and resumed. Several processes (`crfnet.distributed`) all call it, with the same arguments.

    SIGTERM and Ctrl-C let it finish its step and write a checkpoint; a second one ends the process at once.

    Args:
        model: on the device to train on; it starts as it is, unless there is a checkpoint to resume.
        dataset: the training images; call its ``check()`` before.
        config: see `TrainConfig`.
        folder: where to write; made when missing. All processes have to see it.
        seed: >= 0; of the order of the images and their augmentation; all global random generators are set.
        validation: what ``validate_every`` validates on.
        resume: go on from the checkpoint in ``folder``; from the beginning when there is none yet.
        overwrite: discard the run in ``folder``.

    Raises:
        InputError: ``folder`` holds a run and neither ``resume`` nor ``overwrite`` is given; the checkpoint
            is damaged, of another model or made with other settings; the loss has no use for the model's CRF;
            the batch cannot be shared.
        TrainingDivergedError: see there; the last checkpoint is kept.
        TrainingFailedError: a file cannot be written or read any more; the last checkpoint is kept.
        TrainingInterrupted: by a signal, with a checkpoint.
    """
    _check(model, config, folder, validation, resume=resume, overwrite=overwrite)
    prepare(model, config)
    optimizer = build_optimizer(model, config)
    device = next(model.parameters()).device
    scaler = GradScaler(device.type, enabled=config.precision == "float16")
    saves = Saves(folder, settings_of(model, dataset, config, seed), model, optimizer, scaler)

    # Everything random is drawn from the seed, or goes on where the checkpoint was.
    seed_all(seed)
    begin, seconds = (0 if trains_crf(optimizer) else config.crf_warmup), 0.0
    if on_rank_zero(lambda: _begin(folder, resume=resume, overwrite=overwrite)):
        begin, seconds = saves.resume()
    update = TrainStep(model, optimizer, scaler, config, saves.path)
    batches = TrainLoader(dataset, config, seed, begin)

    with (
        track_status(folder, begin) as state,
        stop_requests() as stop,
        RunLogger(folder, begin, config.iterations, config.log_every, again=bool(saves.owed)) as journal,
    ):
        started = time.perf_counter() - seconds
        tell = _teller(model, validation, config, saves, journal, started)
        if saves.owed:
            tell(begin - 1, saves.owed)
            saves.owed = {}
        for step, batch in enumerate(batches, start=begin):
            numbers, signal = update(step, batch, stop)
            # Steps are counted from 1 in all that is written: as many updates are in the weights.
            state.step = step + 1
            stops = signal and step + 1 < config.iterations
            if stops and _due(step, config.validate_every):
                saves.owed = numbers  # there may be no time for it now: the run that goes on begins with it
            else:
                tell(step, numbers)
            if _due(step, config.picture_every) and not journal.silent:
                prediction = _predict(model, batch.image[:1].to(device))
                journal.picture(step + 1, batch.image[0], batch.labels[0], prediction, dataset)
            if stops or (_due(step, config.checkpoint_every) and step + 1 < config.iterations):
                journal.keep()
                saves.save(step + 1, time.perf_counter() - started)
                state.write("running")
            if stops:
                raise TrainingInterrupted(signal, step + 1, config.iterations)
        seconds = time.perf_counter() - started
        saves.save(config.iterations, seconds)
    broadcast(model.buffers())
    model.eval()
    log.info("trained for %.0f s, %.0f s of them waiting for images", seconds, batches.seconds)
    return TrainResult(saves.path, seconds, batches.seconds, peak_memory_mb())


def _teller(
    model: Segmenter,
    validation: SegmentationDataset | None,
    config: TrainConfig,
    saves: Saves,
    journal: RunLogger,
    started: float,
) -> Callable[[int, dict[str, float]], None]:
    """Of a step: its validation, where one is due, and its line in the log."""

    def tell(step: int, numbers: dict[str, float]) -> None:
        miou = None
        if validation is not None and _due(step, config.validate_every):
            miou = validate(model, validation, config.validate_images)
            saves.judge(step + 1, time.perf_counter() - started, miou)
        journal.write(step + 1, numbers, _crf_parameters(model), miou)

    return tell


def _due(step: int, every: int) -> bool:
    return every > 0 and (step + 1) % every == 0


def _check(
    model: Segmenter,
    config: TrainConfig,
    folder: Path,
    validation: SegmentationDataset | None,
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    if config.loss == "stride" and model.crf is not None:
        raise InputError("loss: 'stride' would leave the CRF untrained; a model with a CRF needs 'image'")
    if config.validate_every and validation is None:
        raise InputError(f"validate_every: {config.validate_every} without validation images; allowed is 0")
    check_batch_size(config)
    if resume and overwrite:
        raise InputError("resume, overwrite: both given; allowed is one of them")
    used = [name for name in ("checkpoint.pt", "log.jsonl") if (folder / name).exists()]
    if used and not resume and not overwrite:
        raise InputError(
            f"{folder}: holds {' and '.join(used)}; resume or overwrite that run, or name another folder"
        )


def _begin(folder: Path, *, resume: bool, overwrite: bool) -> bool:
    """Removes what a kill left half-written, and a run that is not wanted; whether one is to go on."""
    written = ("checkpoint.pt", "best.pt", "log.jsonl", "state.json", "tensorboard/events.out.tfevents.*")
    for pattern in (".*.tmp", *(written if overwrite else ())):
        for file in folder.glob(pattern):
            file.unlink()
    return resume and (folder / "checkpoint.pt").exists()


def _crf_parameters(model: Segmenter) -> dict[str, float | torch.Tensor]:
    return model.crf.parameters_by_name() if isinstance(model.crf, DenseCRF) else {}


@torch.no_grad()
def _predict(model: Segmenter, image: Image) -> LabelMap:
    model.eval()
    labels: LabelMap = model(image)[0].argmax(0)
    return labels
