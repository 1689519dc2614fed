"""``crfnet scores``: a network's scores of a split, cached."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crfnet.cli.parser import add_run_command
from crfnet.cli.shared import check_apart, load

__all__ = ["add_parser", "run"]


def add_parser(commands: Any) -> None:
    """``scores``."""
    summary = "run a trained network over a split and keep its scores for the search"
    parser = add_run_command(commands, "scores", summary)
    parser.add_argument("--checkpoint", metavar="CKPT", type=Path, required=True, help="trained weights")
    parser.add_argument("--split", choices=("train", "val"), default="val", help="default: val")


def run(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """Write the scores of every image of the split."""
    from crfnet.data import load_dataset
    from crfnet.distributed import on_rank_zero
    from crfnet.files import check_writable
    from crfnet.pipeline.build import build_run_segmenter
    from crfnet.pipeline.cache_scores import cache_scores
    from crfnet.pipeline.digests import weights_digest

    del command
    run = load(options, overrides)
    folder = run.output / "scores"
    check_apart(options, run, folder)
    on_rank_zero(lambda: check_writable(folder))
    dataset = load_dataset(run.data, options.split)
    model = build_run_segmenter(run, dataset.num_classes, options.checkpoint, None).eval()
    images = on_rank_zero(dataset.check).images
    weights = on_rank_zero(lambda: weights_digest(options.checkpoint))
    scores = cache_scores(
        model,
        dataset,
        dataset.ids,
        folder,
        config=run.predict,
        source=f"{options.checkpoint}, split {options.split}",
        digests={"images": images, "weights": weights},
        overwrite=options.overwrite,
    )
    return f"scores of {len(scores.ids)} images: {folder}"
