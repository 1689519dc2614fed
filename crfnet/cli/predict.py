"""``crfnet predict``: label maps and overlays of images, or of a split."""

from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping, Sequence
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
    parser.add_argument(
        "--window", metavar="N", type=int, default=2048, help="pixels: GeoTIFFs are read in such squares"
    )
    parser.add_argument(
        "--margin", metavar="N", type=int, default=256, help="pixels around a window that are seen, too"
    )
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="*", help="image files; or use --split")


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Write a label map and an overlay for every image; of a GeoTIFF as GeoTIFFs in the same place."""
    from tqdm import tqdm

    from crfnet.checkpoints.checkpoint import checkpoint_crf
    from crfnet.data import classes_of
    from crfnet.evaluation.inference import TiledInference, predict_labels
    from crfnet.files import check_writable, leftovers, recording
    from crfnet.labels import overlay, write_label_png, write_picture
    from crfnet.pipeline.build import build_run_segmenter, load_refinement
    from crfnet.pipeline.predict_raster import check_windows, is_raster, predict_raster

    del command
    run = load(options, overrides)
    if bool(options.images) == (options.split is not None):
        raise InputError("predict: give image files, or --split train|val; one of the two")
    check_windows(options.window, options.margin)
    names = _names(options, run)
    rasters = {path.stem: path for path in options.images if is_raster(path, options.window)}
    folder = run.output / "predictions"
    check_writable(folder)
    endings = {name: ".tif" if name in rasters else ".png" for name in names}
    _check_outputs(folder, endings, options)
    classes, colors = classes_of(run.data)
    crf = checkpoint_crf(options.checkpoint) if options.crf is None else load_refinement(options.crf)
    with_crf = options.crf is None and crf is not None
    network = build_run_segmenter(run, len(classes), options.checkpoint, crf, with_crf=with_crf)
    model = TiledInference(network, run.predict).eval()
    device = next(model.parameters()).device
    for half_written in leftovers(folder):
        half_written.unlink()
    sides = {"window": options.window, "margin": options.margin}
    with recording(folder):
        for path in rasters.values():
            predict_raster(model, path, folder, config=run.data, palette=colors, device=device, **sides)
        images = _images(options, run, rasters)
        for name, image in tqdm(images, "predict", len(names) - len(rasters), unit="image", mininterval=0.5):
            labels = predict_labels(model, image.to(device)).cpu()
            write_label_png(folder / f"{name}.png", labels, colors)
            write_picture(folder / f"{name}_overlay.png", overlay(image, labels, colors))
    return f"label maps and overlays of {len(names)} image{'s' * (len(names) > 1)}: {folder}"


def _check_outputs(folder: Path, endings: Mapping[str, str], options: Namespace) -> None:
    """Refuse to write a file twice, over one that is read, or over one that crfnet has not written."""
    from crfnet.files import recorded_files

    outputs = [folder / f"{name}{end}{kind}" for name, kind in endings.items() for end in ("", "_overlay")]
    if len(set(outputs)) < len(outputs):
        twice = next(path for path in outputs if outputs.count(path) > 1)
        raise InputError(
            f"predict: two images' files would be {twice}, and replace each other; predict them into two "
            "folders (--output)"
        )
    read = {path.resolve() for path in options.images}
    ours = set(recorded_files(folder))
    for path in outputs:
        if path.resolve() in read:
            raise InputError(f"{path}: is read, and would be replaced; give another --output")
        if path.exists() and not options.overwrite:
            raise InputError(f"{path}: exists already; give --overwrite or another --output")
        if path.exists() and path not in ours:
            raise InputError(f"{path}: not written by crfnet, so it is left alone; give another --output")


def _names(options: Namespace, run: "Run") -> list[str]:
    """What is predicted, all different; the data set is needed for a split alone."""
    from crfnet.data import load_dataset

    if options.split is not None:
        return list(load_dataset(run.data, options.split).ids)
    missing = [path for path in options.images if not path.is_file()]
    if missing:
        raise InputError(f"{missing[0]}: no such image file")
    names = [path.stem for path in options.images]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(
            f"predict: two images are named {min(twice)!r}; their label maps would replace each other"
        )
    return names


def _images(options: Namespace, run: "Run", rasters: Collection[str]) -> "Iterator[tuple[str, ImageBytes]]":
    """Names and images, but for those that are read window by window."""
    from crfnet.data import load_dataset, read_image

    if options.split is not None:
        dataset = load_dataset(run.data, options.split)
        yield from ((dataset.ids[number], dataset[number].image) for number in range(len(dataset)))
    for path in options.images:
        if path.stem not in rasters:
            yield path.stem, read_image(path, run.data.channels, run.data.image_range)
