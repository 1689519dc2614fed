"""``evaluate``: a network, cached scores or label maps on the data set of a config."""

import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace

from crfnet.checkpoints.checkpoint import checkpoint_crf
from crfnet.commands.common import load, read_ids, require
from crfnet.commands.folders import evaluate_folders_command
from crfnet.crf.config_file import load_crf_config
from crfnet.crf.layer import DenseCRF
from crfnet.data import SegmentationDataset, load_dataset
from crfnet.distributed import on_rank_zero
from crfnet.errors import InputError
from crfnet.pipeline.build import build_run_segmenter, resolve_device, with_memory_limit
from crfnet.pipeline.evaluate_arm import evaluate_arm
from crfnet.pipeline.predictors import (
    Predictor,
    Unary,
    predictor_from_model,
    predictor_from_pngs,
    predictor_from_scores,
    unary_from_model,
    unary_from_scores,
)
from crfnet.pipeline.run_config import Run
from crfnet.pipeline.run_folder import open_run
from crfnet.pipeline.samples import strip_samples
from crfnet.pipeline.trace_energy import trace_energy
from crfnet.report import ArmResult, console_table, shown_images, write_report
from crfnet.score_cache import ScoreFolder

__all__ = ["evaluate_command"]


_Arm = tuple[Predictor, DenseCRF | None, Unary | None]
_Arms = dict[str, _Arm]


def evaluate_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """``crfnet evaluate``: scores, trimap curves and a report."""
    if options.config is None:
        return evaluate_folders_command(options, overrides, command)
    for name in ("labels", "num_classes", "class_names"):
        if getattr(options, name) is not None:
            raise InputError(f"evaluate --{name.replace('_', '-')}: the data set of CONFIG says that already")
    options.split = options.split or "val"
    run = load(options, overrides)
    dataset = load_dataset(run.data, options.split)
    excluded = read_ids(dataset, options.exclude)
    ids = [name for name in dataset.ids if name not in excluded]
    if not ids:
        raise InputError(f"{options.exclude}: leaves no image of split {options.split!r} to evaluate")
    arms = _arms(run, dataset, ids, options)
    on_rank_zero(dataset.check)
    source = options.predictions or options.scores or options.checkpoint
    run = replace(run, output=run.output / "evaluation")
    facts = on_rank_zero(lambda: _open(run, options, command))
    facts["data"] = (
        f"{dataset.name}, split {options.split}, {len(ids)} of {len(dataset.ids)} images; {source}"
    )
    results = [_scored(name, arms[name], run, dataset, ids, options) for name in arms]
    results = [replace(arm, search_ids=sorted(excluded)) if arm.crf else arm for arm in results]
    folders = {name: run.output / name for name in arms}

    def report() -> str:
        shown = shown_images(results, run.pictures, run.evaluation)
        path = write_report(
            run.output,
            results,
            title=f"Evaluation of {source.name}",
            class_names=dataset.classes,
            palette=dataset.palette,
            facts=facts,
            strip_samples=strip_samples(dataset, shown, folders),
            config=run.evaluation,
        )
        return f"\n{console_table(results, run.evaluation)}\n\nreport: {path}, report.html"

    return on_rank_zero(report)


def _open(run: Run, options: Namespace, command: str) -> dict[str, str]:
    """Opens the output folder; what is there is only kept where the same command had begun it."""
    facts = open_run(run, resume=options.resume, overwrite=options.overwrite, command=command)
    began, now = (shlex.split(each) for each in (facts["command"], command))
    how = {"--resume", "--overwrite"}
    if [word for word in began if word not in how] != [word for word in now if word not in how]:
        raise InputError(f"{run.output}: begun by {facts['command']!r}; --resume needs the same command")
    return facts


def _scored(
    name: str, how: _Arm, run: Run, dataset: SegmentationDataset, ids: Sequence[str], options: Namespace
) -> ArmResult:
    predict, crf, unary = how
    folder = run.output / name
    arm = evaluate_arm(name, predict, dataset, ids, folder, config=run.evaluation, crf=crf)
    if crf is None or unary is None:
        return arm
    trace_energy(folder, crf, unary, dataset, ids)
    if name == "posthoc":
        return replace(arm, search_folder=options.crf.parent)
    return replace(arm, train_folder=options.checkpoint.parent)


def _arms(run: Run, dataset: SegmentationDataset, ids: Sequence[str], options: Namespace) -> _Arms:
    """What is evaluated: label maps as they are, or a network, and the same with the CRF behind it."""
    classes, device = len(dataset.classes), resolve_device(run.device)
    crf = None if options.crf is None else with_memory_limit(load_crf_config(options.crf), run)
    if options.predictions is not None:
        if crf is not None:
            raise InputError("evaluate --crf needs the network's scores: give --scores or --checkpoint")
        require(options.predictions, [id for id in ids if not (options.predictions / f"{id}.png").is_file()])
        return {"predictions": (predictor_from_pngs(options.predictions), None, None)}
    if options.scores is not None:
        scores = ScoreFolder(options.scores)
        if scores.num_classes != classes:
            raise InputError(
                f"{scores.path}: scores of {scores.num_classes} classes; {dataset.name} has {classes}"
            )
        require(scores.path, sorted(set(ids) - set(scores.ids)))
        arms: _Arms = {"unary": (predictor_from_scores(scores, None, device), None, None)}
        if crf is not None:
            layer = DenseCRF(classes, crf).to(device)
            arms["posthoc"] = (
                predictor_from_scores(scores, layer, device),
                layer,
                unary_from_scores(scores, device),
            )
        return arms
    trained = None if options.checkpoint is None else checkpoint_crf(options.checkpoint)
    models = {"unary": build_run_segmenter(run, dataset.num_classes, options.checkpoint, None)}
    if trained is not None:
        models["joint"] = build_run_segmenter(
            run, dataset.num_classes, options.checkpoint, trained, with_crf=True
        )
    if crf is not None:
        models["posthoc"] = build_run_segmenter(run, dataset.num_classes, options.checkpoint, crf)
    return {
        name: (
            predictor_from_model(model, run.predict),
            model.crf if isinstance(model.crf, DenseCRF) else None,
            unary_from_model(model, run.predict),
        )
        for name, model in models.items()
    }
