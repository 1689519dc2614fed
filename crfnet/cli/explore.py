"""``crfnet explore``: a local page with the CRF's parameters as sliders."""

import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crfnet.errors import InputError, require

if TYPE_CHECKING:
    from crfnet.explore import Session

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """``explore``."""
    summary = "a local page with sliders for the CRF's parameters on one image; save writes them for --crf"
    parser = commands.add_parser("explore", help=summary, description=summary)
    parser.add_argument(
        "image",
        metavar="IMAGE",
        type=Path,
        nargs="?",
        help="the image file; without it, a built-in photo with the scores of a public network",
    )
    parser.add_argument(
        "scores",
        metavar="SCORES",
        type=Path,
        nargs="?",
        help="score folder or .npz of `crfnet scores`, or one .npy or .npz file of (l, h, w)",
    )
    parser.add_argument(
        "--image-range",
        metavar=("LOW", "HIGH"),
        type=float,
        nargs=2,
        help="of an IMAGE of 16 bits or floats: the values that become 0 and 255 (data.image_range)",
    )
    parser.add_argument(
        "--channels", metavar="N", type=int, default=3, help="bands of IMAGE (data.channels); default: 3"
    )
    parser.add_argument("--id", metavar="ID", help="the image's name in SCORES; default: IMAGE's, no ending")
    parser.add_argument(
        "--crf", metavar="YAML", type=Path, help="start from these: best.yaml, of a CRF or a domain transform"
    )
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
    from crfnet.crf.layer import CRFConfig
    from crfnet.domain_transform import DomainTransformConfig
    from crfnet.domain_transform.config_file import load_refinement
    from crfnet.explore.server import serve

    del command
    if overrides:
        raise InputError(f"explore: {overrides[0]} is no option; the page and --crf say what the CRF is")
    if not options.output.is_dir():
        raise InputError(f"explore --output: {options.output}: no such folder")
    crf = CRFConfig() if options.crf is None else load_refinement(options.crf)
    if isinstance(crf, DomainTransformConfig) and crf.edges == "learned":
        raise InputError(
            f"explore --crf: {options.crf}: domain_transform.edges is learned, must be image: the page has "
            "scores and no network"
        )
    session, source = _built_in(options) if options.image is None else _own(options)
    serve(session, crf, source, options.output, port=options.port, browser=not options.no_browser)
    return ""


def _own(options: Namespace) -> "tuple[Session, str]":
    """The image and scores that are named, and the line that says so."""
    from crfnet.data.image_files import read_image
    from crfnet.explore import open_session

    if options.scores is None:
        raise InputError(f"explore: SCORES are missing, which a network gave for {options.image}")
    low, high = options.image_range or (0, 1)
    ordered = math.isfinite(low) and math.isfinite(high) and low < high
    require("explore --image-range", options.image_range, ordered, "two finite numbers, low < high")
    require("explore --channels", options.channels, options.channels >= 1, "at least 1")
    session = open_session(
        read_image(options.image, options.channels, options.image_range and (low, high)),
        options.scores,
        options.id or options.image.stem,
        labels=options.labels,
        classes=options.classes,
        palette=options.palette,
    )
    return session, f"chosen by eye on {options.image}; scores: {options.scores}"


def _built_in(options: Namespace) -> "tuple[Session, str]":
    """The example photo, and the line that says so."""
    from crfnet.explore import Session
    from crfnet.photo import example_photo

    for name in ("id", "labels", "classes", "palette", "image_range"):
        if getattr(options, name) is not None:
            raise InputError(
                f"explore: --{name.replace('_', '-')} belongs to an IMAGE and SCORES, and none are given"
            )
    image, logits, names = example_photo()
    source = "chosen by eye on crfnet's example photo; scores: a public DeepLab's"
    return Session(image[0], logits, names=names), source
