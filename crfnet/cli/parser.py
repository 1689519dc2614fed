"""The command line's parser: every command, and errors in one line."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from crfnet.errors import InputError

__all__ = ["SEED", "Command", "Parser", "add_crf", "add_run_command", "parse", "split"]

_EPILOG = """\
how the commands follow one another:
  crfnet demo                                    everything below on the built-in toy set, minutes, offline
  crfnet compare CONFIG                          the same on your data: five arms, one report
      such as configs/camvid/deeplab_v2_resnet18_aspp_s.yaml

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
  crfnet predict --scores DIR photos             label maps of any network's scores, without CONFIG or masks
  crfnet import FILE --out CKPT                  a public checkpoint of DeepLab, as one of ours
  crfnet export CKPT --to onnx                   the network for another runtime, the CRF comes after

torchrun --nproc-per-node=N -m crfnet COMMAND ...   train, scores, evaluate and compare share their work

Every key of a config can be changed on the command line: --search.images 50 --model.width 0.5
`crfnet config --help` explains every key, `crfnet config CONFIG` prints what a file comes to.

exit status: 0 done; 2 bad input, or a place that cannot be written, told before the work; 1 a failure in its
middle such as a full disk, what was finished is kept; 130 and 143 interrupted, terminated
"""

_KEYS_EPILOG = """\
keys of the config, each of which can be changed here:
{more}  --threads 1        of the CPU; 0, the default, is one a core
  --device cpu       not a GPU where there is one
  --section.key VALUE, such as --search.images 50; `crfnet config --help` explains them all
"""

#: `keys` of the commands that train.
SEED = "  --seed 1           of the training; `crfnet report` makes one report of runs that differ in it\n"

#: Keys of a config that stand in no section.
_RUN_KEYS = ("--title", "--seed", "--device", "--threads", "--pictures")


class Command(Protocol):
    """A module of this package: one command, its options and what it does."""

    def add_parser(self, commands: Any) -> None:
        """Add the command, its options and its help. Imports nothing heavy, so that --help is fast."""

    def run(self, options: argparse.Namespace, overrides: Sequence[str], command: str) -> str:
        """Do the work; heavy imports are made here.

        Args:
            options: parsed.
            overrides: changes of the config, ``--section.key value``.
            command: the whole command line, for the record.

        Returns:
            What is printed at the end.
        """


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, takes no abbreviations, and shows an epilog as it is written."""

    def __init__(self, **options: Any) -> None:
        if "epilog" in options:
            options["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """One `InputError` for all that the arguments may lack."""
        raise InputError(f"{message} ({self.prog} --help tells more)")


def parse(arguments: Sequence[str], commands: Iterable[Command]) -> argparse.Namespace:
    """The options; images of predict may stand behind some, where argparse no longer takes them."""
    parser = Parser(
        prog="crfnet",
        description="Segmentation networks with sharp boundaries: train, search, train jointly, compare.",
        epilog=_EPILOG,
    )
    choices = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in dict.fromkeys(commands):
        command.add_parser(choices)
    options, left = parser.parse_known_args(arguments)
    if left and (options.command != "predict" or any(each.startswith("-") for each in left)):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        options.images += map(Path, left)
    return options


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options of the command, and changes of the config: ``--section.key VALUE``, ``--seed=1``.

    To ``crfnet config`` every option is a key, an unknown one included.
    """
    options: list[str] = []
    overrides: list[str] = []
    left = iter(arguments)
    for argument in left:
        name, _, value = argument.partition("=")
        if not _is_key(name, of_config=options[:1] == ["config"]):
            options.append(argument)
        elif value or "=" in argument:
            overrides.append(argument)
        else:
            overrides += [argument, *([following] if (following := next(left, None)) is not None else [])]
    return options, overrides


def _is_key(name: str, *, of_config: bool) -> bool:
    return name.startswith("--") and (
        "." in name or name in _RUN_KEYS or (of_config and name not in ("--", "--help"))
    )


def add_run_command(
    commands: Any, name: str, summary: str, *, config: bool = True, resume: bool = False, keys: str = ""
) -> argparse.ArgumentParser:
    """A command that leaves an output folder.

    Args:
        commands: to which it is added.
        name: of the command.
        summary: its line of help.
        config: it needs a config file.
        resume: it goes on where it was stopped.
        keys: lines of help on the keys that matter most to it.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, epilog=_KEYS_EPILOG.format(more=keys)
    )
    if config:
        parser.add_argument(
            "config", metavar="CONFIG", type=Path, help="YAML file; --section.key VALUE changes a key"
        )
    parser.add_argument("--output", metavar="DIR", type=Path, help="instead of the config's output folder")
    parser.add_argument("--overwrite", action="store_true", help="replace what the output folder holds")
    if resume:
        parser.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    return parser


def add_crf(parser: argparse.ArgumentParser) -> None:
    """``--crf``: a CRF from a file."""
    parser.add_argument(
        "--crf", metavar="YAML", type=Path, help="put this CRF behind the network (best.yaml)"
    )
