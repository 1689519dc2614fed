"""A network, cached scores or label maps, scored on a split of the run's data set."""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import nn

from crfnet.checkpoints.checkpoint import checkpoint_crf
from crfnet.crf.layer import DenseCRF
from crfnet.data import SegmentationDataset, load_dataset
from crfnet.data.dataset import Split
from crfnet.distributed import on_rank_zero
from crfnet.errors import InputError
from crfnet.files import regular, why
from crfnet.pipeline.build import (
    build_run_segmenter,
    load_refinement,
    resolve_device,
    with_memory_limit,
)
from crfnet.pipeline.cross_validated import images_of_folds, predictor_of_folds, with_folds
from crfnet.pipeline.digests import file_digest, files_digest, text_digest, weights_digest
from crfnet.pipeline.evaluate_arm import evaluate_arm
from crfnet.pipeline.measure_costs import BuildPredictor, measure_costs
from crfnet.pipeline.predictors import (
    Predictor,
    Unary,
    predictor_from_checkpoint,
    predictor_from_model,
    predictor_from_pngs,
    predictor_from_scores_and_config,
    unary_from_model,
    unary_from_scores,
)
from crfnet.pipeline.rehearse_report import rehearse_report
from crfnet.pipeline.run_config import Run
from crfnet.pipeline.run_folder import open_run
from crfnet.pipeline.samples import strip_samples
from crfnet.pipeline.trace_energy import trace_energy
from crfnet.report import MADE_UP, ArmResult, console_table, shown_images, write_report
from crfnet.score_cache import ScoreFolder
from crfnet.search.result_files import BEST_FILE, IMAGES_FILE, read_folds
from crfnet.segmenter import RefinementConfig, build_refinement

__all__ = ["EvaluationSource", "evaluate_split", "read_ids"]


@dataclass(frozen=True)
class EvaluationSource:
    """What is evaluated: one of label maps, scores and weights; a CRF behind the latter two.

    Attributes:
        predictions: folder of ``<id>.png`` label maps.
        scores: folder of cached scores, or one .npz.
        checkpoint: trained weights.
        crf: parameters of the CRF, the best.yaml of a search.
        folds: instead, the folds.csv of a search: each of its images with what the other folds chose.
    """

    predictions: Path | None = None
    scores: Path | None = None
    checkpoint: Path | None = None
    crf: Path | None = None
    folds: Path | None = None

    @property
    def path(self) -> Path:
        """The one that is given."""
        found = self.predictions or self.scores or self.checkpoint
        assert found is not None, "EvaluationSource: nothing to evaluate"
        return found


class _Arm(NamedTuple):
    """One way to label images.

    Attributes:
        predict: how.
        crf: the CRF in it.
        unary: what that is given.
        build: makes `predict` anew, to measure what it costs; None where that is only reading.
    """

    predict: Predictor
    crf: nn.Module | None = None
    unary: Unary | None = None
    build: BuildPredictor | None = None


_Arms = dict[str, _Arm]


def evaluate_split(
    run: Run,
    source: EvaluationSource,
    *,
    split: Split = "val",
    exclude: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
) -> tuple[Path, str]:
    """Scores, trimap curves and a report in ``run.output / "evaluation"``.

    Args:
        run: its data set is what is evaluated on.
        source: what is evaluated.
        split: "train" or "val".
        exclude: file of ids to leave out, images.txt of a search.
        resume: go on where the same command was interrupted.
        overwrite: replace what is there.
        command: for the record.

    Returns:
        The path of the report and its table as text.

    Raises:
        InputError: anything that cannot be used, before the work.
    """
    dataset = load_dataset(run.data, split)
    excluded = read_ids(dataset, exclude)
    ids = [name for name in dataset.ids if name not in excluded]
    if not ids:
        raise InputError(f"{exclude}: leaves no image of split {split!r} to evaluate")
    folds = {} if source.folds is None else read_folds(source.folds)
    if source.folds is not None:
        ids = images_of_folds(dataset, source.folds, folds)
    arms = _arms(run, dataset, ids, source)
    if folds:
        predictor = partial(
            predictor_of_folds, run, len(dataset.classes), source.scores, source.checkpoint, folds
        )
        arms["posthoc"] = _Arm(predictor(), build=predictor)
    digests = on_rank_zero(lambda: _digests(dataset, ids, source))
    run = replace(run, output=run.output / "evaluation")
    rehearsed = replace(run, title=_title(source))
    on_rank_zero(lambda: rehearse_report(rehearsed, dataset, ids, list(arms)))
    how = {"resume": resume, "overwrite": overwrite}
    with open_run(run, command=command, digests=digests, **how) as facts:
        _check_command(run, facts["command"], command)
        of = f"{len(ids)} of {len(dataset.ids)} images; {source.path}"
        facts["data"] = f"{dataset.name}, split {split}, {of}"
        results = [_scored(name, arms[name], run, dataset, ids, source) for name in arms]
        builds = {name: arm.build for name, arm in arms.items() if arm.build is not None}
        results = measure_costs(run.output / "costs", results, builds, dataset)
        results = [_with_images(arm, source, excluded, split) for arm in results]
        if run.data.name == "toy":
            facts |= MADE_UP
        if source.folds is not None:
            facts["CRF parameters"] = f"of each image those that the other folds chose: {source.folds}"
            results = [
                with_folds(arm, source.folds, folds) if arm.name == "posthoc" else arm for arm in results
            ]
        return on_rank_zero(lambda: _report(run, results, dataset, source, facts))


def _report(
    run: Run,
    results: Sequence[ArmResult],
    dataset: SegmentationDataset,
    source: EvaluationSource,
    facts: dict[str, str],
) -> tuple[Path, str]:
    shown = shown_images(results, run.pictures, run.evaluation)
    path = write_report(
        run.output,
        results,
        title=_title(source),
        class_names=dataset.classes,
        palette=dataset.palette,
        facts=facts,
        strip_samples=strip_samples(dataset, shown, {arm.name: run.output / arm.name for arm in results}),
        config=run.evaluation,
    )
    return path, console_table(results, run.evaluation)


def _with_images(
    arm: ArmResult, source: EvaluationSource, excluded: Collection[str], split: Split
) -> ArmResult:
    """The arm with the images that its CRF was searched on: those left out, and those scored all the same.

    A search, whose images are of the split val, lists them beside the CRF's file; without such a list they
    are those that were excluded.
    """
    if arm.crf is None:
        return arm
    path = None if source.crf is None else source.crf.parent / IMAGES_FILE
    if arm.name != "posthoc" or path is None or not path.is_file():
        return replace(arm, search_ids=sorted(excluded))
    listed = set(regular(path).read_text(encoding="utf-8", errors="replace").splitlines())
    scored = set(arm.evaluation.ids)
    seen = listed & scored if split == "val" else set()
    return replace(arm, search_ids=sorted(listed - scored), seen_ids=sorted(seen))


def _title(source: EvaluationSource) -> str:
    return f"Evaluation of {source.path.name}"


def read_ids(dataset: SegmentationDataset, path: Path | None) -> set[str]:
    """The ids in a file, one a line; none without a file. All must be of the data set."""
    if path is None:
        return set()
    known = set(dataset.ids)
    try:
        lines = regular(path).read_text(encoding="utf-8-sig").splitlines()
        ids = {name for line in lines for name in ([line] if line in known else line.split())}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of image ids ({why(error)})") from error
    strangers = ids - known
    if strangers:
        raise InputError(f"{path}: holds {min(strangers)!r:.80}, must be ids of the split of {dataset.name}")
    return ids


def _digests(dataset: SegmentationDataset, ids: Sequence[str], source: EvaluationSource) -> dict[str, str]:
    """Of all that decides the result, beside the configuration; reads every sample once."""
    data = dataset.check()
    found = {"images": data.images, "labels": data.labels, "choice of images": text_digest(ids)}
    if source.predictions is not None:
        found["predictions"] = files_digest(source.predictions / f"{name}.png" for name in ids)
    elif source.scores is not None:
        found["scores"] = ScoreFolder(source.scores).digest(ids)
    else:
        found["weights"] = weights_digest(source.path)
    if source.crf is not None:
        found["parameters of the CRF"] = file_digest(source.crf)
    if source.folds is not None:
        found["parameters of the folds"] = files_digest([source.folds, source.folds.parent / BEST_FILE])
    return found


def _check_command(run: Run, began: str, now: str) -> None:
    """Keep what is there only where the same command had begun it."""
    how = {"--resume", "--overwrite"}
    words = [[word for word in shlex.split(each) if word not in how] for each in (began, now)]
    if words[0] != words[1]:
        raise InputError(f"{run.output}: begun by {began!r}; --resume needs the same command")


def _scored(
    name: str, how: _Arm, run: Run, dataset: SegmentationDataset, ids: Sequence[str], source: EvaluationSource
) -> ArmResult:
    crf, unary = how.crf, how.unary
    folder = run.output / name
    arm = evaluate_arm(name, how.predict, dataset, ids, folder, config=run.evaluation, crf=crf)
    if crf is None or unary is None:
        return arm
    if isinstance(crf, DenseCRF):
        trace_energy(folder, crf, unary, dataset, ids)
    if name == "posthoc":
        return replace(arm, search_folder=source.crf.parent if source.crf else None)
    return replace(arm, train_folder=source.path.parent)


def _arms(run: Run, dataset: SegmentationDataset, ids: Sequence[str], source: EvaluationSource) -> _Arms:
    """What is evaluated: label maps as they are, or a network, and the same with the CRF behind it."""
    crf = None if source.crf is None else with_memory_limit(load_refinement(source.crf), run)
    if source.predictions is not None:
        if crf is not None:
            raise InputError("evaluate --crf needs the network's scores: give --scores or --checkpoint")
        folder = source.predictions
        _require_all(folder, [id for id in ids if not (folder / f"{id}.png").is_file()])
        return {"predictions": _Arm(predictor_from_pngs(folder))}
    if source.scores is not None:
        return _arms_of_scores(run, dataset, ids, ScoreFolder(source.scores), crf)
    return _arms_of_checkpoint(run, dataset, source.path, crf)


def _arms_of_scores(
    run: Run,
    dataset: SegmentationDataset,
    ids: Sequence[str],
    scores: ScoreFolder,
    crf: RefinementConfig | None,
) -> _Arms:
    classes, device = len(dataset.classes), resolve_device(run.device)
    if scores.num_classes != classes:
        raise InputError(
            f"{scores.path}: scores of {scores.num_classes} classes, must be {classes} for {dataset.name}"
        )
    _require_all(scores.path, sorted(set(ids) - set(scores.ids)))
    build = partial(predictor_from_scores_and_config, scores, None, classes, device)
    arms: _Arms = {"unary": _Arm(build(), build=build)}
    if crf is not None:
        layer = build_refinement(crf, classes).to(device)
        build = partial(predictor_from_scores_and_config, scores, crf, classes, device)
        arms["posthoc"] = _Arm(build(), layer, unary_from_scores(scores, device), build)
    return arms


def _arms_of_checkpoint(
    run: Run, dataset: SegmentationDataset, checkpoint: Path, crf: RefinementConfig | None
) -> _Arms:
    trained = checkpoint_crf(checkpoint)
    networks: dict[str, tuple[RefinementConfig | None, bool]] = {"unary": (None, False)}
    if trained is not None:
        networks["joint"] = (trained, True)
    if crf is not None:
        networks["posthoc"] = (crf, False)
    arms: _Arms = {}
    for name, (behind, with_crf) in networks.items():
        model = build_run_segmenter(run, dataset.num_classes, checkpoint, behind, with_crf=with_crf)
        arms[name] = _Arm(
            predictor_from_model(model, run.predict),
            model.crf,
            unary_from_model(model, run.predict),
            partial(predictor_from_checkpoint, run, dataset.num_classes, checkpoint, behind, with_crf),
        )
    return arms


def _require_all(place: Path, missing: Sequence[str]) -> None:
    """Refuse scores or predictions that lack images."""
    if missing:
        raise InputError(
            f"{place}: nothing for image {missing[0]!r} and {len(missing) - 1} others; all are needed"
        )
