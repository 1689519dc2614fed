"""The CRF of a search with folds: every image with the parameters that were chosen without it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.data import Sample, SegmentationDataset
from crfnet.errors import InputError
from crfnet.pipeline.build import build_run_segmenter, resolve_device, with_memory_limit
from crfnet.pipeline.predictors import Predictor, unary_from_model, unary_from_scores
from crfnet.pipeline.run_config import Run
from crfnet.report import ArmResult
from crfnet.score_cache import ScoreFolder
from crfnet.search.grid import AXES
from crfnet.shapes import LabelMap

__all__ = ["images_of_folds", "predictor_of_folds", "with_folds"]


def predictor_of_folds(
    run: Run, num_classes: int, scores: Path | None, checkpoint: Path | None, crfs: Mapping[str, CRFConfig]
) -> Predictor:
    """Predict an image with its own CRF.

    Args:
        run: the network, its protocol and device.
        num_classes: at least 2.
        scores: cached scores; None for those of ``checkpoint``.
        checkpoint: weights of the network.
        crfs: by image; see `crfnet.search.result_files.read_folds`.
    """
    device = resolve_device(run.device)
    if scores is not None:
        unary = unary_from_scores(ScoreFolder(scores), device)
    else:
        unary = unary_from_model(build_run_segmenter(run, num_classes, checkpoint, None), run.predict)
    layers: dict[CRFConfig, DenseCRF] = {}
    for config in crfs.values():
        if config not in layers:
            limited = with_memory_limit(config, run)
            assert isinstance(limited, CRFConfig)
            layers[config] = DenseCRF(num_classes, limited).to(device).eval()

    def predict(sample: Sample) -> LabelMap:
        with torch.inference_mode():
            logits = unary(sample).contiguous()
            log_q = layers[crfs[sample.id]](logits, sample.image[None].to(logits.device))
        labels: LabelMap = log_q[0].argmax(0)
        return labels

    return predict


def images_of_folds(dataset: SegmentationDataset, path: Path, crfs: Mapping[str, CRFConfig]) -> list[str]:
    """The images of a search with folds, in the order of the data set.

    Raises:
        InputError: the data set lacks one of them.
    """
    strangers = crfs.keys() - set(dataset.ids)
    if strangers:
        raise InputError(f"{path}: holds {min(strangers)!r:.80}, must be ids of the split of {dataset.name}")
    return [name for name in dataset.ids if name in crfs]


def with_folds(arm: ArmResult, path: Path, crfs: Mapping[str, CRFConfig]) -> ArmResult:
    """The arm with what its report says of the folds: where they come from, what they chose."""
    folds = list({id(crf): crf for crf in crfs.values()}.values())  # two may have chosen the same
    shown = {name: ", ".join(f"{getattr(crf, name):g}" for crf in folds) for name in AXES}
    parameters = {**shown, "normalization": folds[0].normalization}
    return replace(arm, crf=parameters, folds=len(folds), search_folder=path.parent)
