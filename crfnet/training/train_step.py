"""One update: in parts, in several processes, at lower precision, and yet that of the batch's one loss."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import SGD

from crfnet.data import Sample
from crfnet.distributed import distributed_data_parallel, no_sync, world_size
from crfnet.errors import InputError
from crfnet.segmenter import Segmenter
from crfnet.shapes import Image, Labels
from crfnet.training.config import TrainConfig
from crfnet.training.loss import Batch, training_loss
from crfnet.training.optim import learning_rate_factor, set_learning_rates
from crfnet.training.saving import check_finite
from crfnet.training.stopping import StopRequest, totals

__all__ = ["Objective", "TrainStep", "check_batch_size", "prepare", "trains_crf"]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Objective(nn.Module):
    """A segmenter with its loss behind it, since what is replicated has to be called as one module."""

    def __init__(self, model: Segmenter, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.config = model, config
        # Never used, so that torch, told to look for such ones, does not warn that there are none.
        self._spare = nn.Parameter(next(model.parameters()).new_zeros(()))
        # Of training alone: validation and pictures have images of other sizes, each compiled anew.
        self._all_scores = torch.compile(model.all_scores) if config.compile else model.all_scores

    def forward(self, image: Image, labels: Labels, batch: Batch) -> Float[Tensor, ""]:
        """See `training_loss`."""
        return training_loss(self.model, image, labels, self.config, batch=batch, all_scores=self._all_scores)


def check_batch_size(config: TrainConfig) -> None:
    """Refuses a batch that cannot be shared.

    Raises:
        InputError: ``batch_size`` is no multiple of the number of processes times ``accumulate``.
    """
    parts = world_size() * config.accumulate
    if config.batch_size % parts:
        raise InputError(
            f"batch_size: {config.batch_size}, shared by {world_size()} processes with accumulate "
            f"{config.accumulate}; allowed are multiples of {parts}"
        )


def prepare(model: Segmenter, config: TrainConfig) -> None:
    """Layout and batch normalization of the network, in place; names and values of its weights stay.

    Raises:
        InputError: statistics over several processes on CPUs, for which torch has no operation.
    """
    if config.channels_last:
        model.network.to(memory_format=torch.channels_last)
    if world_size() == 1:
        return
    if config.sync_batch_norm:
        from timm.layers.norm_act import convert_sync_batchnorm  # knows timm's own layers, too

        model.network = convert_sync_batchnorm(model.network)
    synchronized = any(isinstance(layer, nn.SyncBatchNorm) for layer in model.modules())
    if synchronized and next(model.parameters()).device.type == "cpu":
        raise InputError(
            "sync_batch_norm (or model.batch_norm sync): several processes on CPUs; allowed on GPUs alone, "
            "torch has no SyncBatchNorm for CPUs"
        )


class TrainStep:
    """``update(step, batch, stop)`` is one update of a model.

    Args:
        model: as of `prepare`; becomes that of the first process in all.
        optimizer: over its trainable parameters.
        scaler: of float16; disabled otherwise.
        config: see `TrainConfig`.
        path: of the last checkpoint, for messages.
    """

    def __init__(
        self, model: Segmenter, optimizer: SGD, scaler: GradScaler, config: TrainConfig, path: Path
    ) -> None:
        self._model, self._optimizer, self._scaler = model, optimizer, scaler
        self._config, self._path = config, path
        self._objective = distributed_data_parallel(Objective(model, config))
        self._parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
        self._warmup = config.crf_warmup if trains_crf(optimizer) else 0

    def __call__(self, step: int, batch: Sample, stop: StopRequest) -> tuple[dict[str, float], int]:
        """Update number ``step`` = 0, 1, ...

        Args:
            step: updates done.
            batch: this process's images and labels with a leading axis.
            stop: whether this process is asked to stop.

        Returns:
            Loss, learning rate of the backbone, norm of the gradient before ``clip``; and the signal that
            any process got, or 0. Alike in all processes.

        Raises:
            TrainingDivergedError: loss or gradient are not finite; no weight was touched.
        """
        config, scaler = self._config, self._scaler
        factor = learning_rate_factor(step, config)
        set_learning_rates(self._optimizer, factor)
        self._model.train()
        with _frozen(self._model.network, step < self._warmup):
            share = self._add_gradient(batch)
        loss, signal = totals(share, stop)
        scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, config.clip or math.inf)
        numbers = {"loss": loss, "lr": config.lr * factor, "gradient_norm": norm.item()}
        # Looked at before any weight is touched, so that no bad step ever reaches a checkpoint. A scaled
        # gradient may overflow: the scaler leaves the step out and lowers its scale.
        bearable = scaler.is_enabled() and scaler.get_scale() > 1
        check_finite({"loss": loss} if bearable else numbers, step + 1, self._path)
        scaler.step(self._optimizer)
        scaler.update()
        self._optimizer.zero_grad()
        return numbers, signal

    def _add_gradient(self, batch: Sample) -> Float[Tensor, ""]:
        """Adds the gradient, part by part; returns this process's share of the loss."""
        config, device = self._config, self._parameters[0].device
        dtype = PRECISIONS[config.precision]
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        whole = batch.labels.to(device, non_blocking=True)
        total = torch.zeros((), device=device)
        images = batch.image.chunk(config.accumulate)
        for number, labels in enumerate(whole.chunk(config.accumulate)):
            image = images[number].to(device, non_blocking=True).contiguous(memory_format=layout)
            with no_sync(self._objective, number + 1 < config.accumulate):
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    loss = self._objective(image, labels, whole)
                # Replicas take the mean of their gradients, where the sum is wanted.
                self._scaler.scale(loss * world_size()).backward()
            total = total + loss.detach()
        return total


def trains_crf(optimizer: SGD) -> bool:
    """Whether parameters of the CRF are among those that are trained."""
    return any(group["name"] == "crf" for group in optimizer.param_groups)


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
