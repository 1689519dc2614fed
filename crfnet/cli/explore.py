"""``crfnet explore``: a local page with the CRF's parameters as sliders."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crfnet.errors import InputError

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """``explore``."""
    summary = "a local page with sliders for the CRF's parameters on one image; save writes them for --crf"
    parser = commands.add_parser("explore", help=summary, description=summary)
    parser.add_argument("image", metavar="IMAGE", type=Path, help="the image file")
    parser.add_argument(
        "scores",
        metavar="SCORES",
        type=Path,
        help="score folder or .npz of `crfnet scores`, or one .npy or .npz file of (l, h, w)",
    )
    parser.add_argument("--id", metavar="ID", help="the image's name in SCORES; default: IMAGE's, no ending")
    parser.add_argument("--crf", metavar="YAML", type=Path, help="start from these parameters (best.yaml)")
    parser.add_argument("--labels", metavar="PNG", type=Path, help="true labels: shows accuracy and mIoU")
    parser.add_argument("--classes", metavar="FILE", type=Path, help="names of the classes, one a line")
    parser.add_argument(
        "--palette",
        metavar="NAME",
        help="colors (and names) of voc, camvid, cityscapes, context, context59, person_part, or a file of "
        "'red green blue' lines; default: those of --labels",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="below which save writes; default: here",
    )
    parser.add_argument("--port", metavar="N", type=int, default=5006, help="of 127.0.0.1; default: 5006")
    parser.add_argument("--no-browser", action="store_true", help="serve the page without opening it")


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Serve the page until it is interrupted."""
    from crfnet.crf.config_file import load_crf_config
    from crfnet.crf.layer import CRFConfig
    from crfnet.data.image_files import read_image
    from crfnet.explore import open_session
    from crfnet.explore.server import serve

    del command
    if overrides:
        raise InputError(f"explore: {overrides[0]} is no option; the page and --crf say what the CRF is")
    id = options.id or options.image.stem
    if not options.output.is_dir():
        raise InputError(f"explore --output: {options.output}: no such folder")
    session = open_session(
        read_image(options.image),
        options.scores,
        id,
        labels=options.labels,
        classes=options.classes,
        palette=options.palette,
    )
    crf = CRFConfig(prune=1e-3) if options.crf is None else load_crf_config(options.crf)
    source = f"chosen by eye on {options.image}; scores: {options.scores}"
    serve(session, crf, source, options.output, port=options.port, browser=not options.no_browser)
    return ""
