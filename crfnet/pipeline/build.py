"""What several commands build from a config: the device, the model with its weights, the CRF."""

import dataclasses
from pathlib import Path

import torch

from crfnet.checkpoints.checkpoint import load_model
from crfnet.crf.layer import CRFConfig
from crfnet.distributed import local_device
from crfnet.domain_transform import DomainTransformConfig
from crfnet.domain_transform.config_file import load_refinement
from crfnet.pipeline.run_config import Run
from crfnet.segmenter import RefinementConfig, Segmenter, build_segmenter

__all__ = ["build_run_segmenter", "load_refinement", "resolve_device", "warm_start", "with_memory_limit"]


def resolve_device(name: str) -> torch.device:
    """Return the device of a config: ``auto`` is a GPU where there is one, each process its own."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return local_device(name)


def build_run_segmenter(
    run: Run,
    num_classes: int,
    checkpoint: Path | None,
    crf: RefinementConfig | None,
    *,
    with_crf: bool = False,
) -> Segmenter:
    """Build the run's model on the run's device.

    Args:
        run: its network, seed, device and limit of the CRF's memory.
        num_classes: at least 2.
        checkpoint: where the weights are from; None for those of the config.
        crf: the CRF or the domain transform behind the network; None for the network alone.
        with_crf: load its parameters from ``checkpoint`` as well, instead of those in ``crf``.

    Raises:
        InputError: the model cannot be built, or the checkpoint is not one of it.
    """
    torch.manual_seed(run.seed)
    config = run.model if checkpoint is None else run.model.without_weights()
    model = build_segmenter(config, num_classes, with_memory_limit(crf, run), channels=run.data.channels)
    if checkpoint is not None:
        load_model(model, checkpoint, network_only=not with_crf)
    return model.to(resolve_device(run.device))


def warm_start(structure: RefinementConfig, searched: RefinementConfig) -> RefinementConfig:
    """Return what joint training begins with: the config's structure, the searched parameters."""
    if isinstance(structure, DomainTransformConfig):
        numbers: tuple[str, ...] = ("sigma_s", "sigma_r") if structure.edges == "image" else ("sigma_s",)
    else:
        numbers = ("w1", "theta_alpha", "theta_beta", "w2", "theta_gamma", "normalization")
    return dataclasses.replace(structure, **{name: getattr(searched, name) for name in numbers})


def with_memory_limit(crf: RefinementConfig | None, run: Run) -> RefinementConfig | None:
    """Return a CRF with the run's limit of memory, unless it has its own; a checkpoint's has none."""
    if not isinstance(crf, CRFConfig) or crf.memory is not None:
        return crf
    return dataclasses.replace(crf, memory=run.crf.memory)
