"""``demo`` and ``compare``."""

from argparse import Namespace
from collections.abc import Sequence
from importlib.resources import as_file, files

from crfnet.commands.common import load
from crfnet.pipeline.compare import compare

__all__ = ["compare_command", "demo_command"]


def demo_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """``crfnet demo``: the comparison on the built-in toy set."""
    with as_file(files("crfnet.pipeline") / "demo.yaml") as path:
        options.config = path
        return compare_command(options, overrides, command)


def compare_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """``crfnet compare``: all five arms, one report."""
    run = load(options, overrides)
    report, table = compare(run, resume=options.resume, overwrite=options.overwrite, command=command)
    return f"\n{table}\n\nreport: {report}, report.html"
