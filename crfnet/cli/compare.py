"""``crfnet demo`` and ``crfnet compare``: all arms, one report."""

import logging
import textwrap
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from crfnet.cli.parser import SEED, add_run_command
from crfnet.cli.shared import check_apart, load, open_page

__all__ = ["add_parser", "run"]

_LOG = logging.getLogger("crfnet")
_PHOTO = "photo.jpg"


def add_parser(commands: Any) -> None:
    """``demo`` and ``compare``."""
    summary = "a photo before and after its CRF, then the comparison on the toy set: CPU, offline, minutes"
    demo = add_run_command(commands, "demo", summary, config=False, resume=True, keys=SEED)
    demo.add_argument(
        "--open", action="store_true", help="show the report in a browser; without a display, say where it is"
    )
    summary = "train, search, train jointly, score the arms, write one report"
    compare = add_run_command(commands, "compare", summary, resume=True, keys=SEED)
    for parser in (demo, compare):
        parser.add_argument(
            "--arms",
            metavar="A,B,...",
            type=lambda text: tuple(text.split(",")),
            help="of unary, posthoc, joint, unary+, posthoc+ (the default), dt, dt_joint, dt+ (a domain "
            "transform instead of a CRF: behind the network, trained with it, behind unary+), and the names "
            "under the config's own_arms:",
        )
    compare.add_argument(
        "--checkpoint",
        metavar="CKPT",
        type=Path,
        help="a trained network to begin with, not training one",
    )


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Compare, on the images of a config or on the built-in toy set."""
    from crfnet.pipeline.compare_arms import compare
    from crfnet.report import MADE_UP

    with ExitStack() as stack:
        if options.command == "demo":
            options.config = stack.enter_context(as_file(files("crfnet.pipeline") / "demo.yaml"))
        run = load(options, overrides)
    if options.arms is not None:
        run = replace(run, arms=options.arms)
    check_apart(options, run, run.output)
    first = partial(_draw_photo, run.output / _PHOTO) if options.command == "demo" else None
    how = {"resume": options.resume, "overwrite": options.overwrite, "command": command}
    report, table = compare(run, checkpoint=getattr(options, "checkpoint", None), first=first, **how)
    notes = "".join(f"\n{textwrap.fill(note, 100)}" for note in MADE_UP.values() if run.data.name == "toy")
    said = f"\n{table}\n\nreport: {report}, report.html{notes}"
    if options.command != "demo" or not options.open or open_page(report.with_name("report.html")):
        return said
    return f"{said}\nno display to open it on: {report.with_name('report.html').resolve().as_uri()}"


def _draw_photo(path: Path) -> None:
    """Put a CRF behind a public network's logits of one photo, draw it, and say where."""
    import torch

    from crfnet.crf import DenseCRF
    from crfnet.files import write_atomically
    from crfnet.photo import CLOSE_UP, example_photo
    from crfnet.report.before_after import before_after_figure, jpeg
    from crfnet.report.closeup import Window

    _LOG.info("a photo first; a new installation compiles the CRF's kernels for it, once")
    image, logits, names = example_photo()
    crf = DenseCRF.preset("deeplab", num_classes=len(names)).eval()
    with torch.no_grad():
        after = crf.map(logits, image)
    maps = {"a public DeepLab": logits.argmax(1)[0], "the same + CRF": after[0]}
    write_atomically(path, jpeg(before_after_figure(image[0], maps, window=Window(*CLOSE_UP))))
    _LOG.info("a photo before and after its CRF: %s; now the comparison", path)
