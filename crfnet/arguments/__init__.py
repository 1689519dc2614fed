"""The arguments of the command line: every command, every option, and what --help says."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from crfnet.arguments.incoming import add_convert_scores, add_data, add_import
from crfnet.arguments.parser import Parser
from crfnet.arguments.results import add_evaluate, add_explore, add_predict, add_report
from crfnet.arguments.stages import add_compare, add_config, add_scores, add_search, add_train

__all__ = ["parsed", "split"]

_EPILOG = """\
how the commands follow one another:
  crfnet demo                                    everything below on the built-in toy set, minutes, offline
  crfnet compare configs/camvid/deeplab_v2_resnet18_aspp_s.yaml    the same on your data: five arms, one report

or step by step:
  crfnet data check CONFIG                       every image and mask read once: counts, sizes, classes, void
  crfnet train CONFIG --stage unary              the network alone              -> OUTPUT/unary/train
  crfnet scores CONFIG --checkpoint CKPT         its scores on a split, cached  -> OUTPUT/scores
  crfnet search CONFIG --scores OUTPUT/scores    the CRF's parameters           -> OUTPUT/search/best.yaml
  crfnet train CONFIG --stage joint --checkpoint CKPT --crf best.yaml           -> OUTPUT/joint/train
  crfnet evaluate CONFIG --scores OUTPUT/scores --crf best.yaml --exclude OUTPUT/search/images.txt
  crfnet report OUTPUT                           the report again, of a finished compare
  crfnet report OUTPUT/evaluation                the same of an evaluate
  crfnet report RUN1 RUN2 RUN3 --output DIR      one report of runs that differ in their seed
  crfnet predict CONFIG --checkpoint CKPT --crf best.yaml photo.jpg
  crfnet import FILE --out CKPT                  a public checkpoint of DeepLab, as one of ours

torchrun --nproc-per-node=N -m crfnet COMMAND ...   train, scores, evaluate and compare share their work

Every key of a config can be changed on the command line: --search.images 50 --model.width 0.5
`crfnet config --help` explains every key, `crfnet config CONFIG` prints what a file comes to.

exit status: 0 done; 2 bad input, or a place that cannot be written, told before the work; 1 a failure in its
middle such as a full disk, what was finished is kept; 130 and 143 interrupted, terminated
"""

#: Keys of a config that stand in no section.
_RUN_KEYS = ("--title", "--seed", "--device", "--pictures")


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; images of predict may stand behind some, where argparse no longer takes them."""
    parser = _parser()
    options, left = parser.parse_known_args(arguments)
    if left and (options.command != "predict" or any(each.startswith("-") for each in left)):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        options.images += map(Path, left)
    return options


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options of the command, and changes of the config: ``--section.key VALUE``, ``--seed=1``."""
    options: list[str] = []
    overrides: list[str] = []
    left = iter(arguments)
    for argument in left:
        name, _, value = argument.partition("=")
        if not (name.startswith("--") and ("." in name or name in _RUN_KEYS)):
            options.append(argument)
        elif value or "=" in argument:
            overrides.append(argument)
        else:
            overrides += [argument, *([following] if (following := next(left, None)) is not None else [])]
    return options, overrides


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="crfnet",
        description="Segmentation networks with sharp boundaries: train, search, train jointly, compare.",
        epilog=_EPILOG,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        add_compare,
        add_train,
        add_scores,
        add_search,
        add_evaluate,
        add_predict,
        add_report,
        add_convert_scores,
        add_import,
        add_explore,
        add_data,
        add_config,
    ):
        add(commands)
    return parser
