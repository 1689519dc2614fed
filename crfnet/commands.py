"""What each command does: a few calls into the library, and the text that is printed at the end."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

import torch
from PIL import Image as PillowImage
from torchvision.transforms.v2.functional import pil_to_tensor
from tqdm import tqdm

from crfnet.compare import compare, resolve_device, warm_start
from crfnet.config import Run, load_run
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.data import SegmentationDataset, load_dataset
from crfnet.errors import InputError
from crfnet.evaluation.predict import overlay, predict_labels, write_label_png, write_picture
from crfnet.report import ArmResult, console_table, write_report
from crfnet.run_folder import open_folder, open_run
from crfnet.scoring import (
    Predictor,
    cache_scores,
    from_model,
    from_pngs,
    from_scores,
    score_arm,
    strip_samples,
)
from crfnet.search import ScoreFolder, load_crf_config, search
from crfnet.segmenter import Segmenter, build_segmenter
from crfnet.shapes import ImageBytes
from crfnet.training import checkpoint_crf, load_model, train

__all__ = ["COMMANDS"]

_Arms = dict[str, tuple[Predictor, DenseCRF | None]]


def _demo(options: Namespace, overrides: Sequence[str], command: str) -> str:
    with as_file(files("crfnet") / "demo.yaml") as path:
        options.config = path
        return _compare(options, overrides, command)


def _compare(options: Namespace, overrides: Sequence[str], command: str) -> str:
    run = _load(options, overrides)
    report, table = compare(run, resume=options.resume, overwrite=options.overwrite, command=command)
    return f"\n{table}\n\nreport: {report}"


def _train(options: Namespace, overrides: Sequence[str], command: str) -> str:
    run = _load(options, overrides)
    joint = options.stage == "joint"
    if joint and options.checkpoint is None and not options.resume:
        raise InputError("train --stage joint starts from a trained network: give --checkpoint CKPT")
    if options.crf is not None and not joint:
        raise InputError("train --crf: only --stage joint trains a CRF")
    dataset = load_dataset(run.data, "train")
    crf = run.crf if joint else None
    if crf is not None and options.crf is not None:
        crf = warm_start(crf, load_crf_config(options.crf))
    model = _segmenter(run, dataset, options.checkpoint, crf)
    dataset.check()
    run = replace(run, output=run.output / options.stage / "train")
    open_run(run, resume=options.resume, overwrite=options.overwrite, command=command)
    config = run.joint if joint else run.train
    result = train(model, dataset, config, run.output, seed=run.seed, resume=options.resume)
    return f"checkpoint: {result.path} ({result.seconds:.0f} s)"


def _scores(options: Namespace, overrides: Sequence[str], command: str) -> str:
    run = _load(options, overrides)
    dataset = load_dataset(run.data, options.split)
    model = _segmenter(run, dataset, options.checkpoint, None).eval()
    dataset.check()
    folder = run.output / "scores"
    source = f"{options.checkpoint}, split {options.split}"
    scores = cache_scores(model, dataset, dataset.ids, folder, source=source, overwrite=options.overwrite)
    return f"scores of {len(scores.ids)} images: {folder}"


def _search(options: Namespace, overrides: Sequence[str], command: str) -> str:
    run = _load(options, overrides)
    dataset, scores = load_dataset(run.data, "val"), ScoreFolder(options.scores)
    folder = run.output / "search"
    search(
        dataset, dataset.ids, scores, run.search, folder, resume=options.resume, overwrite=options.overwrite
    )
    best = (folder / "best.yaml").read_text()
    return f"{best}\nparameters: {folder / 'best.yaml'}\nall points: {folder / 'table.csv'}, heatmap.png"


def _evaluate(options: Namespace, overrides: Sequence[str], command: str) -> str:
    run = _load(options, overrides)
    dataset = load_dataset(run.data, options.split)
    excluded = _read_ids(dataset, options.exclude)
    ids = [name for name in dataset.ids if name not in excluded]
    if not ids:
        raise InputError(f"{options.exclude}: leaves no image of split {options.split!r} to evaluate")
    arms = _arms(run, dataset, ids, options)
    dataset.check()
    source = options.predictions or options.scores or options.checkpoint
    run = replace(run, output=run.output / "evaluation")
    facts = open_run(run, resume=False, overwrite=options.overwrite, command=command)
    facts["data"] = (
        f"{dataset.name}, split {options.split}, {len(ids)} of {len(dataset.ids)} images; {source}"
    )
    folders = {name: run.output / name for name in arms}
    width = run.evaluation.max_width
    results: list[ArmResult] = [
        score_arm(name, predict, dataset, ids, folders[name], max_width=width, crf=crf)
        for name, (predict, crf) in arms.items()
    ]
    if excluded:
        results = [replace(arm, search_ids=sorted(excluded)) if arm.crf else arm for arm in results]
    report = write_report(
        run.output,
        results,
        title=f"Evaluation of {source.name}",
        class_names=dataset.classes,
        palette=dataset.palette,
        facts=facts,
        strip_samples=strip_samples(dataset, ids[: run.pictures], folders),
        config=run.evaluation,
    )
    return f"\n{console_table(results, run.evaluation)}\n\nreport: {report}"


def _arms(run: Run, dataset: SegmentationDataset, ids: Sequence[str], options: Namespace) -> _Arms:
    """What is evaluated: label maps as they are, or a network, and the same with the CRF behind it."""
    classes, device = len(dataset.classes), resolve_device(run.device)
    crf = None if options.crf is None else load_crf_config(options.crf)
    if options.predictions is not None:
        if crf is not None:
            raise InputError("evaluate --crf needs the network's scores: give --scores or --checkpoint")
        _require(options.predictions, [id for id in ids if not (options.predictions / f"{id}.png").is_file()])
        return {"predictions": (from_pngs(options.predictions), None)}
    if options.scores is not None:
        scores = ScoreFolder(options.scores)
        if scores.num_classes != classes:
            raise InputError(
                f"{scores.path}: scores of {scores.num_classes} classes; {dataset.name} has {classes}"
            )
        _require(scores.path, sorted(set(ids) - set(scores.ids)))
        arms: _Arms = {"unary": (from_scores(scores, None, device), None)}
        if crf is not None:
            layer = DenseCRF(classes, crf).to(device)
            arms["posthoc"] = (from_scores(scores, layer, device), layer)
        return arms
    trained = None if options.checkpoint is None else checkpoint_crf(options.checkpoint)
    arms = {"unary": _arm(_segmenter(run, dataset, options.checkpoint, None))}
    if trained is not None:
        arms["joint"] = _arm(_segmenter(run, dataset, options.checkpoint, trained, with_crf=True))
    if crf is not None:
        arms["posthoc"] = _arm(_segmenter(run, dataset, options.checkpoint, crf))
    return arms


def _arm(model: Segmenter) -> tuple[Predictor, DenseCRF | None]:
    return from_model(model), model.crf if isinstance(model.crf, DenseCRF) else None


def _predict(options: Namespace, overrides: Sequence[str], command: str) -> str:
    del command
    run = _load(options, overrides)
    if bool(options.images) == (options.split is not None):
        raise InputError("predict: give image files, or --split train|val; one of the two")
    dataset = load_dataset(run.data, options.split or "val")
    crf = checkpoint_crf(options.checkpoint) if options.crf is None else load_crf_config(options.crf)
    with_crf = options.crf is None and crf is not None
    model = _segmenter(run, dataset, options.checkpoint, crf, with_crf=with_crf).eval()
    folder = run.output / "predictions"
    missing = [path for path in options.images if not path.is_file()]
    if missing:
        raise InputError(f"{missing[0]}: no such image file")
    names = [path.stem for path in options.images] or list(dataset.ids)
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(
            f"predict: two images are named {min(twice)!r}; their label maps would replace each other"
        )
    open_folder(folder, resume=True, overwrite=False)
    for i, name in enumerate(tqdm(names, "predict", unit="image", mininterval=0.5)):
        image = _read_image(options.images[i]) if options.images else dataset[i].image
        labels = predict_labels(model, image.to(next(model.parameters()).device)).cpu()
        write_label_png(folder / f"{name}.png", labels, dataset.palette)
        write_picture(folder / f"{name}_overlay.png", overlay(image, labels, dataset.palette))
    return f"label maps and overlays of {len(names)} images: {folder}"


def _load(options: Namespace, overrides: Sequence[str]) -> Run:
    run = load_run(options.config, overrides)
    return run if options.output is None else replace(run, output=options.output)


def _segmenter(
    run: Run,
    dataset: SegmentationDataset,
    checkpoint: Path | None,
    crf: CRFConfig | None,
    *,
    with_crf: bool = False,
) -> Segmenter:
    """The run's model; weights from `checkpoint`, those of its CRF only on request."""
    torch.manual_seed(run.seed)
    model = build_segmenter(run.model, len(dataset.classes), crf)
    if checkpoint is not None:
        load_model(model, checkpoint, network_only=not with_crf)
    return model.to(resolve_device(run.device))


def _read_ids(dataset: SegmentationDataset, path: Path | None) -> set[str]:
    if path is None:
        return set()
    try:
        ids = set(path.read_text().split())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of image ids ({type(error).__name__})") from error
    strangers = ids - set(dataset.ids)
    if strangers:
        raise InputError(
            f"{path}: {min(strangers)!r} is no image of {dataset.name}; it must list ids of the split"
        )
    return ids


def _require(place: Path, missing: Sequence[str]) -> None:
    if missing:
        raise InputError(
            f"{place}: nothing for image {missing[0]!r} and {len(missing) - 1} others; all are needed"
        )


def _read_image(path: Path) -> ImageBytes:
    try:
        with PillowImage.open(path) as file:
            image: ImageBytes = pil_to_tensor(file.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an image ({type(error).__name__})") from error
    return image


COMMANDS: dict[str, Callable[[Namespace, Sequence[str], str], str]] = {
    "demo": _demo,
    "compare": _compare,
    "train": _train,
    "scores": _scores,
    "search": _search,
    "evaluate": _evaluate,
    "predict": _predict,
}
