"""``crfnet demo`` and ``crfnet compare``: all five arms, one report."""

from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.resources import as_file, files
from typing import Any

from crfnet.cli.parser import add_run_command
from crfnet.cli.shared import check_apart, load, open_page

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """``demo`` and ``compare``."""
    summary = "the whole comparison on the built-in toy set: CPU, offline, minutes"
    demo = add_run_command(commands, "demo", summary, config=False, resume=True)
    demo.add_argument(
        "--open", action="store_true", help="show the report in a browser; without a display, say where it is"
    )
    summary = "train, search, train jointly, score all five arms, write one report"
    add_run_command(commands, "compare", summary, resume=True)


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Compare, on the images of a config or on the built-in toy set."""
    from crfnet.pipeline.compare_arms import compare

    with ExitStack() as stack:
        if options.command == "demo":
            options.config = stack.enter_context(as_file(files("crfnet.pipeline") / "demo.yaml"))
        run = load(options, overrides)
    check_apart(options, run, run.output)
    report, table = compare(run, resume=options.resume, overwrite=options.overwrite, command=command)
    said = f"\n{table}\n\nreport: {report}, report.html"
    if options.command != "demo" or not options.open or open_page(report.with_name("report.html")):
        return said
    return f"{said}\nno display to open it on: {report.with_name('report.html').resolve().as_uri()}"
