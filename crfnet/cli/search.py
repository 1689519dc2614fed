"""``crfnet search``: the CRF's parameters on cached scores."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crfnet.cli.parser import add_run_command
from crfnet.cli.shared import check_apart, load

if TYPE_CHECKING:
    from crfnet.data import SegmentationDataset
    from crfnet.pipeline.run_config import Run
    from crfnet.score_cache import ScoreFolder

__all__ = ["add_parser", "run"]

_KEYS = """\
  --search.images 100, --search.seed 1   how many images are searched on, and which are drawn
  --search.folds 5   cross-validated: `crfnet evaluate --folds` then scores every image of the search
  --search.w1 "[1, 2, 4]", --search.theta_alpha, --search.theta_beta   the coarse grid
"""
_LEFT = "left in OUTPUT/search: best.yaml, images.txt, table.csv, heatmap.png, with folds folds.csv\n"


def add_parser(commands: Any) -> None:
    """``search``."""
    summary = "cross-validate w1, theta_alpha, theta_beta on cached scores, coarse to fine"
    parser = add_run_command(commands, "search", summary, resume=True, keys=_KEYS)
    parser.epilog = f"{parser.epilog}{_LEFT}"
    parser.add_argument(
        "--scores", metavar="PATH", type=Path, required=True, help="folder of cached scores, or one .npz"
    )
    parser.add_argument(
        "--domain-transform",
        action="store_true",
        help="search the widths of a domain transform (section domain_transform_search) instead of a CRF's",
    )


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Search; the best parameters are printed."""
    from crfnet.data import load_dataset
    from crfnet.files import check_writable
    from crfnet.pipeline.build import resolve_device
    from crfnet.score_cache import ScoreFolder
    from crfnet.search import search

    run = load(options, overrides)
    folder = run.output / "search"
    check_apart(options, run, folder)
    check_writable(folder)
    dataset, scores = load_dataset(run.data, "val"), ScoreFolder(options.scores)
    if options.domain_transform:
        return _search_domain_transform(options, run, dataset, scores, command)
    search(
        dataset,
        dataset.ids,
        scores,
        run.search,
        folder,
        resume=options.resume,
        overwrite=options.overwrite,
        device=resolve_device(run.device),
    )
    best = (folder / "best.yaml").read_text(encoding="utf-8")
    return f"{best}\nparameters: {folder / 'best.yaml'}\nall points: {folder / 'table.csv'}, heatmap.png"


def _search_domain_transform(
    options: Namespace, run: "Run", dataset: "SegmentationDataset", scores: "ScoreFolder", command: str
) -> str:
    from dataclasses import replace

    from crfnet.pipeline.build import resolve_device
    from crfnet.pipeline.digests import text_digest
    from crfnet.pipeline.run_folder import open_run
    from crfnet.search import draw_images, search_domain_transform

    folder = run.output / "search_domain_transform"
    ids, data = draw_images(dataset.ids, run.search), dataset.check()
    digests = {"images": data.images, "labels": data.labels, "choice of images": text_digest(ids)}
    digests["scores"] = scores.digest(ids)
    how = {"resume": options.resume, "overwrite": options.overwrite}
    with open_run(replace(run, output=folder), command=command, digests=digests, **how):
        search_domain_transform(
            dataset, ids, scores, run.domain_transform_search, run.domain_transform, folder,
            device=resolve_device(run.device),
        )  # fmt: skip
    best = (folder / "best.yaml").read_text()
    return f"{best}\nparameters: {folder / 'best.yaml'}\nall points: {folder / 'table.csv'}"
