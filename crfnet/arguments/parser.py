"""What all commands share: a parser that says in one line what is wrong, and the options of a run."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

from crfnet.errors import InputError

__all__ = ["Parser", "command"]


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, takes no abbreviations, and shows an epilog as it is written."""

    def __init__(self, **options: Any) -> None:
        if "epilog" in options:
            options["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """One `InputError` for all that the arguments may lack."""
        raise InputError(f"{message} ({self.prog} --help tells more)")


def command(
    commands: Any, name: str, summary: str, *, config: bool = True, resume: bool = False
) -> argparse.ArgumentParser:
    """A command that leaves an output folder.

    Args:
        commands: to which it is added.
        name: of the command.
        summary: its line of help.
        config: it needs a config file.
        resume: it goes on where it was stopped.
    """
    made: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    if config:
        made.add_argument(
            "config", metavar="CONFIG", type=Path, help="YAML file; --section.key VALUE changes a key"
        )
    made.add_argument("--output", metavar="DIR", type=Path, help="instead of the config's output folder")
    made.add_argument("--overwrite", action="store_true", help="replace what the output folder holds")
    if resume:
        made.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    return made
