"""What several commands do first."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crfnet.pipeline.run_config import Run

__all__ = ["load"]


def load(options: Namespace, overrides: Sequence[str]) -> "Run":
    """The run of ``CONFIG``, changed by ``overrides`` and ``--output``."""
    from crfnet.pipeline.run_config import load_run

    run = load_run(options.config, overrides)
    return run if options.output is None else replace(run, output=options.output)
