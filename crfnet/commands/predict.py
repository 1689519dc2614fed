"""``predict``, ``import`` and ``explore``."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from crfnet.checkpoints.checkpoint import checkpoint_crf
from crfnet.checkpoints.convert import convert_file, fitted, model_yaml, write_converted
from crfnet.commands.common import load, segmenter_of
from crfnet.crf.config_file import load_crf_config
from crfnet.crf.layer import CRFConfig
from crfnet.data import classes_of, load_dataset
from crfnet.data.file_dataset import read_image
from crfnet.errors import InputError
from crfnet.evaluation.inference import TiledInference, predict_labels
from crfnet.explore import open_session
from crfnet.files import check_writable
from crfnet.labels import overlay, write_label_png, write_picture
from crfnet.pipeline.run_config import Run, load_run
from crfnet.pipeline.run_folder import open_folder
from crfnet.shapes import ImageBytes

__all__ = ["explore_command", "import_command", "predict_command"]


def predict_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """``crfnet predict``: label maps and overlays."""
    del command
    run = load(options, overrides)
    if bool(options.images) == (options.split is not None):
        raise InputError("predict: give image files, or --split train|val; one of the two")
    names, images = _images(options, run)
    folder = run.output / "predictions"
    check_writable(folder)
    there = [name for name in names if (folder / f"{name}.png").exists()]
    if there and not options.overwrite:
        raise InputError(f"{folder / there[0]}.png: exists already; give --overwrite or another --output")
    classes, colors = classes_of(run.data)
    crf = checkpoint_crf(options.checkpoint) if options.crf is None else load_crf_config(options.crf)
    with_crf = options.crf is None and crf is not None
    network = segmenter_of(run, len(classes), options.checkpoint, crf, with_crf=with_crf)
    model = TiledInference(network, run.predict).eval()
    device = next(model.parameters()).device
    open_folder(folder, resume=True, overwrite=False)  # other images' label maps stay
    pairs = zip(names, images, strict=True)
    for name, image in tqdm(pairs, "predict", len(names), unit="image", mininterval=0.5):
        labels = predict_labels(model, image.to(device)).cpu()
        write_label_png(folder / f"{name}.png", labels, colors)
        write_picture(folder / f"{name}_overlay.png", overlay(image, labels, colors))
    return f"label maps and overlays of {len(names)} image{'s' * (len(names) > 1)}: {folder}"


def _images(options: Namespace, run: Run) -> tuple[list[str], Iterator[ImageBytes]]:
    """What is predicted: names, all different, and the images; the data set is needed for a split alone."""
    if options.split is not None:
        dataset = load_dataset(run.data, options.split)
        return list(dataset.ids), (dataset[i].image for i in range(len(dataset)))
    missing = [path for path in options.images if not path.is_file()]
    if missing:
        raise InputError(f"{missing[0]}: no such image file")
    names = [path.stem for path in options.images]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(
            f"predict: two images are named {min(twice)!r}; their label maps would replace each other"
        )
    return names, map(read_image, options.images)


def import_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """``crfnet import``: what a checkpoint is, and that as one of ours."""
    del command
    if overrides and options.config is None:
        raise InputError(f"import: {overrides[0]} changes a config, but no --config is given")
    if options.out is not None:
        _check_out(options.out, overwrite=options.overwrite)
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
        lines += ["", *(f"written: {path}" for path in write_converted(converted, options.out))]
    return "\n".join(lines)


def _check_out(out: Path, *, overwrite: bool) -> None:
    """The place of the checkpoint, and of the config beside it."""
    for path in (out, out.with_suffix(".yaml")):
        check_writable(path, file=True)
        if path.exists() and not overwrite:
            raise InputError(f"{path}: exists already; give --overwrite or another --out")


def explore_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """``crfnet explore``: a local page with the CRF's parameters as sliders."""
    del command
    if overrides:
        raise InputError(f"explore: {overrides[0]} is no option; the page and --crf say what the CRF is")
    try:
        from crfnet.explore.server import serve
    except ModuleNotFoundError as error:
        raise InputError(f"explore needs {error.name}: pip install 'crfnet[explore]'") from error
    id = options.id or options.image.stem
    session = open_session(
        read_image(options.image),
        options.scores,
        id,
        labels=options.labels,
        classes=options.classes,
        palette=options.palette,
    )
    crf = CRFConfig(prune=1e-3) if options.crf is None else load_crf_config(options.crf)
    source = f"chosen by eye on {options.image}; scores: {options.scores}"
    serve(session, crf, source, port=options.port, browser=not options.no_browser)
    return ""
