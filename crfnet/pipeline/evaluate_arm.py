"""The evaluation of one arm: label maps, counts and CSV tables of its images.

Of several processes (`crfnet.distributed`) each takes its share of the images and writes their label maps.
The counts are gathered in the order of the images, so that the files are those of one process.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from torch import nn

from crfnet.crf.layer import DenseCRF
from crfnet.data import SegmentationDataset
from crfnet.distributed import on_all_ranks, on_rank_zero, shard
from crfnet.domain_transform import DomainTransform
from crfnet.evaluation.csv_tables import write_tables
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.labels import write_label_png
from crfnet.pipeline.predictors import Predictor
from crfnet.pipeline.run_folder import run_stage
from crfnet.pipeline.samples import select_samples, with_progress
from crfnet.report import ArmResult

__all__ = ["evaluate_arm"]


def evaluate_arm(
    name: str,
    predict: Predictor,
    dataset: SegmentationDataset,
    ids: Sequence[str],
    folder: Path,
    *,
    config: EvaluationConfig,
    crf: nn.Module | None = None,
    digests: Mapping[str, str] = MappingProxyType({}),
) -> ArmResult:
    """Predict and score the images `ids`.

    Writes each label map as ``folder/<id>.png``, all counts as ``folder/evaluation.npz``, and the scores of
    each image, class and trimap width as .csv files beside it. A folder that is finished is read, not
    computed again. Pixels are counted where the predictions are, on a GPU if the network is on one.

    Args:
        name: of the arm.
        predict: labels of a sample.
        dataset: images and truth.
        ids: the images that are scored.
        folder: made when missing.
        config: how it is scored.
        crf: the one behind the network, for the report's table of parameters.
        digests: of what predicts; a folder that was made with others is refused.

    Returns:
        The arm, its costs not measured (NaN); see `crfnet.pipeline.measure_costs`.

    Raises:
        InputError: a prediction of another size than the truth, or with labels outside the classes.
    """

    def evaluate_shard(ids: Sequence[str]) -> Evaluation:
        evaluation = Evaluation(len(dataset.classes), config.max_width, config.element, config.boundary)
        for sample in with_progress(select_samples(dataset, ids), name, len(ids)):
            prediction = predict(sample)
            evaluation.add(sample.id, prediction, sample.labels)
            write_label_png(folder / f"{sample.id}.png", prediction, dataset.palette)
        return evaluation

    def work() -> dict[str, float]:
        parts = on_all_ranks(lambda: evaluate_shard(shard(ids)))

        def write() -> None:
            evaluation = Evaluation.of_parts(parts, ids)
            evaluation.save(folder / "evaluation.npz")
            write_tables(folder, evaluation, dataset.classes, config.absent)

        on_rank_zero(write)
        return {}

    run_stage(folder, work, digests)
    return ArmResult(
        name=name,
        evaluation=Evaluation.load(folder / "evaluation.npz"),
        seconds_per_image=math.nan,
        train_seconds=math.nan,
        search_seconds=math.nan,
        peak_memory_mb=math.nan,
        crf=None if crf is None else _crf_parameters(crf),
        folder=folder,
    )


def _crf_parameters(crf: nn.Module) -> dict[str, float | str] | None:
    """Return the parameters as a table can show them; a matrix as the mean of its diagonal."""
    if isinstance(crf, DomainTransform):
        transform = crf.config_now()
        shown: dict[str, float | str] = {"sigma_s": transform.sigma_s, "sigma_r": transform.sigma_r}
        return shown | {"edges": transform.edges, "iterations": float(transform.iterations)}
    if not isinstance(crf, DenseCRF):
        return None
    now = crf.config_now()
    names = ("w1", "theta_alpha", "theta_beta", "w2", "theta_gamma")
    shown = {name: float(getattr(now, name)) for name in names}
    return shown | {"normalization": now.normalization, "iterations": float(now.iterations)}
