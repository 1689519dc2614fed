"""Arguments of the commands that make use of what was trained and searched."""

import argparse
from pathlib import Path
from typing import Any

from crfnet.arguments.parser import command

__all__ = ["add_evaluate", "add_explore", "add_predict", "add_report"]


def add_evaluate(commands: Any) -> None:
    """``evaluate``."""
    summary = (
        "mIoU, accuracies, trimap curves, Boundary IoU and F of predictions, cached scores or a checkpoint"
    )
    evaluate = command(commands, "evaluate", summary, config=False, resume=True)
    evaluate.add_argument("--split", choices=("train", "val"), help="default: val")
    source = evaluate.add_mutually_exclusive_group(required=True)
    source.add_argument("--predictions", metavar="DIR", type=Path, help="folder of <id>.png label maps")
    source.add_argument("--scores", metavar="PATH", type=Path, help="folder of cached scores, or one .npz")
    source.add_argument("--checkpoint", metavar="CKPT", type=Path, help="trained weights")
    _add_crf(evaluate)
    evaluate.add_argument(
        "--exclude", metavar="FILE", type=Path, help="ids to leave out (images.txt of a search)"
    )
    evaluate.usage = (
        "crfnet evaluate CONFIG (--predictions DIR | --scores PATH | --checkpoint CKPT) [...]\n"
        "       crfnet evaluate --predictions DIR --labels DIR --num-classes N [--class-names A,B,...] [...]"
    )
    evaluate.add_argument(
        "config", metavar="CONFIG", type=Path, nargs="?", help="YAML file that says which data set"
    )
    folders = evaluate.add_argument_group(
        "without CONFIG", "two folders of PNGs, files paired by name, 255 = void; writes only with --output"
    )
    folders.add_argument("--labels", metavar="DIR", type=Path, help="folder of <id>.png true label maps")
    folders.add_argument("--num-classes", metavar="N", type=int, help="both hold labels 0..N-1")
    folders.add_argument("--class-names", metavar="A,B,...", help="names of the N classes; default: numbers")


def add_predict(commands: Any) -> None:
    """``predict``."""
    predict = command(commands, "predict", "label maps and overlays of images, or of a split")
    predict.add_argument("--checkpoint", metavar="CKPT", type=Path, required=True, help="trained weights")
    predict.add_argument("--split", choices=("train", "val"), help="default: none")
    _add_crf(predict)
    predict.add_argument("images", metavar="IMAGE", type=Path, nargs="*", help="image files; or use --split")


_REPORT = """\
examples:
  crfnet report runs/camvid
      writes its report again
  crfnet report runs/seed0 runs/seed1 runs/seed2 --output runs/seeds
      one report over the three: means over seeds, intervals over images and seeds; first, for each seed,
      crfnet compare CONFIG --seed 1 --output runs/seed1
"""


def add_report(commands: Any) -> None:
    """``report``."""
    summary = "write the report of a finished compare or evaluate again, or one of several seeds"
    made = commands.add_parser(
        "report",
        help=summary,
        description=f"{summary}, from what lies in the folders; nothing is predicted again",
        epilog=_REPORT,
    )
    made.add_argument(
        "folders", metavar="FOLDER", type=Path, nargs="+", help="one that holds report.json; several: seeds"
    )
    made.add_argument("--output", metavar="DIR", type=Path, help="write there; needed for several folders")
    made.add_argument("--overwrite", action="store_true", help="replace what DIR holds")


def add_explore(commands: Any) -> None:
    """``explore``."""
    summary = "a local page with sliders for the CRF's parameters on one image; save writes them for --crf"
    made = commands.add_parser("explore", help=summary, description=summary)
    made.add_argument("image", metavar="IMAGE", type=Path, help="the image file")
    made.add_argument(
        "scores",
        metavar="SCORES",
        type=Path,
        help="score folder or .npz of `crfnet scores`, or one .npy or .npz file of (l, h, w)",
    )
    made.add_argument("--id", metavar="ID", help="the image's name in SCORES; default: IMAGE's, no ending")
    made.add_argument("--crf", metavar="YAML", type=Path, help="start from these parameters (best.yaml)")
    made.add_argument("--labels", metavar="PNG", type=Path, help="true labels: shows accuracy and mIoU")
    made.add_argument("--classes", metavar="FILE", type=Path, help="names of the classes, one a line")
    made.add_argument(
        "--palette",
        metavar="NAME",
        help="colors (and names) of voc, camvid, cityscapes, context, context59, person_part, or a file of "
        "'red green blue' lines; default: those of --labels",
    )
    made.add_argument("--port", metavar="N", type=int, default=5006, help="of 127.0.0.1; default: 5006")
    made.add_argument("--no-browser", action="store_true", help="serve the page without opening it")


def _add_crf(made: argparse.ArgumentParser) -> None:
    made.add_argument("--crf", metavar="YAML", type=Path, help="put this CRF behind the network (best.yaml)")
