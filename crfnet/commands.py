"""What each command does: a few calls into the library, and the text that is printed at the end."""

import json
import logging
import math
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
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
from crfnet.data.survey import check_report
from crfnet.data.voc_aug import build_trainaug
from crfnet.errors import InputError
from crfnet.evaluation.confusion import VOID
from crfnet.evaluation.folders import evaluate_folders
from crfnet.evaluation.measures import interval
from crfnet.evaluation.predict import (
    VOC_PALETTE,
    overlay,
    predict_labels,
    write_label_png,
    write_picture,
)
from crfnet.evaluation.protocols import Protocol
from crfnet.evaluation.tables import write_tables
from crfnet.explore import open_session
from crfnet.report import (
    ArmResult,
    StripSample,
    console_table,
    load_inputs,
    shown_images,
    write_report,
)
from crfnet.run_folder import check_folder, open_folder, open_run, provenance
from crfnet.scoring import (
    Predictor,
    Unary,
    cache_scores,
    from_model,
    from_pngs,
    from_scores,
    score_arm,
    strip_samples,
    trace_energy,
    unary_of_model,
    unary_of_scores,
)
from crfnet.search import ScoreFolder, load_crf_config, search
from crfnet.search.convert import ConvertOptions, convert_scores
from crfnet.segmenter import Segmenter, build_segmenter
from crfnet.shapes import ImageBytes
from crfnet.training import checkpoint_crf, load_model, train
from crfnet.training.convert import convert_file, fitted, model_yaml, write_converted

__all__ = ["COMMANDS"]

log = logging.getLogger(__name__)

_Arms = dict[str, tuple[Predictor, DenseCRF | None, Unary | None]]


def _demo(options: Namespace, overrides: Sequence[str], command: str) -> str:
    with as_file(files("crfnet") / "demo.yaml") as path:
        options.config = path
        return _compare(options, overrides, command)


def _compare(options: Namespace, overrides: Sequence[str], command: str) -> str:
    run = _load(options, overrides)
    report, table = compare(run, resume=options.resume, overwrite=options.overwrite, command=command)
    return f"\n{table}\n\nreport: {report}, report.html"


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
    scores = cache_scores(
        model,
        dataset,
        dataset.ids,
        folder,
        config=run.predict,
        source=source,
        overwrite=options.overwrite,
    )
    return f"scores of {len(scores.ids)} images: {folder}"


def _search(options: Namespace, overrides: Sequence[str], command: str) -> str:
    run = _load(options, overrides)
    dataset, scores = load_dataset(run.data, "val"), ScoreFolder(options.scores)
    folder = run.output / "search"
    search(
        dataset,
        dataset.ids,
        scores,
        run.search,
        folder,
        resume=options.resume,
        overwrite=options.overwrite,
        device=resolve_device(run.device),
    )
    best = (folder / "best.yaml").read_text()
    return f"{best}\nparameters: {folder / 'best.yaml'}\nall points: {folder / 'table.csv'}, heatmap.png"


def _convert_scores(options: Namespace, overrides: Sequence[str], command: str) -> str:
    del overrides, command
    given = {field.name: getattr(options, field.name) for field in fields(ConvertOptions)}
    scores = convert_scores(options.source, options.to, ConvertOptions(**given), overwrite=options.overwrite)
    return f"scores of {len(scores.ids)} images, {scores.num_classes} classes: {options.to}"


def _evaluate(options: Namespace, overrides: Sequence[str], command: str) -> str:
    if options.config is None:
        return _evaluate_folders(options, overrides, command)
    for name in ("labels", "num_classes", "class_names"):
        if getattr(options, name) is not None:
            raise InputError(f"evaluate --{name.replace('_', '-')}: the data set of CONFIG says that already")
    options.split = options.split or "val"
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
    results: list[ArmResult] = []
    for name, (predict, crf, unary) in arms.items():
        arm = score_arm(name, predict, dataset, ids, folders[name], config=run.evaluation, crf=crf)
        if crf is not None and unary is not None:
            trace_energy(folders[name], crf, unary, dataset, ids)
            arm = replace(arm, search_ids=sorted(excluded))
            if name == "posthoc":
                arm = replace(arm, search_folder=options.crf.parent)
            else:
                arm = replace(arm, train_folder=options.checkpoint.parent)
        results.append(arm)
    shown = shown_images(results, run.pictures, run.evaluation.absent)
    report = write_report(
        run.output,
        results,
        title=f"Evaluation of {source.name}",
        class_names=dataset.classes,
        palette=dataset.palette,
        facts=facts,
        strip_samples=strip_samples(dataset, shown, folders),
        config=run.evaluation,
    )
    return f"\n{console_table(results, run.evaluation)}\n\nreport: {report}, report.html"


def _evaluate_folders(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Two folders of label maps, without a data set; of the overrides, those that say how it is scored."""
    names = _check_folders(options, overrides)
    run = load_run(None, overrides)
    config, folder = run.evaluation, options.output
    if folder is not None:
        check_folder(folder, resume=False, overwrite=options.overwrite)
    device = resolve_device(run.device)
    evaluation = evaluate_folders(options.predictions, options.labels, len(names), config, device)
    arm = ArmResult("predictions", evaluation, math.nan, math.nan, math.nan, math.nan, folder=folder)
    lines = [console_table([arm], config)]
    for title, name in (("Boundary IoU", "boundary_iou"), ("boundary F", "boundary_f")):
        found = interval(evaluation, name, config)
        low, high, value = (100 * each for each in (found.low, found.high, found.estimate))
        lines.append(f"{title} {value:.2f} [{low:.2f}, {high:.2f}]")
    if folder is None:
        return "\n".join(lines)
    open_folder(folder, resume=False, overwrite=options.overwrite)
    facts = provenance(command)
    (folder / "run.json").write_text(json.dumps(facts, indent=1) + "\n")
    facts["data"] = f"{len(evaluation)} images: {options.predictions} against {options.labels}"
    evaluation.save(folder / "evaluation.npz")
    write_tables(folder, evaluation, names, config.absent)
    report = write_report(
        folder,
        [arm],
        title=f"Evaluation of {options.predictions.name}",
        class_names=names,
        palette=VOC_PALETTE,
        facts=facts,
        strip_samples=(),
        config=config,
    )
    return "\n".join(
        [*lines, f"\nper image, per class, trimaps: {folder}/*.csv", f"report: {report}, report.html"]
    )


def _check_folders(options: Namespace, overrides: Sequence[str]) -> list[str]:
    """The names of the classes; without a config, only some options mean something."""
    if options.predictions is None or options.labels is None or options.num_classes is None:
        raise InputError("evaluate: give a CONFIG, or --predictions DIR --labels DIR --num-classes N")
    for name in ("crf", "exclude", "split"):
        if getattr(options, name) is not None:
            raise InputError(f"evaluate --{name}: needs a CONFIG")
    keys = [each.partition("=")[0] for each in overrides if each.startswith("--")]
    strangers = [key for key in keys if not key.startswith("--evaluation.") and key != "--device"]
    if strangers:
        raise InputError(f"evaluate {strangers[0]}: without CONFIG only --evaluation.* and --device are read")
    if not 2 <= options.num_classes <= VOID:
        raise InputError(f"evaluate --num-classes: {options.num_classes}; allowed are 2..{VOID}")
    if options.class_names is None:
        return [str(i) for i in range(options.num_classes)]
    names = [name.strip() for name in options.class_names.split(",")]
    if len(names) != options.num_classes:
        raise InputError(
            f"evaluate --class-names: {len(names)} names; --num-classes says {options.num_classes}"
        )
    return names


def _arms(run: Run, dataset: SegmentationDataset, ids: Sequence[str], options: Namespace) -> _Arms:
    """What is evaluated: label maps as they are, or a network, and the same with the CRF behind it."""
    classes, device = len(dataset.classes), resolve_device(run.device)
    crf = None if options.crf is None else load_crf_config(options.crf)
    if options.predictions is not None:
        if crf is not None:
            raise InputError("evaluate --crf needs the network's scores: give --scores or --checkpoint")
        _require(options.predictions, [id for id in ids if not (options.predictions / f"{id}.png").is_file()])
        return {"predictions": (from_pngs(options.predictions), None, None)}
    if options.scores is not None:
        scores = ScoreFolder(options.scores)
        if scores.num_classes != classes:
            raise InputError(
                f"{scores.path}: scores of {scores.num_classes} classes; {dataset.name} has {classes}"
            )
        _require(scores.path, sorted(set(ids) - set(scores.ids)))
        arms: _Arms = {"unary": (from_scores(scores, None, device), None, None)}
        if crf is not None:
            layer = DenseCRF(classes, crf).to(device)
            arms["posthoc"] = (from_scores(scores, layer, device), layer, unary_of_scores(scores, device))
        return arms
    trained = None if options.checkpoint is None else checkpoint_crf(options.checkpoint)
    models = {"unary": _segmenter(run, dataset, options.checkpoint, None)}
    if trained is not None:
        models["joint"] = _segmenter(run, dataset, options.checkpoint, trained, with_crf=True)
    if crf is not None:
        models["posthoc"] = _segmenter(run, dataset, options.checkpoint, crf)
    return {
        name: (
            from_model(model, run.predict),
            model.crf if isinstance(model.crf, DenseCRF) else None,
            unary_of_model(model, run.predict),
        )
        for name, model in models.items()
    }


def _data(options: Namespace, overrides: Sequence[str], command: str) -> str:
    del command
    if options.action == "voc-aug":
        if overrides:
            raise InputError(f"data voc-aug: {overrides[0]} changes a config, but there is none")
        made = build_trainaug(
            options.voc,
            options.sbd,
            expected=options.count,
            overwrite=options.overwrite,
            workers=options.workers,
        )
        return (
            f"trainaug: {made.ids} ids, {made.path}\nmasks: {made.from_voc} of VOC (val's among them), "
            f"{made.from_sbd} of SBD; {made.written} written now"
        )
    config = load_run(options.config, overrides).data
    train, val = load_dataset(config, "train"), load_dataset(config, "val")
    text, problem = check_report(
        train, val, workers=options.workers, output=options.output, overwrite=options.overwrite
    )
    if problem is None:
        return text
    tqdm.write(text)
    raise InputError(problem)


def _report(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """The report once more, from the counts and label maps in the folder; nothing is predicted again."""
    del command
    if overrides:
        raise InputError(f"report: {overrides[0]} changes a config, but a report only tells what was done")
    inputs = load_inputs(options.folder)
    given = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
    report = write_report(
        options.folder, **given, strip_samples=_stored_pictures(options.folder, inputs.arms)
    )
    return f"\n{console_table(inputs.arms, inputs.config)}\n\nreport: {report}, report.html"


def _stored_pictures(folder: Path, arms: Sequence[ArmResult]) -> list[StripSample]:
    """The images of the gallery and every arm's labels; none where there is no data set to take them from."""
    folders = {arm.name: arm.folder for arm in arms if arm.folder is not None}
    if not (folder / "config.yaml").is_file():
        return []
    run = load_run(folder / "config.yaml")
    ids = shown_images(arms, run.pictures, run.evaluation.absent)
    try:
        sets = [load_dataset(run.data, split) for split in ("val", "train")]
        return strip_samples(next(each for each in sets if set(ids) <= set(each.ids)), ids, folders)
    except (InputError, StopIteration) as error:
        log.warning("the report has no pictures: %s", error)
        return []


def _predict(options: Namespace, overrides: Sequence[str], command: str) -> str:
    del command
    run = _load(options, overrides)
    if bool(options.images) == (options.split is not None):
        raise InputError("predict: give image files, or --split train|val; one of the two")
    dataset = load_dataset(run.data, options.split or "val")
    crf = checkpoint_crf(options.checkpoint) if options.crf is None else load_crf_config(options.crf)
    with_crf = options.crf is None and crf is not None
    model = Protocol(_segmenter(run, dataset, options.checkpoint, crf, with_crf=with_crf), run.predict).eval()
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


def _import(options: Namespace, overrides: Sequence[str], command: str) -> str:
    del command
    if overrides and options.config is None:
        raise InputError(f"import: {overrides[0]} changes a config, but no --config is given")
    torch.manual_seed(0)
    converted = convert_file(options.file, num_classes=options.classes, output_stride=options.output_stride)
    if options.config is not None:
        run = load_run(options.config, overrides)
        classes = options.classes or len(load_dataset(run.data, "train").classes)
        torch.manual_seed(run.seed)
        converted = fitted(converted, run.model, classes)
    lines = [f"{options.file}: {converted.what}", *converted.notes]
    if converted.config is not None:
        lines += ["", model_yaml(converted.config).rstrip()]
    if options.out is not None:
        taken = [path for path in (options.out, options.out.with_suffix(".yaml")) if path.exists()]
        if taken and not options.overwrite:
            raise InputError(f"{taken[0]}: exists already; give --overwrite or another --out")
        lines += ["", *(f"written: {path}" for path in write_converted(converted, options.out))]
    return "\n".join(lines)


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


def _explore(options: Namespace, overrides: Sequence[str], command: str) -> str:
    del command
    if overrides:
        raise InputError(f"explore: {overrides[0]} is no option; the page and --crf say what the CRF is")
    try:
        from crfnet.explore.server import serve
    except ModuleNotFoundError as error:
        raise InputError(f"explore needs {error.name}: pip install 'crfnet[explore]'") from error
    id = options.id or options.image.stem
    session = open_session(
        _read_image(options.image), options.scores, id, labels=options.labels, classes=options.classes
    )
    crf = CRFConfig(prune=1e-3) if options.crf is None else load_crf_config(options.crf)
    source = f"chosen by eye on {options.image}; scores: {options.scores}"
    serve(session, crf, source, port=options.port, browser=not options.no_browser)
    return ""


COMMANDS: dict[str, Callable[[Namespace, Sequence[str], str], str]] = {
    "demo": _demo,
    "compare": _compare,
    "train": _train,
    "scores": _scores,
    "convert-scores": _convert_scores,
    "search": _search,
    "evaluate": _evaluate,
    "report": _report,
    "predict": _predict,
    "import": _import,
    "explore": _explore,
    "data": _data,
}
