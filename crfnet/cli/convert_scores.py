"""``crfnet convert-scores``: scores of other frameworks as a score folder."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from crfnet.cli.shared import check_apart
from crfnet.errors import InputError

__all__ = ["add_parser", "run"]

_EPILOG = """\
examples:
  crfnet convert-scores features/fc8/val --to scores --images VOC2012/JPEGImages
      .mat files of DeepLab's Caffe release: <id>_blob_0.mat, variable data, (w, h, l, 1), padded to 513 x 513
  crfnet convert-scores softmax --to scores --kind probabilities --axes hwl
      .npy or .npz files <id>.npy of (h, w, l) probabilities, at image size or at any stride, bytes too;
      without --axes the order is recognized where sums, sizes or images (--images) show it
  crfnet convert-scores pngs --to scores
      gray pictures <id>_<class>.png, 8 or 16 bit, one per image and class, white = 1
then:
  crfnet predict --scores scores photos          label maps through a CRF; no masks, no CONFIG
  crfnet search CONFIG --scores scores           the CRF's parameters, where there are masks
"""


def add_parser(commands: Any) -> None:
    """``convert-scores``."""
    summary = (
        "turn another program's score files into a score folder, which predict, search and evaluate read"
    )
    parser = commands.add_parser("convert-scores", help=summary, description=summary, epilog=_EPILOG)
    parser.add_argument("source", metavar="SRC", type=Path, help="folder of score files")
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="the score folder to write")
    parser.add_argument(
        "--format", choices=("mat", "npz", "npy", "png"), default="", help="default: by the files' ending"
    )
    parser.add_argument(
        "--kind",
        choices=("logits", "probabilities"),
        default="",
        help="default: logits; of png probabilities",
    )
    parser.add_argument(
        "--axes", default="", help="order of labels, rows, columns; default: recognized, of mat whl"
    )
    parser.add_argument("--key", default="", help="the array in a .mat or .npz file; default: the only one")
    parser.add_argument("--strip", help="end of the names that is no part of the id; default: of mat _blob_0")
    parser.add_argument(
        "--images", metavar="DIR", type=Path, help="crop padded scores to these images' sizes"
    )
    parser.add_argument(
        "--align-corners", action="store_true", help="scores at a stride lie on the corner pixels' centers"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the scores that DIR holds")


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Convert the files of one folder."""
    from crfnet.files import check_writable
    from crfnet.score_cache.converters import ConvertOptions, convert_scores

    del command
    if overrides:
        raise InputError(f"convert-scores: {overrides[0]} changes a config, but there is none")
    check_apart(options, None, options.to)
    check_writable(options.to)
    given = {field.name: getattr(options, field.name) for field in fields(ConvertOptions)}
    scores = convert_scores(options.source, options.to, ConvertOptions(**given), overwrite=options.overwrite)
    return f"scores of {len(scores.ids)} images, {scores.num_classes} classes: {options.to}"
