"""What several commands do first."""

import os
import sys
import webbrowser
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crfnet.pipeline.run_config import Run

__all__ = ["load", "open_page"]


def load(options: Namespace, overrides: Sequence[str]) -> "Run":
    """The run of ``CONFIG``, changed by ``overrides`` and ``--output``."""
    from crfnet.pipeline.run_config import load_run

    run = load_run(options.config, overrides)
    return run if options.output is None else replace(run, output=options.output)


def open_page(page: Path) -> bool:
    """Open a file in a browser of the desktop; False where there is none to be seen.

    Without a display `webbrowser` would start a browser of the terminal, or none, so it is not asked.
    """
    elsewhere = sys.platform in ("win32", "darwin")
    if not elsewhere and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        return webbrowser.open(page.resolve().as_uri())
    except (webbrowser.Error, OSError):
        return False
