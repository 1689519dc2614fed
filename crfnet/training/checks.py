"""Everything that a training run will refuse, before it begins: of the stage, the model and the data set."""

from typing import Any

from torch import nn

from crfnet.data import SegmentationDataset
from crfnet.distributed import world_size
from crfnet.errors import InputError, require
from crfnet.models.aspp_v3 import ASPP
from crfnet.segmenter import Segmenter
from crfnet.training.config import TrainConfig

__all__ = ["check_batch_size", "check_training"]


def check_training(
    model: Segmenter,
    dataset: SegmentationDataset,
    config: TrainConfig,
    validation: SegmentationDataset | None,
    place: str = "",
) -> None:
    """Refuse a stage that could not be trained; nothing is changed.

    Args:
        model: built for the stage, with its CRF.
        dataset: what it is trained on.
        config: of the stage.
        validation: what it is validated on, if it is.
        place: the section of the configuration for messages, as ``joint.``.

    Raises:
        InputError: the loss has no use for the model's CRF, or ``compile`` for its learned edges; validation
            or class weights that do not fit; a batch that the processes cannot share, or too small for batch
            normalization; statistics over several processes on CPUs.
    """
    if dataset.num_classes < 2:
        raise InputError(
            f"{dataset.name} has {dataset.num_classes} class, must be 2 or more to be told apart"
        )
    if config.loss == "stride" and model.crf is not None:
        raise InputError(
            f"{place}loss is 'stride', must be image for a model with a CRF: stride leaves it untrained"
        )
    by_hooks = model.edge_net is not None  # which a compiled network does not run
    require(f"{place}compile", config.compile, not (config.compile and by_hooks), "false with learned edges")
    without_images = validation is None and config.validate_every > 0
    require(
        f"{place}validate_every", config.validate_every, not without_images, "0 without validation images"
    )
    _check_class_weights(config, dataset, place)
    check_batch_size(config, place)
    _check_pooling(model, config, place)
    synchronized = config.sync_batch_norm or any(isinstance(x, nn.SyncBatchNorm) for x in model.modules())
    on_cpu = next(model.parameters()).device.type == "cpu"
    if world_size() > 1 and synchronized and on_cpu:
        raise InputError(
            "sync_batch_norm (or model.batch_norm sync) is on in several processes on CPUs, must be off: "
            "torch has SyncBatchNorm for GPUs alone"
        )


def check_batch_size(config: TrainConfig, place: str = "") -> None:
    """Refuse a batch size that the processes and ``accumulate`` do not divide.

    Raises:
        InputError: ``batch_size`` is no multiple of the number of processes times ``accumulate``.
    """
    parts = world_size() * config.accumulate
    allowed = f"a multiple of {parts}: {world_size()} processes, accumulate {config.accumulate}"
    require(f"{place}batch_size", config.batch_size, config.batch_size % parts == 0, allowed)


def _check_class_weights(config: TrainConfig, dataset: SegmentationDataset, place: str) -> None:
    given: Any = config.class_weights
    fits = given in ("balanced", ()) or len(given) == dataset.num_classes
    shown = given if isinstance(given, str) else list(given)
    allowed = f"balanced or {dataset.num_classes} numbers, one for each class of {dataset.name}"
    require(f"{place}class_weights", shown, fits, allowed)


def _check_pooling(model: Segmenter, config: TrainConfig, place: str) -> None:
    """The branch of the image's mean has one cell per image: batch normalization needs two images."""
    images = config.batch_size // (world_size() * config.accumulate)
    if images > 1 or (config.sync_batch_norm and world_size() > 1):
        return
    was = model.training
    model.train()
    pooled = [layer.image_pooling for layer in model.modules() if isinstance(layer, ASPP)]
    norms = [pooling.get_submodule("bn") for pooling in pooled if pooling is not None]
    learns = any(isinstance(norm, nn.BatchNorm2d) and norm.training for norm in norms)
    model.train(was)
    if learns:
        raise InputError(
            f"{place}batch_size is {config.batch_size}, which leaves 1 image for each process and part, must "
            "leave at least 2 for the batch normalization of the image-level branch (or model.batch_norm: "
            "frozen, or image_pooling: false)"
        )
