"""``crfnet data check`` and ``crfnet data voc-aug``: a data set, before anything is trained on it."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crfnet.cli.shared import check_not_read
from crfnet.errors import InputError, printable

__all__ = ["add_parser", "run"]

_EPILOG = """\
examples:
  crfnet data check configs/voc/deeplab_v2_vgg16_large_fov.yaml --data.root VOCdevkit/VOC2012
      reads both splits once: counts, sizes, classes, void, and every file that cannot be used (exit status 2)
  crfnet data voc-aug VOCdevkit/VOC2012 benchmark_RELEASE
      writes SegmentationClassAug and the list trainaug (10,582 ids) into VOC's folder; goes on where it was
"""


def add_parser(commands: Any) -> None:
    """``data``."""
    summary = "check a data set, or build trainaug of VOC and SBD"
    parser = commands.add_parser("data", help=summary, epilog=_EPILOG)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="read everything once and report")
    check.add_argument(
        "config", metavar="CONFIG", type=Path, help="YAML file that says which data set; --data.root PATH"
    )
    check.add_argument("--output", metavar="FILE", type=Path, help="the report as JSON, too")
    aug = actions.add_parser("voc-aug", help="trainaug = VOC 2012 and SBD, VOC's masks win")
    aug.add_argument("voc", metavar="VOC", type=Path, help="VOCdevkit/VOC2012, into which it is written")
    aug.add_argument("sbd", metavar="SBD", type=Path, help="folder of SBD: cls/<id>.mat, train.txt, val.txt")
    aug.add_argument(
        "--count", metavar="N", type=int, default=10582, help="ids that trainaug must have; default: 10582"
    )
    for part in (check, aug):
        part.add_argument("--workers", metavar="N", type=int, default=4, help="processes; default: 4")
        part.add_argument("--overwrite", action="store_true", help="replace what is there and differs")


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Check a data set, or build VOC's trainaug."""
    del command
    return _build_trainaug(options, overrides) if options.action == "voc-aug" else _check(options, overrides)


def _build_trainaug(options: Namespace, overrides: Sequence[str]) -> str:
    from crfnet.data.voc_aug import build_trainaug

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


def _check(options: Namespace, overrides: Sequence[str]) -> str:
    from tqdm import tqdm

    from crfnet.data import load_dataset
    from crfnet.data.check import check_splits
    from crfnet.files import check_writable
    from crfnet.pipeline.run_config import load_run

    if options.output is not None:
        check_writable(options.output, file=True)
        check_not_read(options.output, options)
    config = load_run(options.config, overrides).data
    train, val = load_dataset(config, "train"), load_dataset(config, "val")
    text, problem = check_splits(
        train, val, workers=options.workers, output=options.output, overwrite=options.overwrite
    )
    if problem is None:
        return text
    tqdm.write(printable(text))
    raise InputError(problem)
