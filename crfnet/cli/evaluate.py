"""``crfnet evaluate``: a network, cached scores or label maps against the true labels."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crfnet.cli.parser import add_crf, add_run_command
from crfnet.cli.shared import check_apart, check_crf_keys, load
from crfnet.errors import InputError, require

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """``evaluate``."""
    summary = (
        "mIoU, accuracies, trimap curves, Boundary IoU and F of predictions, cached scores or a checkpoint"
    )
    parser = add_run_command(commands, "evaluate", summary, config=False, resume=True)
    parser.add_argument("--split", choices=("train", "val"), help="default: val")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--predictions", metavar="DIR", type=Path, help="folder of <id>.png label maps")
    source.add_argument("--scores", metavar="PATH", type=Path, help="folder of cached scores, or one .npz")
    source.add_argument("--checkpoint", metavar="CKPT", type=Path, help="trained weights")
    add_crf(parser)
    parser.add_argument(
        "--folds",
        metavar="CSV",
        type=Path,
        help="cross-validated: each image with the CRF chosen on the other folds (folds.csv of a search)",
    )
    parser.add_argument(
        "--exclude", metavar="FILE", type=Path, help="ids to leave out (images.txt of a search)"
    )
    parser.usage = (
        "crfnet evaluate CONFIG (--predictions DIR | --scores PATH | --checkpoint CKPT) [...]\n"
        "       crfnet evaluate --predictions DIR --labels DIR --num-classes N [--class-names A,B,...] [...]"
    )
    parser.add_argument(
        "config", metavar="CONFIG", type=Path, nargs="?", help="YAML file that says which data set"
    )
    folders = parser.add_argument_group(
        "without CONFIG", "two folders of PNGs, files paired by name, 255 = void; writes only with --output"
    )
    folders.add_argument("--labels", metavar="DIR", type=Path, help="folder of <id>.png true label maps")
    folders.add_argument("--num-classes", metavar="N", type=int, help="both hold labels 0..N-1")
    folders.add_argument("--class-names", metavar="A,B,...", help="names of the N classes; default: numbers")


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Scores, trimap curves and a report."""
    if options.config is None:
        return _run_on_folders(options, overrides, command)
    from crfnet.pipeline.evaluate_split import EvaluationSource, evaluate_split

    for name in ("labels", "num_classes", "class_names"):
        if getattr(options, name) is not None:
            raise InputError(f"evaluate --{name.replace('_', '-')}: the data set of CONFIG says that already")
    for name in ("predictions", "crf", "exclude"):
        if options.folds is not None and getattr(options, name) is not None:
            raise InputError(f"evaluate --folds: names the images and their CRFs, so it excludes --{name}")
    check_crf_keys(options, overrides)
    run = load(options, overrides)
    check_apart(options, run, run.output / "evaluation")
    report, table = evaluate_split(
        run,
        EvaluationSource(options.predictions, options.scores, options.checkpoint, options.crf, options.folds),
        split=options.split or "val",
        exclude=options.exclude,
        resume=options.resume,
        overwrite=options.overwrite,
        command=command,
    )
    arms = sorted(path.parent for path in report.parent.glob("*/evaluation.npz"))
    label_maps = ", ".join(str(arm / "<id>.png") for arm in arms)
    return f"\n{table}\n\nreport: {report}, report.html\nlabel maps: {label_maps}"


def _run_on_folders(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Two folders of label maps; of the overrides, those that say how it is scored."""
    from crfnet.pipeline.evaluate_label_folders import evaluate_label_folders
    from crfnet.pipeline.run_config import load_run

    _check_options_without_config(options, overrides)
    names = _class_names(options)
    if options.output is not None:
        check_apart(options, None, options.output)
    run = load_run(None, overrides)
    if options.resume:
        raise InputError("evaluate --resume: needs a CONFIG; two folders are scored from the beginning")
    return evaluate_label_folders(
        options.predictions,
        options.labels,
        names,
        run,
        output=options.output,
        overwrite=options.overwrite,
        command=command,
    )


def _check_options_without_config(options: Namespace, overrides: Sequence[str]) -> None:
    """Without a config, only some options mean something."""
    if options.predictions is None or options.labels is None or options.num_classes is None:
        raise InputError("evaluate: give a CONFIG, or --predictions DIR --labels DIR --num-classes N")
    for name in ("crf", "folds", "exclude", "split"):
        if getattr(options, name) is not None:
            raise InputError(f"evaluate --{name}: needs a CONFIG")
    keys = [each.partition("=")[0] for each in overrides if each.startswith("--")]
    strangers = [key for key in keys if not key.startswith("--evaluation.") and key != "--device"]
    if strangers:
        raise InputError(f"evaluate {strangers[0]}: without CONFIG only --evaluation.* and --device are read")


def _class_names(options: Namespace) -> list[str]:
    from crfnet.labels import VOID

    number = options.num_classes
    require("evaluate --num-classes", number, 2 <= number <= VOID, f"2..{VOID}")
    if options.class_names is None:
        return [str(i) for i in range(number)]
    names = [name.strip() for name in options.class_names.split(",")]
    if len(names) != number:
        raise InputError(
            f"evaluate --class-names: {len(names)} names, must be {number} as --num-classes says"
        )
    once = all(names) and len(set(names)) == number
    require("evaluate --class-names", options.class_names, once, "names that differ, none of them empty")
    return names
