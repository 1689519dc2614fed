"""What turns a sample into a label map, or into the logits that a CRF is given.

Each comes from a network, from cached scores or from stored label maps.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from crfnet.data import Sample
from crfnet.evaluation.inference import PredictConfig, TiledInference, predict_labels
from crfnet.labels import read_label_png
from crfnet.pipeline.build import build_run_segmenter
from crfnet.pipeline.run_config import Run
from crfnet.score_cache import ScoreFolder
from crfnet.segmenter import RefinementConfig, Segmenter, build_refinement
from crfnet.shapes import ImageBytes, LabelMap, Logits

__all__ = [
    "Predictor",
    "Unary",
    "labels_from_scores",
    "predictor_from_checkpoint",
    "predictor_from_model",
    "predictor_from_pngs",
    "predictor_from_scores",
    "predictor_from_scores_and_config",
    "unary_from_model",
    "unary_from_scores",
]

Predictor = Callable[[Sample], LabelMap]
Unary = Callable[[Sample], Logits]  #: what a CRF is given: logits (1, l, h, w) at image size


def predictor_from_model(model: Segmenter, config: PredictConfig) -> Predictor:
    """Predict with a network, with or without a CRF behind it, at the scales and tiles of `config`."""
    inference = TiledInference(model, config).eval()
    device = next(model.parameters()).device
    return lambda sample: predict_labels(inference, sample.image.to(device))


def predictor_from_checkpoint(
    run: Run, num_classes: int, checkpoint: Path, crf: RefinementConfig | None, with_crf: bool = False
) -> Predictor:
    """Predict with a network from its file; see `build_run_segmenter`."""
    model = build_run_segmenter(run, num_classes, checkpoint, crf, with_crf=with_crf)
    return predictor_from_model(model, run.predict)


def labels_from_scores(
    scores: ScoreFolder, crf: nn.Module | None, device: torch.device
) -> Callable[[str, ImageBytes], LabelMap]:
    """Label an image, given by name, from its scores, upsampled to it, through `crf` if there is one."""
    if crf is not None:
        crf.eval()

    def label(name: str, image: ImageBytes) -> LabelMap:
        logits = scores.logits(name, (image.shape[1], image.shape[2])).to(device).contiguous()
        if crf is not None:
            with torch.inference_mode():
                logits = crf(logits, image[None].to(device))
        return logits[0].argmax(0)

    return label


def predictor_from_scores(scores: ScoreFolder, crf: nn.Module | None, device: torch.device) -> Predictor:
    """Predict from cached scores; see `labels_from_scores`."""
    label = labels_from_scores(scores, crf, device)
    return lambda sample: label(sample.id, sample.image)


def predictor_from_scores_and_config(
    scores: ScoreFolder, crf: RefinementConfig | None, num_classes: int, device: torch.device
) -> Predictor:
    """Predict from cached scores, through a CRF of that configuration.

    For other processes: they are given no layer, which on a GPU would start CUDA before they are forked.
    """
    layer = None if crf is None else build_refinement(crf, num_classes).to(device)
    return predictor_from_scores(scores, layer, device)


def unary_from_model(model: Segmenter, config: PredictConfig) -> Unary:
    """Compute the logits that the CRF of `model` is given, at the scales and tiles of `config`."""
    inference = TiledInference(model, config).eval()
    device = next(model.parameters()).device
    return lambda sample: inference.unary(sample.image[None].to(device))


def unary_from_scores(scores: ScoreFolder, device: torch.device) -> Unary:
    """Upsample cached scores to the size of the image."""

    def unary(sample: Sample) -> Logits:
        height, width = sample.labels.shape
        return scores.logits(sample.id, (height, width)).to(device)

    return unary


def predictor_from_pngs(folder: Path) -> Predictor:
    """Read the labels in ``folder/<id>.png``, whoever wrote them."""
    return lambda sample: read_label_png(folder / f"{sample.id}.png")
