"""``crfnet report``: that of a finished run again, or one of several runs with different seeds."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crfnet.cli.shared import check_apart
from crfnet.errors import InputError

__all__ = ["add_parser", "run"]

_EPILOG = """\
examples:
  crfnet report runs/camvid
      writes its report again
  crfnet report runs/seed0 runs/seed1 runs/seed2 --output runs/seeds
      one report over the three: means over seeds, intervals over images and seeds; first, for each seed,
      crfnet compare CONFIG --seed 1 --output runs/seed1
"""


def add_parser(commands: Any) -> None:
    """``report``."""
    summary = "write the report of a finished compare or evaluate again, or one of several seeds"
    parser = commands.add_parser(
        "report",
        help=summary,
        description=f"{summary}, from what lies in the folders; nothing is predicted again",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "folders", metavar="FOLDER", type=Path, nargs="+", help="one that holds report.json; several: seeds"
    )
    parser.add_argument("--output", metavar="DIR", type=Path, help="write there; needed for several folders")
    parser.add_argument("--overwrite", action="store_true", help="replace what DIR holds")


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Write the report from what lies in the folders."""
    from crfnet.pipeline.rewrite_report import rewrite_report

    if overrides:
        raise InputError(f"report: {overrides[0]} changes a config, but a report only tells what was done")
    if options.output is not None:
        check_apart(options, None, options.output)
    report, table = rewrite_report(
        options.folders, options.output, overwrite=options.overwrite, command=command
    )
    return f"\n{table}\n\nreport: {report}, report.html"
