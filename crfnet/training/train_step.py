"""One training step: gradient accumulation, several processes, lower precision; one loss of the batch."""

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
from crfnet.memory import keep_freed_memory
from crfnet.segmenter import Segmenter
from crfnet.shapes import Image, Labels
from crfnet.training.autocast import autocast
from crfnet.training.config import TrainConfig
from crfnet.training.criterion import CROSS_ENTROPY, Criterion
from crfnet.training.failures import check_finite
from crfnet.training.loss import BatchLabels, training_loss
from crfnet.training.optim import learning_rate_factor, set_learning_rates
from crfnet.training.stop_signals import StopRequest, sum_loss_and_signal

__all__ = ["ModelWithLoss", "TrainStep", "has_trainable_crf", "prepare_model"]


class ModelWithLoss(nn.Module):
    """A segmenter and its loss in one module, which `DistributedDataParallel` wraps and calls."""

    def __init__(self, model: Segmenter, config: TrainConfig, criterion: Criterion) -> None:
        super().__init__()
        self.model, self.config, self.criterion = model, config, criterion
        # DistributedDataParallel with find_unused_parameters warns where it finds none: here is one.
        self._unused = nn.Parameter(next(model.parameters()).new_zeros(()))
        # In training alone: validation and pictures have images of other sizes, each compiled anew.
        self._all_logits = torch.compile(model.all_logits) if config.compile else model.all_logits

    def forward(self, image: Image, labels: Labels, batch: BatchLabels) -> Float[Tensor, ""]:
        """See `training_loss`."""
        return training_loss(
            self.model,
            image,
            labels,
            self.config,
            batch=batch,
            criterion=self.criterion,
            all_logits=self._all_logits,
        )


def prepare_model(model: Segmenter, config: TrainConfig) -> None:
    """Set memory layout and batch normalization of the network, in place; weights keep names and values.

    On a CPU the process keeps from here on what a step frees, see `keep_freed_memory`.
    """
    if next(model.parameters()).device.type == "cpu":
        keep_freed_memory()  # the next step needs what this one frees
    if config.channels_last:
        model.network.to(memory_format=torch.channels_last)
    if world_size() > 1 and config.sync_batch_norm:
        from timm.layers.norm_act import convert_sync_batchnorm  # knows timm's own layers, too

        model.network = convert_sync_batchnorm(model.network)


class TrainStep:
    """One update of a model per call: ``train_step(step, batch, stop)``.

    Args:
        model: after `prepare_model`; all ranks get the weights of rank 0.
        optimizer: over its trainable parameters.
        scaler: of float16; disabled otherwise.
        config: see `TrainConfig`.
        path: of the last checkpoint, for messages.
        criterion: what is minimized.
    """

    def __init__(
        self,
        model: Segmenter,
        optimizer: SGD,
        scaler: GradScaler,
        config: TrainConfig,
        path: Path,
        criterion: Criterion = CROSS_ENTROPY,
    ) -> None:
        self._model, self._optimizer, self._scaler = model, optimizer, scaler
        self._config, self._path = config, path
        self._model_with_loss = distributed_data_parallel(ModelWithLoss(model, config, criterion))
        self._parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
        self._warmup = config.crf_warmup if has_trainable_crf(optimizer) else 0

    def __call__(self, step: int, batch: Sample, stop: StopRequest) -> tuple[dict[str, float], int]:
        """Do update number ``step`` = 0, 1, ...

        Args:
            step: updates done.
            batch: this process's images and labels with a leading axis.
            stop: whether this process is asked to stop.

        Returns:
            Loss, learning rate of the backbone, norm of the gradient before ``clip``; and the signal that
            any process got, or 0. Alike on all ranks.

        Raises:
            TrainingDivergedError: loss or gradient are not finite; no weight was touched.
        """
        config, scaler = self._config, self._scaler
        factor = learning_rate_factor(step, config)
        set_learning_rates(self._optimizer, factor)
        self._model.train()
        with _frozen(self._model.network, step < self._warmup):
            local_loss = self._accumulate_gradient(batch)
        loss, signal = sum_loss_and_signal(local_loss, stop)
        scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, config.clip or math.inf)
        metrics = {"loss": loss, "lr": config.lr * factor, "gradient_norm": norm.item()}
        # Before any weight is touched, so that no such step reaches a checkpoint. A scaled gradient may
        # overflow: the scaler skips the step and lowers its scale.
        may_overflow = scaler.is_enabled() and scaler.get_scale() > 1
        check_finite({"loss": loss} if may_overflow else metrics, step + 1, self._path)
        scaler.step(self._optimizer)
        scaler.update()
        self._optimizer.zero_grad()
        return metrics, signal

    def _accumulate_gradient(self, batch: Sample) -> Float[Tensor, ""]:
        """Accumulate the gradient, part by part; return this rank's share of the loss."""
        config, device = self._config, self._parameters[0].device
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        all_labels = batch.labels.to(device, non_blocking=True)
        total = torch.zeros((), device=device)
        images = batch.image.chunk(config.accumulate)
        for number, labels in enumerate(all_labels.chunk(config.accumulate)):
            image = images[number].to(device, non_blocking=True).contiguous(memory_format=layout)
            with no_sync(self._model_with_loss, number + 1 < config.accumulate):
                with autocast(config, device):
                    loss = self._model_with_loss(image, labels, all_labels)
                # DistributedDataParallel averages the gradients; the sum is wanted.
                self._scaler.scale(loss * world_size()).backward()
            total = total + loss.detach()
        return total


def has_trainable_crf(optimizer: SGD) -> bool:
    """Whether the optimizer has parameters of the CRF."""
    return any(group["name"] == "crf" for group in optimizer.param_groups)


@contextmanager
def _frozen(network: nn.Module, active: bool) -> Iterator[None]:
    """Freeze the network while ``active``: evaluation mode, no gradients."""
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
