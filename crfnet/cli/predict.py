"""``crfnet predict``: label maps and overlays of images, from a network or from any network's scores."""

import argparse
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crfnet.cli.parser import add_run_command
from crfnet.cli.shared import check_crf_keys, load
from crfnet.errors import InputError, require

__all__ = ["add_parser", "run"]

_USAGE = """\
crfnet predict CONFIG --checkpoint CKPT [--crf YAML] [...] IMAGE ...
       crfnet predict --scores DIR [CONFIG.yaml] [--crf YAML] [...] IMAGE ..."""

_EPILOG = """\
examples:
  crfnet predict --scores scores photos --output out
      any network's scores (crfnet convert-scores) of all images in the folder photos, through DeepLab's
      published CRF; neither masks nor a CONFIG are needed
  crfnet predict --scores scores photos/a.jpg --crf best.yaml --overwrite
      through the CRF of a search, or of crfnet explore
  crfnet predict run.yaml --checkpoint net.pt photos
left in OUTPUT/predictions: <name>.png, class indices in a palette PNG, and <name>_overlay.png
"""

_SIDES = {"window": 2048, "margin": 256}  #: pixels, of the squares in which a GeoTIFF is read
_READ = ("--crf.", "--data.", "--device", "--threads")  #: the keys that mean something without a CONFIG


def add_parser(commands: Any) -> None:
    """``predict``."""
    summary = "label maps and overlays of images, or of a split, from a network or from any network's scores"
    parser: argparse.ArgumentParser = add_run_command(commands, "predict", summary, config=False)
    parser.usage, parser.epilog = _USAGE, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", metavar="CKPT", type=Path, help="trained weights")
    source.add_argument(
        "--scores", metavar="DIR", type=Path, help="folder of cached scores, named as the images; or one .npz"
    )
    parser.add_argument("--split", choices=("train", "val"), help="of CONFIG's data set; default: none")
    parser.add_argument(
        "--crf",
        metavar="YAML",
        type=lambda text: text if text == "none" else Path(text),
        help="put this CRF or domain transform behind the network (best.yaml), or none; default: CKPT's own; "
        "behind scores that of CONFIG, else DeepLab's published one",
    )
    parser.add_argument(
        "--window", metavar="N", type=int, help="pixels: GeoTIFFs are read in such squares; default: 2048"
    )
    parser.add_argument(
        "--margin", metavar="N", type=int, help="pixels around a window that are seen, too; default: 256"
    )
    parser.add_argument(
        "config",
        metavar="CONFIG",
        type=Path,
        nargs="?",
        help="YAML file; --section.key VALUE changes a key; with --scores only for colors and crf",
    )
    parser.add_argument(
        "images", metavar="IMAGE", type=Path, nargs="*", help="image files, or folders of them; or --split"
    )


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Write a label map and an overlay for every image; of a GeoTIFF as GeoTIFFs in the same place."""
    del command
    _check_options(options, overrides)
    predict = _from_network if options.scores is None else _from_scores
    count, folder = predict(options, overrides)
    return f"label maps and overlays of {count} image{'s' * (count > 1)}: {folder}"


def _check_options(options: Namespace, overrides: Sequence[str]) -> None:
    """Refuse options that do not go together; a first IMAGE that stands in CONFIG's place is moved."""
    from crfnet.data.image_files import IMAGE_ENDINGS

    config = options.config
    if options.scores is not None and config is not None and config.suffix.lower() not in (".yaml", ".yml"):
        options.images, options.config = [config, *options.images], None
    if bool(options.images) == (options.split is not None):
        raise InputError("predict: give image files, or --split train|val; one of the two")
    check_crf_keys(options, overrides)
    if options.scores is None and config is not None and config.suffix.lower() in IMAGE_ENDINGS:
        raise InputError(
            f"predict {config}: CONFIG stands before the images, a YAML file that --checkpoint needs"
        )
    if options.config is None and (options.checkpoint is not None or options.split is not None):
        raise InputError("predict: give a CONFIG, which --checkpoint and --split need")
    if options.scores is not None:
        _check_of_scores(options, overrides)


def _check_of_scores(options: Namespace, overrides: Sequence[str]) -> None:
    """Refuse options that mean nothing without a network, and keys that mean nothing without CONFIG."""
    for name in _SIDES:
        if getattr(options, name) is not None:
            raise InputError(f"predict --{name}: of GeoTIFFs with --checkpoint; scores are of whole images")
    keys = [each.partition("=")[0] for each in overrides if each.startswith("--")]
    strangers = [key for key in keys if not key.startswith(_READ)]
    if options.config is None and strangers:
        raise InputError(
            f"predict {strangers[0]}: without CONFIG only --crf.*, --data.*, --device and --threads are read"
        )


def _from_network(options: Namespace, overrides: Sequence[str]) -> tuple[int, Path]:
    """Images through a network and what stands behind it."""
    from crfnet.checkpoints.checkpoint import checkpoint_crf
    from crfnet.data import classes_of
    from crfnet.evaluation.inference import TiledInference, predict_labels
    from crfnet.pipeline.build import build_run_segmenter, load_refinement
    from crfnet.pipeline.predict_images import check_outputs, image_list, opened, write_predictions
    from crfnet.pipeline.predict_raster import check_windows, is_raster, predict_raster

    run = load(options, overrides)
    given = {name: getattr(options, name) for name in _SIDES}
    sides = _SIDES | {name: side for name, side in given.items() if side is not None}
    check_windows(**sides)
    images = image_list(options.images, options.split, run.data)
    rasters = {name: path for name, path in images.files.items() if is_raster(path, sides["window"])}
    folder = run.output / "predictions"
    check_outputs(folder, images, rasters, overwrite=options.overwrite)
    classes, colors = classes_of(run.data)
    trained = checkpoint_crf(options.checkpoint) if options.crf is None else None
    crf = load_refinement(options.crf) if isinstance(options.crf, Path) else trained
    with_crf = trained is not None
    network = build_run_segmenter(run, len(classes), options.checkpoint, crf, with_crf=with_crf)
    model = TiledInference(network, run.predict).eval()
    device = next(model.parameters()).device
    with opened(folder):
        for path in rasters.values():
            predict_raster(model, path, folder, config=run.data, palette=colors, device=device, **sides)
        label = lambda name, image: predict_labels(model, image.to(device))  # noqa: E731
        write_predictions(folder, images, label, colors, without=rasters)
    return len(images.names), folder


def _from_scores(options: Namespace, overrides: Sequence[str]) -> tuple[int, Path]:
    """Images and their scores through a CRF; no network is run."""
    from crfnet.data import classes_of
    from crfnet.pipeline.build import load_refinement, resolve_device, with_memory_limit
    from crfnet.pipeline.predict_images import check_outputs, image_list, opened, write_predictions
    from crfnet.pipeline.predict_scores import check_scores
    from crfnet.pipeline.predictors import labels_from_scores
    from crfnet.score_cache import ScoreFolder
    from crfnet.segmenter import build_refinement

    scores = ScoreFolder(options.scores)
    run = load(options, [*_numbered_classes(options, overrides, scores.num_classes), *overrides])
    images = image_list(options.images, options.split, run.data, without=options.scores)
    folder = run.output / "predictions"
    check_outputs(folder, images, overwrite=options.overwrite)
    classes, colors = classes_of(run.data)
    crf = load_refinement(options.crf) if isinstance(options.crf, Path) else run.crf
    behind = None if options.crf == "none" else with_memory_limit(crf, run)
    device = resolve_device(run.device)
    layer = None if behind is None else build_refinement(behind, scores.num_classes).to(device)
    check_scores(scores, images, len(classes))
    with opened(folder):
        write_predictions(folder, images, labels_from_scores(scores, layer, device), colors)
    return len(images.names), folder


def _numbered_classes(options: Namespace, overrides: Sequence[str], num_classes: int) -> list[str]:
    """Keys that name classes by their numbers, in VOC's colors, where neither CONFIG nor a key names any."""
    from crfnet.files import read_yaml
    from crfnet.labels import VOID

    require(f"{options.scores}: number of labels", num_classes, num_classes <= VOID, f"at most {VOID}")
    content = read_yaml(options.config) if options.config is not None and options.config.is_file() else {}
    named = any(each.partition("=")[0] == "--data.name" for each in overrides)
    if named or (isinstance(content, dict) and "data" in content):
        return []
    names = ", ".join(f"'{label}'" for label in range(num_classes))
    return ["--data.name", "folders", "--data.classes", f"[{names}]"]
