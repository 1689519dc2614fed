"""``crfnet predict``: label maps and overlays of images, or of a split."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crfnet.cli.parser import add_crf, add_run_command
from crfnet.cli.shared import load
from crfnet.errors import InputError

if TYPE_CHECKING:
    from crfnet.pipeline.run_config import Run
    from crfnet.shapes import ImageBytes

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """``predict``."""
    parser = add_run_command(commands, "predict", "label maps and overlays of images, or of a split")
    parser.add_argument("--checkpoint", metavar="CKPT", type=Path, required=True, help="trained weights")
    parser.add_argument("--split", choices=("train", "val"), help="default: none")
    add_crf(parser)
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="*", help="image files; or use --split")


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Write a label map and an overlay for every image."""
    from tqdm import tqdm

    from crfnet.checkpoints.checkpoint import checkpoint_crf
    from crfnet.crf.config_file import load_crf_config
    from crfnet.data import classes_of
    from crfnet.evaluation.inference import TiledInference, predict_labels
    from crfnet.files import check_writable
    from crfnet.labels import overlay, write_label_png, write_picture
    from crfnet.pipeline.build import build_run_segmenter
    from crfnet.pipeline.run_folder import open_folder

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
    network = build_run_segmenter(run, len(classes), options.checkpoint, crf, with_crf=with_crf)
    model = TiledInference(network, run.predict).eval()
    device = next(model.parameters()).device
    open_folder(folder, resume=True, overwrite=False)  # other images' label maps stay
    pairs = zip(names, images, strict=True)
    for name, image in tqdm(pairs, "predict", len(names), unit="image", mininterval=0.5):
        labels = predict_labels(model, image.to(device)).cpu()
        write_label_png(folder / f"{name}.png", labels, colors)
        write_picture(folder / f"{name}_overlay.png", overlay(image, labels, colors))
    return f"label maps and overlays of {len(names)} image{'s' * (len(names) > 1)}: {folder}"


def _images(options: Namespace, run: "Run") -> tuple[list[str], "Iterator[ImageBytes]"]:
    """What is predicted: names, all different, and the images; the data set is needed for a split alone."""
    from crfnet.data import load_dataset
    from crfnet.data.image_files import read_image

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
    read = partial(read_image, channels=run.data.channels, image_range=run.data.image_range)
    return names, map(read, options.images)
