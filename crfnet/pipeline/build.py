"""What a run's configuration describes, built."""

from pathlib import Path

import torch

from crfnet.checkpoints.checkpoint import load_model
from crfnet.crf.layer import CRFConfig
from crfnet.pipeline.compare import resolve_device, within_memory
from crfnet.pipeline.run_config import Run
from crfnet.segmenter import Segmenter, build_segmenter

__all__ = ["segmenter_of"]


def segmenter_of(
    run: Run,
    num_classes: int,
    checkpoint: Path | None,
    crf: CRFConfig | None,
    *,
    with_crf: bool = False,
) -> Segmenter:
    """The run's model; weights from `checkpoint`, those of its CRF only on request."""
    torch.manual_seed(run.seed)
    model = build_segmenter(run.model, num_classes, within_memory(crf, run))
    if checkpoint is not None:
        load_model(model, checkpoint, network_only=not with_crf)
    return model.to(resolve_device(run.device))
