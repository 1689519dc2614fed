"""The command line: parse, call, and turn bad input into one line and exit status 2. No logic."""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from crfnet.errors import InputError

__all__ = ["main"]

_EPILOG = """\
how the commands follow one another:
  crfnet demo                                    everything below on the built-in toy set, minutes, offline
  crfnet compare configs/camvid/resnet18.yaml    the same on your data: five arms, one report

or step by step:
  crfnet train CONFIG --stage unary              the network alone              -> OUTPUT/unary/train
  crfnet scores CONFIG --checkpoint CKPT         its scores on a split, cached  -> OUTPUT/scores
  crfnet search CONFIG --scores OUTPUT/scores    the CRF's parameters           -> OUTPUT/search/best.yaml
  crfnet train CONFIG --stage joint --checkpoint CKPT --crf best.yaml           -> OUTPUT/joint/train
  crfnet evaluate CONFIG --scores OUTPUT/scores --crf best.yaml --exclude OUTPUT/search/images.txt
  crfnet predict CONFIG --checkpoint CKPT --crf best.yaml photo.jpg

Every key of a config can be changed on the command line: --search.images 50 --model.width 0.5
`crfnet config --help` explains every key, `crfnet config CONFIG` prints what a file comes to.
"""


#: Keys of a config that stand in no section.
_RUN_KEYS = ("--title", "--seed", "--device", "--pictures")


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} ({self.prog} --help tells more)")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command ``crfnet``. Exit status: 0 done, 2 bad input (one line on stderr), 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("crfnet").setLevel(logging.INFO)
    try:
        _run(arguments)
    except InputError as error:
        print(f"crfnet: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("crfnet: interrupted; the same command with --resume goes on where it was", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _run(arguments: list[str]) -> None:
    if arguments[:1] == ["config"]:
        _print_config(arguments[1:])
        return
    arguments, overrides = _split(arguments)
    options = _parser().parse_args(arguments)
    # torch takes seconds to import, which --help should not.
    from crfnet import commands
    from crfnet.training import TrainingDiverged

    command = shlex.join(["crfnet", *arguments, *overrides])
    try:
        print(commands.COMMANDS[options.command](options, overrides, command))
    except TrainingDiverged as error:
        print(f"crfnet: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
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


def _print_config(arguments: list[str]) -> None:
    from crfnet import config

    if {"-h", "--help"} & set(arguments):
        config.parser().print_help()
        return
    path = Path(arguments.pop(0)) if arguments and not arguments[0].startswith("--") else None
    print(config.dump_run(config.load_run(path, arguments)), end="")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="crfnet",
        description="Segmentation networks with sharp boundaries: train, search, train jointly, compare.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str, *, config: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if config:
            made.add_argument(
                "config", metavar="CONFIG", type=Path, help="YAML file; --section.key VALUE changes a key"
            )
        made.add_argument("--output", metavar="DIR", type=Path, help="instead of the config's output folder")
        made.add_argument("--overwrite", action="store_true", help="replace what the output folder holds")
        return made

    demo = command(
        "demo", "the whole comparison on the built-in toy set: CPU, offline, minutes", config=False
    )
    compare = command("compare", "train, search, train jointly, score all five arms, write one report")
    train = command("train", "train the network alone, or network and CRF together")
    scores = command("scores", "run a trained network over a split and keep its scores for the search")
    search = command("search", "cross-validate w1, theta_alpha, theta_beta on cached scores, coarse to fine")
    evaluate = command(
        "evaluate", "mIoU, accuracies and trimap curves of predictions, cached scores or a checkpoint"
    )
    predict = command("predict", "label maps and overlays of images, or of a split")
    command("config", "print a config with every key, or (--help) explain every key")

    for part in (demo, compare, train, search):
        part.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    train.add_argument("--stage", choices=("unary", "joint"), default="unary", help="default: unary")
    train.add_argument(
        "--checkpoint", metavar="CKPT", type=Path, help="start from these weights (stage joint needs them)"
    )
    train.add_argument(
        "--crf", metavar="YAML", type=Path, help="stage joint: start the CRF from a search's best.yaml"
    )
    for part in (scores, predict):
        part.add_argument("--checkpoint", metavar="CKPT", type=Path, required=True, help="trained weights")
    for part in (scores, evaluate, predict):
        default = None if part is predict else "val"
        part.add_argument("--split", choices=("train", "val"), default=default, help=f"default: {default}")
    search.add_argument(
        "--scores", metavar="PATH", type=Path, required=True, help="folder of cached scores, or one .npz"
    )
    source = evaluate.add_mutually_exclusive_group(required=True)
    source.add_argument("--predictions", metavar="DIR", type=Path, help="folder of <id>.png label maps")
    source.add_argument("--scores", metavar="PATH", type=Path, help="folder of cached scores, or one .npz")
    source.add_argument("--checkpoint", metavar="CKPT", type=Path, help="trained weights")
    for part in (evaluate, predict):
        part.add_argument(
            "--crf", metavar="YAML", type=Path, help="put this CRF behind the network (best.yaml)"
        )
    evaluate.add_argument(
        "--exclude", metavar="FILE", type=Path, help="ids to leave out (images.txt of a search)"
    )
    predict.add_argument("images", metavar="IMAGE", type=Path, nargs="*", help="image files; or use --split")
    return parser
