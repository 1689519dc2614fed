"""``crfnet config``: every key of a config, explained or with its value."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """``config``."""
    summary = "print a config with every key, or (--help) explain every key"
    parser = commands.add_parser("config", help=summary, add_help=False)
    parser.add_argument("config", metavar="CONFIG", type=Path, nargs="?", help="YAML file")
    parser.add_argument("-h", "--help", action="store_true", dest="explain")


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Print the config that a file and the changes come to."""
    from crfnet.config.reader import parser
    from crfnet.pipeline import run_config

    del command
    if options.explain:
        return str(parser(run_config.Run, "crfnet config").format_help()).rstrip()
    return run_config.dump_run(run_config.load_run(options.config, overrides)).rstrip()
