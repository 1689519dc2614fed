"""One step of a training run, done and forgotten before hours of other work: what fails in it fails now."""

from dataclasses import replace
from pathlib import Path

import torch
from torch.amp.grad_scaler import GradScaler

from crfnet.data import SegmentationDataset
from crfnet.distributed import world_size
from crfnet.errors import InputError, is_out_of_memory
from crfnet.files import one_line
from crfnet.segmenter import Segmenter
from crfnet.training.config import TrainConfig
from crfnet.training.criterion import Criterion, class_weights
from crfnet.training.failures import TrainingDivergedError
from crfnet.training.optim import build_optimizer
from crfnet.training.stop_signals import StopRequest
from crfnet.training.train_loader import TrainLoader
from crfnet.training.train_step import TrainStep, prepare_model

__all__ = ["rehearse_step"]

_IMAGES_ON_CPU = 2  #: less than an iteration of any run, and enough for batch normalization


def rehearse_step(
    model: Segmenter, dataset: SegmentationDataset, config: TrainConfig, *, seed: int, place: str = ""
) -> None:
    """Do the first step of a stage: images, forward, loss, backward, update. Memory, kernels, shapes.

    On a GPU with as many images as a process has there at once, so that too little memory is seen; on a CPU,
    where that would take as long as an iteration, with at most two. Without torch.compile, which takes
    minutes. Several processes (`crfnet.distributed`) all call it.

    Args:
        model: built for the stage, and of no use afterwards.
        dataset: what it is trained on.
        config: of the stage.
        seed: of the run.
        place: the section of the configuration for messages, as ``joint.``.

    Raises:
        InputError: the step needs more memory than there is.
    """
    device = next(model.parameters()).device
    processes = world_size()
    images = config.batch_size // (processes * config.accumulate)
    images = min(images, _IMAGES_ON_CPU) if device.type == "cpu" else images
    # Class weights are those of the whole data set, and no iteration is a warm-up of the CRF alone.
    criterion = Criterion(class_weights(config, dataset), config.focal, config.dice)
    config = replace(
        config,
        batch_size=images * processes,
        accumulate=1,
        iterations=1,
        crf_warmup=0,
        compile=False,
        workers=0,
    )
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            _step(model, dataset, config, seed, criterion)
    except TrainingDivergedError:  # of weights that nothing has trained yet
        pass
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f"{place}batch_size leaves {images} image{'s' * (images > 1)} for a step on {device}, which must "
            f"fit into its memory ({one_line(error)}); give a smaller batch_size or augment.crop, or more "
            "accumulate"
        ) from error
    finally:
        model.zero_grad()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _step(
    model: Segmenter, dataset: SegmentationDataset, config: TrainConfig, seed: int, criterion: Criterion
) -> None:
    prepare_model(model, config)
    optimizer = build_optimizer(model, config)
    scaler = GradScaler(next(model.parameters()).device.type, enabled=config.precision == "float16")
    train_step = TrainStep(model, optimizer, scaler, config, Path("checkpoint.pt"), criterion)
    train_step(0, next(iter(TrainLoader(dataset, config, seed, 0))), StopRequest())
