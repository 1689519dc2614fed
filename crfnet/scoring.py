"""One arm of an evaluation: what turns a sample into a label map, run over images, scored, written."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from crfnet.crf.layer import DenseCRF
from crfnet.data import Sample, SegmentationDataset
from crfnet.errors import InputError
from crfnet.evaluation.evaluator import Evaluation
from crfnet.evaluation.predict import predict_labels, read_label_png, write_label_png
from crfnet.report import ArmResult, StripSample
from crfnet.run_folder import stage
from crfnet.search import ScoreFolder, missing_scores, write_scores
from crfnet.segmenter import Segmenter
from crfnet.shapes import LabelMap

__all__ = [
    "Predictor",
    "cache_scores",
    "from_model",
    "from_pngs",
    "from_scores",
    "pick",
    "score_arm",
    "strip_samples",
]

Predictor = Callable[[Sample], LabelMap]


def from_model(model: Segmenter) -> Predictor:
    """The labels that `model`, with or without a CRF, gives an image."""
    model.eval()
    device = next(model.parameters()).device
    return lambda sample: predict_labels(model, sample.image.to(device)).cpu()


def from_scores(scores: ScoreFolder, crf: DenseCRF | None, device: torch.device) -> Predictor:
    """The labels of cached scores, upsampled to the image's size, through `crf` if there is one."""
    if crf is not None:
        crf.eval()

    def predict(sample: Sample) -> LabelMap:
        height, width = sample.labels.shape
        logits = scores.logits(sample.id, (height, width)).to(device)
        if crf is not None:
            with torch.inference_mode():
                logits = crf(logits, sample.image[None].to(device))
        return logits[0].argmax(0).cpu()

    return predict


def from_pngs(folder: Path) -> Predictor:
    """The labels in ``folder/<id>.png``, as this library or anyone else wrote them."""
    return lambda sample: read_label_png(folder / f"{sample.id}.png")


def pick(dataset: SegmentationDataset, ids: Iterable[str]) -> Iterator[Sample]:
    """The samples of the images `ids`, in that order.

    Raises:
        InputError: the data set has no image of that id.
    """
    index = {name: i for i, name in enumerate(dataset.ids)}
    for name in ids:
        if name not in index:
            raise InputError(f"{dataset.name}: no image {name!r}; it has {len(index)} images")
        yield dataset[index[name]]


def cache_scores(
    model: Segmenter,
    dataset: SegmentationDataset,
    ids: Sequence[str],
    folder: Path,
    *,
    source: str,
    overwrite: bool = False,
) -> ScoreFolder:
    """The network's own scores of the images `ids`, in `folder`; those that are there already are kept."""
    left = list(ids) if overwrite else missing_scores(folder, ids)
    device = next(model.parameters()).device

    def pairs() -> Iterator[tuple[str, Tensor]]:
        for sample in tqdm(pick(dataset, left), "scores", len(left), unit="image", mininterval=0.5):
            with torch.inference_mode():
                yield sample.id, model.scores(sample.image[None].to(device))[0].float()

    classes = len(dataset.classes)
    return write_scores(
        folder, pairs(), classes, align_corners=model.align_corners, source=source, overwrite=overwrite
    )


def score_arm(
    name: str,
    predict: Predictor,
    dataset: SegmentationDataset,
    ids: Sequence[str],
    folder: Path,
    *,
    max_width: int,
    crf: DenseCRF | None = None,
) -> ArmResult:
    """Predicts and scores the images `ids`.

    Writes each label map as ``folder/<id>.png``, all confusions as ``folder/evaluation.npz``. A folder that
    is finished is read, not computed again.

    Args:
        name: of the arm.
        predict: labels of a sample; its time is the arm's cost per image, reading and writing are not.
        dataset: images and truth.
        ids: the images that are scored.
        folder: made when missing.
        max_width: of the trimaps, pixels.
        crf: the one behind the network, for the report's table of parameters.

    Returns:
        The arm, its training and searching costs not measured (NaN).

    Raises:
        InputError: a prediction of another size than the truth, or with labels outside the classes.
    """

    def work() -> dict[str, float]:
        seconds = 0.0
        evaluation = Evaluation(len(dataset.classes), max_width)
        for sample in tqdm(pick(dataset, ids), name, len(ids), unit="image", mininterval=0.5):
            start = time.perf_counter()
            prediction = predict(sample)
            seconds += time.perf_counter() - start
            evaluation.add(sample.id, prediction, sample.labels)
            write_label_png(folder / f"{sample.id}.png", prediction, dataset.palette)
        evaluation.save(folder / "evaluation.npz")
        return {"inference_seconds": seconds}

    cost = stage(folder, work)
    return ArmResult(
        name=name,
        evaluation=Evaluation.load(folder / "evaluation.npz"),
        seconds_per_image=cost["inference_seconds"] / len(ids),
        train_seconds=math.nan,
        search_seconds=math.nan,
        peak_memory_mb=cost["peak_mb"],
        crf=None if crf is None else _shown(crf),
    )


def _shown(crf: DenseCRF) -> dict[str, float | str]:
    """The CRF's parameters as a table can show them; of matrices the mean of the diagonal."""
    now = crf.config_now()
    names = ("w1", "theta_alpha", "theta_beta", "w2", "theta_gamma")
    shown: dict[str, float | str] = {name: float(getattr(now, name)) for name in names}
    return shown | {"normalization": now.normalization, "iterations": float(now.iterations)}


def strip_samples(
    dataset: SegmentationDataset, ids: Sequence[str], folders: dict[str, Path]
) -> list[StripSample]:
    """Images, truth and every arm's stored predictions, for the report's strip of pictures."""
    return [
        (
            sample.id,
            sample.image,
            sample.labels,
            {arm: read_label_png(folder / f"{sample.id}.png") for arm, folder in folders.items()},
        )
        for sample in pick(dataset, ids)
    ]
