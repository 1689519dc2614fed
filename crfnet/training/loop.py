"""The training loop: one function, top to bottom."""

import dataclasses
import math
import random
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader
from tqdm import tqdm

from crfnet.crf.layer import DenseCRF
from crfnet.data import Sample, SegmentationDataset, TrainingStream
from crfnet.errors import InputError
from crfnet.segmenter import Segmenter
from crfnet.shapes import Image, LabelMap
from crfnet.training.checkpoint import Checkpoint, random_state, read_checkpoint, restore, save_checkpoint
from crfnet.training.config import TrainConfig
from crfnet.training.journal import Journal
from crfnet.training.loss import training_loss
from crfnet.training.optim import build_optimizer, learning_rate_factor, set_learning_rates

__all__ = ["TrainResult", "TrainingDiverged", "train"]

#: Settings that change no weight, and so may differ when a run is resumed.
_FREE = ("checkpoint_every", "log_every", "picture_every", "workers")


@dataclass(frozen=True)
class TrainResult:
    """What came of a training run.

    Attributes:
        path: the last checkpoint.
        seconds: wall-clock time of all iterations, over all resumed parts.
        peak_memory_mb: largest resident size of this process since it began, MiB (Linux).
    """

    path: Path
    seconds: float
    peak_memory_mb: float


class TrainingDiverged(RuntimeError):  # noqa: N818 (what happened, not what was done wrong)
    """The loss, its gradient or a weight is no longer finite; the message says where, and what is left."""


def train(
    model: Segmenter,
    dataset: SegmentationDataset,
    config: TrainConfig,
    folder: Path,
    *,
    seed: int,
    resume: bool = False,
    overwrite: bool = False,
) -> TrainResult:
    """Trains ``model`` in place and leaves it in evaluation mode.

    Writes ``checkpoint.pt``, ``log.jsonl`` (a line per iteration) and ``tensorboard/`` into ``folder``. On a
    CPU the weights are a function of the model, the data, ``config`` and ``seed`` alone, bit for bit, however
    often the run was killed and resumed.

    Args:
        model: on the device to train on; it starts as it is, unless there is a checkpoint to resume.
        dataset: the training images; call its ``check()`` before.
        config: see `TrainConfig`.
        folder: where to write; made when missing.
        seed: >= 0; of the order of the images and their augmentation; all global random generators are set.
        resume: go on from the checkpoint in ``folder``; from the beginning when there is none yet.
        overwrite: discard the run in ``folder``.

    Raises:
        InputError: ``folder`` holds a run and neither ``resume`` nor ``overwrite`` is given; the checkpoint
            is damaged, of another model or made with other settings; the loss has no use for the model's CRF.
        TrainingDiverged: see there; the last checkpoint is kept.
    """
    path = folder / "checkpoint.pt"
    _check(model, config, folder, resume=resume, overwrite=overwrite)
    settings = _settings(model, dataset, config, seed)
    optimizer = build_optimizer(model, config)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    trains_crf = any(group["name"] == "crf" for group in optimizer.param_groups)

    # Everything random is drawn from the seed, or goes on where the checkpoint was.
    _seed_all(seed)
    first, seconds = (0 if trains_crf else config.crf_warmup), 0.0
    if overwrite:
        _discard(folder)
    if resume and path.exists():
        first, seconds = _resume(path, settings, model, optimizer)
    batches = _batches(dataset, config, seed, first)

    with Journal(folder, first, config.log_every) as journal, _progress(first, config.iterations) as progress:
        started = time.perf_counter() - seconds
        for step, batch in enumerate(batches, start=first):
            factor = learning_rate_factor(step, config)
            set_learning_rates(optimizer, factor)

            model.train()
            image, labels = (value.to(parameters[0].device) for value in (batch.image, batch.labels))
            with _frozen(model.network, trains_crf and step < config.crf_warmup):
                loss = training_loss(model, image, labels, config)
                loss.backward()
            # Looked at before any weight is touched, so that no bad step ever reaches a checkpoint.
            norm = nn.utils.clip_grad_norm_(parameters, config.clip or math.inf)
            numbers = {"loss": loss.item(), "lr": config.lr * factor, "gradient_norm": norm.item()}
            _check_finite(numbers, step + 1, path)
            optimizer.step()
            optimizer.zero_grad()

            # Steps are counted from 1 in all that is written: as many updates are in the weights.
            journal.write(step + 1, numbers, _crf_parameters(model))
            progress.set_postfix(loss=f"{numbers['loss']:.4f}", refresh=False)
            progress.update()
            if config.picture_every and (step + 1) % config.picture_every == 0:
                prediction = _predict(model, image[:1])
                journal.picture(step + 1, batch.image[0], batch.labels[0], prediction, dataset.palette)
            if (step + 1) % config.checkpoint_every == 0 and step + 1 < config.iterations:
                _save(path, step + 1, time.perf_counter() - started, settings, model, optimizer)
        seconds = time.perf_counter() - started
        _save(path, config.iterations, seconds, settings, model, optimizer)
    model.eval()
    return TrainResult(path, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _check(model: Segmenter, config: TrainConfig, folder: Path, *, resume: bool, overwrite: bool) -> None:
    if config.loss == "stride" and model.crf is not None:
        raise InputError("loss: 'stride' would leave the CRF untrained; a model with a CRF needs 'image'")
    if resume and overwrite:
        raise InputError("resume, overwrite: both given; allowed is one of them")
    used = [name for name in ("checkpoint.pt", "log.jsonl") if (folder / name).exists()]
    if used and not resume and not overwrite:
        raise InputError(
            f"{folder}: holds {' and '.join(used)}; resume or overwrite that run, or name another folder"
        )


def _discard(folder: Path) -> None:
    """Removes what `train` writes, and nothing else that may lie there."""
    for pattern in ("checkpoint.pt", "log.jsonl", "tensorboard/events.out.tfevents.*"):
        for file in folder.glob(pattern):
            file.unlink()


def _seed_all(seed: int) -> None:
    """Nothing here draws from Python's or NumPy's generator, but a network from elsewhere may."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def _settings(
    model: Segmenter, dataset: SegmentationDataset, config: TrainConfig, seed: int
) -> dict[str, Any]:
    """What decides the weights, as flat plain values; a run is only resumed where all of it is the same."""
    crf = dataclasses.asdict(model.crf.config) if isinstance(model.crf, DenseCRF) else {}
    plain = {name: value for name, value in dataclasses.asdict(config).items() if name not in _FREE}
    plain |= {f"augment.{name}": value for name, value in plain.pop("augment").items()}
    plain |= {f"crf.{name}": value for name, value in crf.items()}
    plain |= {"seed": seed, "dataset": dataset.name, "images": len(dataset)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def _resume(path: Path, settings: dict[str, Any], model: Segmenter, optimizer: SGD) -> tuple[int, float]:
    """Everything as it was at the checkpoint; returns the updates done and the seconds they took."""
    checkpoint = read_checkpoint(path)
    began = checkpoint["settings"]
    for name in {**began, **settings}:
        if began.get(name) != settings.get(name):
            raise InputError(
                f"{path}: the run began with {name} {began.get(name)!r}, now it is {settings.get(name)!r}; "
                "a run is resumed with the settings that it began with"
            )
    restore(path, checkpoint, model, optimizer)
    return checkpoint["step"], checkpoint["seconds"]


def _batches(dataset: SegmentationDataset, config: TrainConfig, seed: int, first: int) -> DataLoader[Sample]:
    """The batches of iterations ``first`` to the last, as Samples with a leading axis."""
    stream = TrainingStream(dataset, config.augment, seed=seed)
    items = range(first * config.batch_size, config.iterations * config.batch_size)
    # A loader draws a seed for its workers, here from a generator of its own: from the global one, a resumed
    # run, which makes a second loader, would draw once more than one that was not killed.
    return DataLoader(
        stream,
        config.batch_size,
        sampler=items,
        num_workers=config.workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )


def _progress(first: int, iterations: int) -> "tqdm[Any]":
    return tqdm(desc="training", initial=first, total=iterations, unit="step", mininterval=0.5)


@contextmanager
def _frozen(network: nn.Module, active: bool) -> Iterator[None]:
    """While ``active``, the network is in evaluation mode and gets no gradient, nor passes one on."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad and active]
    if active:
        network.eval()
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def _check_finite(numbers: dict[str, float], step: int, path: Path) -> None:
    for name, number in numbers.items():
        if not math.isfinite(number):
            kept = f"the last good checkpoint is {path}" if path.exists() else "there is no checkpoint yet"
            raise TrainingDiverged(
                f"training diverged: {name} is {number} in iteration {step}; {kept}; "
                "try a lower lr or crf_lr, or set clip"
            )


def _crf_parameters(model: Segmenter) -> dict[str, float | torch.Tensor]:
    return model.crf.parameters_by_name() if isinstance(model.crf, DenseCRF) else {}


@torch.no_grad()
def _predict(model: Segmenter, image: Image) -> LabelMap:
    model.eval()
    labels: LabelMap = model(image)[0].argmax(0)
    return labels


def _save(
    path: Path, step: int, seconds: float, settings: dict[str, Any], model: Segmenter, optimizer: SGD
) -> None:
    state = model.state_dict()
    # A finite gradient times a large learning rate may still overflow, which the next loss would tell too
    # late.
    finite = all(bool(value.isfinite().all()) for value in state.values())
    _check_finite({"a weight": 0.0 if finite else math.nan}, step, path)
    save_checkpoint(
        path,
        Checkpoint(
            step=step,
            seconds=seconds,
            settings=settings,
            model=state,
            optimizer=optimizer.state_dict(),
            random=random_state(),
        ),
    )
