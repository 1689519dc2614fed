"""``scores``, ``convert-scores`` and ``search``."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields

from crfnet.commands.common import load
from crfnet.data import load_dataset
from crfnet.distributed import on_rank_zero
from crfnet.files import check_writable
from crfnet.pipeline.build import build_run_segmenter, resolve_device
from crfnet.pipeline.cache_scores import cache_scores
from crfnet.score_cache import ScoreFolder
from crfnet.score_cache.converters import ConvertOptions, convert_scores
from crfnet.search import search

__all__ = ["convert_scores_command", "scores_command", "search_command"]


def scores_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """``crfnet scores``: a network's scores of a split, cached."""
    run = load(options, overrides)
    folder = run.output / "scores"
    on_rank_zero(lambda: check_writable(folder))
    dataset = load_dataset(run.data, options.split)
    model = build_run_segmenter(run, dataset.num_classes, options.checkpoint, None).eval()
    on_rank_zero(dataset.check)
    source = f"{options.checkpoint}, split {options.split}"
    scores = cache_scores(
        model,
        dataset,
        dataset.ids,
        folder,
        config=run.predict,
        source=source,
        overwrite=options.overwrite,
    )
    return f"scores of {len(scores.ids)} images: {folder}"


def search_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """``crfnet search``: the CRF's parameters on cached scores."""
    run = load(options, overrides)
    folder = run.output / "search"
    check_writable(folder)
    dataset, scores = load_dataset(run.data, "val"), ScoreFolder(options.scores)
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
    best = (folder / "best.yaml").read_text()
    return f"{best}\nparameters: {folder / 'best.yaml'}\nall points: {folder / 'table.csv'}, heatmap.png"


def convert_scores_command(options: Namespace, overrides: Sequence[str], command: str) -> str:
    """``crfnet convert-scores``: scores of other frameworks as a score folder."""
    del overrides, command
    check_writable(options.to)
    given = {field.name: getattr(options, field.name) for field in fields(ConvertOptions)}
    scores = convert_scores(options.source, options.to, ConvertOptions(**given), overwrite=options.overwrite)
    return f"scores of {len(scores.ids)} images, {scores.num_classes} classes: {options.to}"
