"""One arm of an evaluation: what turns a sample into a label map, run over images, scored, written.

Of several processes (`crfnet.distributed`) each takes its share of the images and writes what it makes; the
counts are brought together in the order of the images, so that the files are those of one process.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from crfnet.crf.layer import DenseCRF
from crfnet.data import Sample, SegmentationDataset
from crfnet.distributed import is_rank_zero, on_all_ranks, on_rank_zero, shard
from crfnet.errors import InputError
from crfnet.evaluation.csv_tables import write_tables
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.evaluation.inference import PredictConfig, TiledInference, predict_labels
from crfnet.labels import read_label_png, write_label_png
from crfnet.pipeline.run_folder import stage
from crfnet.report import ENERGY_FILE, ArmResult, EnergyTrace, StripSample, write_energy_traces
from crfnet.score_cache import ScoreFolder, add_scores, missing_scores, prepare_score_folder
from crfnet.segmenter import Segmenter
from crfnet.shapes import LabelMap, Logits

__all__ = [
    "TRACED",
    "Predictor",
    "Unary",
    "cache_scores",
    "from_model",
    "from_pngs",
    "from_scores",
    "pick",
    "score_arm",
    "strip_samples",
    "trace_energy",
    "unary_of_model",
    "unary_of_scores",
]

Predictor = Callable[[Sample], LabelMap]
Unary = Callable[[Sample], Logits]  #: what a CRF is given: logits (1, l, h, w) at image size

TRACED = 4  #: images on which the CRF's inference is followed
_TRACED_SIDE = 1024  # pixels of them along each side: a trace keeps the marginals of every step


def from_model(model: Segmenter, config: PredictConfig) -> Predictor:
    """The labels that `model`, with or without a CRF, gives an image by the protocol of `config`."""
    protocol = TiledInference(model, config).eval()
    device = next(model.parameters()).device
    return lambda sample: predict_labels(protocol, sample.image.to(device))


def from_scores(scores: ScoreFolder, crf: DenseCRF | None, device: torch.device) -> Predictor:
    """The labels of cached scores, upsampled to the image's size, through `crf` if there is one."""
    if crf is not None:
        crf.eval()

    def predict(sample: Sample) -> LabelMap:
        height, width = sample.labels.shape
        logits = scores.logits(sample.id, (height, width)).to(device).contiguous()
        if crf is not None:
            with torch.inference_mode():
                logits = crf(logits, sample.image[None].to(device))
        return logits[0].argmax(0)

    return predict


def unary_of_model(model: Segmenter, config: PredictConfig) -> Unary:
    """The logits that the CRF of `model` is given, by the protocol of `config`."""
    protocol = TiledInference(model, config).eval()
    device = next(model.parameters()).device
    return lambda sample: protocol.unary(sample.image[None].to(device))


def unary_of_scores(scores: ScoreFolder, device: torch.device) -> Unary:
    """Cached scores at the size of the image."""

    def unary(sample: Sample) -> Logits:
        height, width = sample.labels.shape
        return scores.logits(sample.id, (height, width)).to(device)

    return unary


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
    config: PredictConfig,
    source: str,
    overwrite: bool = False,
) -> ScoreFolder:
    """The network's own scores of the images `ids`, in `folder`; those that are there already are kept.

    At the network's stride where `config` is one pass over the whole image; at image size where passes or
    tiles are put together.
    """
    protocol = TiledInference(model, config)
    scores = model.scores if config.plain else protocol.unary
    classes, device = len(dataset.classes), next(model.parameters()).device

    def begin() -> list[str]:
        prepare_score_folder(folder, classes, model.align_corners, source, overwrite=overwrite)
        return missing_scores(folder, ids)

    def pairs(left: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        for sample in _shown(pick(dataset, left), "scores", len(left)):
            with torch.inference_mode():
                yield sample.id, scores(sample.image[None].to(device))[0].float()

    left = shard(on_rank_zero(begin))
    on_all_ranks(lambda: add_scores(folder, pairs(left), classes))
    return ScoreFolder(folder)


def score_arm(
    name: str,
    predict: Predictor,
    dataset: SegmentationDataset,
    ids: Sequence[str],
    folder: Path,
    *,
    config: EvaluationConfig,
    crf: DenseCRF | None = None,
) -> ArmResult:
    """Predicts and scores the images `ids`.

    Writes each label map as ``folder/<id>.png``, all counts as ``folder/evaluation.npz``, and the scores of
    each image, class and trimap width as .csv files beside it. A folder that is finished is read, not
    computed again. Pixels are counted where the predictions are, on a GPU if the network is on one. The
    memory is that of the process that writes, the seconds per image are those of all processes together.

    Args:
        name: of the arm.
        predict: labels of a sample; its time is the arm's cost per image, reading and writing are not.
        dataset: images and truth.
        ids: the images that are scored.
        folder: made when missing.
        config: how it is scored.
        crf: the one behind the network, for the report's table of parameters.

    Returns:
        The arm, its training and searching costs not measured (NaN).

    Raises:
        InputError: a prediction of another size than the truth, or with labels outside the classes.
    """

    def some(ids: Sequence[str]) -> tuple[Evaluation, float]:
        seconds = 0.0
        evaluation = Evaluation(len(dataset.classes), config.max_width, config.element, config.boundary)
        for sample in _shown(pick(dataset, ids), name, len(ids)):
            start = time.perf_counter()
            prediction = predict(sample)
            if prediction.is_cuda:
                torch.cuda.synchronize()  # or its time would be counted as that of what waits for it
            seconds += time.perf_counter() - start
            evaluation.add(sample.id, prediction, sample.labels)
            write_label_png(folder / f"{sample.id}.png", prediction, dataset.palette)
        return evaluation, seconds

    def work() -> dict[str, float]:
        parts, seconds = zip(*on_all_ranks(lambda: some(shard(ids))), strict=True)

        def write() -> None:
            evaluation = Evaluation.of_parts(parts, ids)
            evaluation.save(folder / "evaluation.npz")
            write_tables(folder, evaluation, dataset.classes, config.absent)

        on_rank_zero(write)
        return {"inference_seconds": math.fsum(seconds)}

    cost = stage(folder, work)
    return ArmResult(
        name=name,
        evaluation=Evaluation.load(folder / "evaluation.npz"),
        seconds_per_image=cost["inference_seconds"] / len(ids),
        train_seconds=math.nan,
        search_seconds=math.nan,
        peak_memory_mb=cost["peak_mb"],
        crf=None if crf is None else _parameters(crf),
        folder=folder,
    )


def _shown(samples: Iterator[Sample], name: str, number: int) -> Iterator[Sample]:
    """The samples, with a bar where they are those of the first process."""
    yield from tqdm(samples, name, number, unit="image", mininterval=0.5, disable=not is_rank_zero())


def trace_energy(
    folder: Path, crf: DenseCRF, unary: Unary, dataset: SegmentationDataset, ids: Sequence[str]
) -> None:
    """Follows the inference of `crf` on the first `TRACED` images and writes ``folder/energy/energy.csv``.

    Of a large image on its middle, 1024 x 1024 pixels. A stage of its own, since it filters everything twice:
    what an arm costs is measured without it. A folder that is finished is left as it is.
    """
    crf.eval()

    def descent(sample: Sample) -> EnergyTrace:
        with torch.inference_mode():
            logits = _middle(unary(sample))
            trace = crf.trace(logits, _middle(sample.image[None]).to(logits.device))
        pixels = logits.shape[2] * logits.shape[3]
        return EnergyTrace(
            sample.id, (trace.free_energy[:, 0].double() / pixels).tolist(), trace.change[:, 0].tolist()
        )

    def work() -> dict[str, float]:
        samples = pick(dataset, ids[:TRACED])
        on_rank_zero(
            lambda: write_energy_traces(folder / ENERGY_FILE, [descent(sample) for sample in samples])
        )
        return {}

    stage((folder / ENERGY_FILE).parent, work)


def _middle(maps: Tensor) -> Tensor:
    """The middle of what is larger than is traced; of the rest nothing is kept."""
    for axis in (2, 3):
        length = min(maps.shape[axis], _TRACED_SIDE)
        maps = maps.narrow(axis, (maps.shape[axis] - length) // 2, length)
    return maps.contiguous()


def _parameters(crf: DenseCRF) -> dict[str, float | str]:
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
