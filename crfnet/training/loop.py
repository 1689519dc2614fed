"""The training loop: one function, top to bottom."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch.amp.grad_scaler import GradScaler

from crfnet.crf.layer import DenseCRF
from crfnet.data import Sample, SegmentationDataset
from crfnet.distributed import broadcast, is_rank_zero, on_rank_zero
from crfnet.domain_transform import DomainTransform
from crfnet.errors import InputError, require
from crfnet.files import lock_folder
from crfnet.memory import peak_memory_mb
from crfnet.segmenter import Segmenter
from crfnet.training.checks import check_training
from crfnet.training.config import TrainConfig
from crfnet.training.criterion import Criterion, class_weights
from crfnet.training.optim import build_optimizer
from crfnet.training.run_logger import RunLogger
from crfnet.training.save_and_resume import CheckpointSaver, resume_settings, seed_everything
from crfnet.training.status import track_status
from crfnet.training.stop_signals import TrainingInterrupted, stop_requests
from crfnet.training.train_loader import TrainLoader
from crfnet.training.train_step import TrainStep, has_trainable_crf, prepare_model
from crfnet.training.validation import validate

__all__ = ["TrainResult", "train"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """The result of a training run.

    Attributes:
        path: the last checkpoint.
        seconds: wall-clock time of all iterations, over all resumed parts.
        data_seconds: waiting for images in this part.
        peak_memory_mb: largest resident size of this process, MiB; see `crfnet.memory`.
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
    """Train ``model`` in place and leave it in evaluation mode.

    Writes ``checkpoint.pt``, ``log.jsonl`` (a line per iteration), ``tensorboard/`` and ``state.json`` into
    ``folder``, and ``best.pt`` where it validates. On a CPU the weights are a function of the model, the
    data, ``config``, ``seed`` and the number of processes alone, bit for bit, however often the run was
    killed and resumed. Several processes (`crfnet.distributed`) all call it, with the same arguments.

    With ``early_stop`` it may end before its iterations are done; resumed, it stays ended.

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
        InputError: ``folder`` holds a run and neither ``resume`` nor ``overwrite`` is given, or another
            process trains there; the checkpoint is damaged, of another model or made with other settings;
            what `check_training` refuses.
        TrainingDivergedError: loss, gradient or a weight is not finite; the last checkpoint is kept.
        TrainingFailedError: a file cannot be written or read any more; the last checkpoint is kept.
        TrainingInterrupted: by a signal, after a checkpoint was written.
    """
    check_training(model, dataset, config, validation)
    _check_folder(folder, resume=resume, overwrite=overwrite)
    prepare_model(model, config)
    optimizer = build_optimizer(model, config)
    scaler = GradScaler(next(model.parameters()).device.type, enabled=config.precision == "float16")
    saver = CheckpointSaver(folder, resume_settings(model, dataset, config, seed), model, optimizer, scaler)

    # Everything random is drawn from the seed, or goes on where the checkpoint was.
    seed_everything(seed)
    start, seconds, pending = (
        (0 if has_trainable_crf(optimizer) else config.crf_warmup),
        0.0,
        dict[str, float](),
    )
    if on_rank_zero(lambda: _prepare_folder(folder, resume=resume, overwrite=overwrite)):
        start, seconds, pending = saver.resume()
    train_step = TrainStep(model, optimizer, scaler, config, saver.path, _criterion(config, dataset))

    with (
        _locked(folder),
        track_status(folder, start) as status,
        stop_requests() as stop,
        RunLogger(folder, start, config.iterations, config.log_every, pending=bool(pending)) as logger,
    ):
        started = time.perf_counter() - seconds
        log_step = _step_logger(model, validation, config, saver, logger, started)
        log_picture = partial(_log_picture, model, dataset, config, logger)
        if pending:
            log_step(start, pending)
        step = start
        loader = TrainLoader(
            dataset, config, seed, config.iterations if _stops_early(saver, config) else start
        )
        # Steps are counted from 1 in all that is written: as many updates are in the weights.
        for step, batch in enumerate(loader, start=start + 1):
            metrics, signal = train_step(step - 1, batch, stop)
            status.step = step
            stopping = bool(signal) and step < config.iterations
            # A validation may take longer than what is left before a kill: the resumed run begins with it.
            pending = metrics if stopping and _is_due(step, config.validate_every) else {}
            if not pending:
                log_step(step, metrics)
            log_picture(step, batch)
            if stopping or (_is_due(step, config.checkpoint_every) and step < config.iterations):
                logger.flush()
                saver.save(step, time.perf_counter() - started, pending)
                status.write("running")
            if stopping:
                raise TrainingInterrupted(signal, step, config.iterations)
            if _stops_early(saver, config):
                break
        seconds = time.perf_counter() - started
        saver.save(step, seconds)
    broadcast(model.buffers())
    model.eval()
    log.info("trained for %.0f s, %.0f s of them waiting for images", seconds, loader.wait_seconds)
    return TrainResult(saver.path, seconds, loader.wait_seconds, peak_memory_mb())


def _step_logger(
    model: Segmenter,
    validation: SegmentationDataset | None,
    config: TrainConfig,
    saver: CheckpointSaver,
    logger: RunLogger,
    started: float,
) -> Callable[[int, dict[str, float]], None]:
    """Make the function that validates after a step, if that is due, and then logs the step."""

    def log_step(step: int, metrics: dict[str, float]) -> None:
        miou = None
        if validation is not None and _is_due(step, config.validate_every):
            miou = validate(model, validation, config.validate_images)
            saver.save_if_best(step, time.perf_counter() - started, miou)
        logger.log_step(step, metrics, _crf_parameters(model), miou)

    return log_step


def _stops_early(saver: CheckpointSaver, config: TrainConfig) -> bool:
    """Whether the validation has not been better for long enough; alike on every rank."""
    ended = 0 < config.early_stop <= saver.stale
    if ended:
        log.info("no higher mean IoU than %.4f in %d validations: training ends", saver.best, saver.stale)
    return ended


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _check_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    require("overwrite", overwrite, not (resume and overwrite), "False with resume")
    used = [name for name in ("checkpoint.pt", "log.jsonl") if (folder / name).exists()]
    if used and not resume and not overwrite:
        raise InputError(
            f"{folder}: holds {' and '.join(used)}; resume or overwrite that run, or name another folder"
        )


def _prepare_folder(folder: Path, *, resume: bool, overwrite: bool) -> bool:
    """Remove half-written files, and the old run to overwrite; return whether there is a run to resume."""
    outputs = ("checkpoint.pt", "best.pt", "log.jsonl", "state.json", "tensorboard/events.out.tfevents.*")
    half_written = [pattern for name in outputs[:4] for pattern in (f".{name}.tmp", f".{name}.*.tmp")]
    with _locked(folder):
        for pattern in (*half_written, *(outputs if overwrite else ())):
            for file in folder.glob(pattern):
                file.unlink()
    return resume and (folder / "checkpoint.pt").exists()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder, on rank 0; one that cannot be written is told of by what writes there first."""
    with ExitStack() as stack:
        if is_rank_zero():
            with suppress(OSError):
                stack.enter_context(lock_folder(folder))
        yield


def _crf_parameters(model: Segmenter) -> dict[str, float | torch.Tensor]:
    known = isinstance(model.crf, DenseCRF | DomainTransform)
    return model.crf.parameters_by_name() if known else {}  # type: ignore[union-attr, operator]


def _criterion(config: TrainConfig, dataset: SegmentationDataset) -> Criterion:
    return Criterion(class_weights(config, dataset), config.focal, config.dice)


@torch.no_grad()
def _log_picture(
    model: Segmenter,
    dataset: SegmentationDataset,
    config: TrainConfig,
    logger: RunLogger,
    step: int,
    batch: Sample,
) -> None:
    """The first image of the batch, its labels and what the model makes of it now, if that is due."""
    if logger.silent or not _is_due(step, config.picture_every):
        return
    model.eval()
    prediction = model(batch.image[:1].to(next(model.parameters()).device))[0].argmax(0)
    logger.log_images(step, batch.image[0], batch.labels[0], prediction, dataset)
