"""Trimap curves of several CRFs behind the same cached scores: what each of their parts does near borders.

    python experiments/trimap/run.py --scores SCORES --crf best.yaml --exclude images.txt --data.root CAMVID

Scores the images by every arm; writes trimap.png (mIoU, class and pixel accuracy inside bands of 1 to 40
pixels, both kinds of band, with 95 % bootstrap intervals), scores.csv and a report. Finished arms are kept.
"""

import argparse
import csv
import itertools
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from crfnet.crf.config_file import load_crf_config
from crfnet.crf.filters import LocalFilter
from crfnet.crf.layer import DenseCRF
from crfnet.data import load_dataset
from crfnet.errors import InputError
from crfnet.evaluation.trimap import BANDS
from crfnet.pipeline.build import resolve_device
from crfnet.pipeline.evaluate_arm import evaluate_arm
from crfnet.pipeline.evaluate_split import read_ids
from crfnet.pipeline.measure_costs import measure_costs
from crfnet.pipeline.predictors import predictor_from_scores_and_config
from crfnet.pipeline.run_config import load_run
from crfnet.pipeline.run_folder import open_run
from crfnet.report import console_table, write_report
from crfnet.score_cache import ScoreFolder

CONFIG = Path(__file__).parents[2] / "configs/camvid/scores.yaml"
ARMS: dict[str, Any] = {  # what is changed in the CRF of --crf; None is no CRF at all
    "unary": None,
    "crf": {},
    "no_bilateral": {"w1": 0.0},
    "no_spatial": {"w2": 0.0},
    "local": {"filter": LocalFilter(window=11, pool=4)},  # as ConvCRF: 11 x 11 cells of 4 x 4 pixels
}
METRICS = {"miou": "mIoU", "mean_accuracy": "class accuracy", "pixel_accuracy": "pixel accuracy"}


def main(arguments: Sequence[str] | None = None) -> None:
    look = {"formatter_class": argparse.RawDescriptionHelpFormatter, "usage": argparse.SUPPRESS}
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, **look)
    parser.add_argument("--config", type=Path, default=CONFIG, help="data set and evaluation")
    parser.add_argument("--scores", type=Path, required=True, help="folder of cached scores, or one .npz")
    parser.add_argument("--crf", type=Path, required=True, help="best.yaml of a search")
    parser.add_argument("--exclude", type=Path, help="ids to leave out: images.txt of that search")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[*ARMS], help="the first is the base")
    parser.add_argument("--output", type=Path, default=Path("runs/trimap"), help="default: %(default)s")
    try:
        trimap(*parser.parse_known_args(arguments))
    except InputError as error:
        parser.error(str(error))


def trimap(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    run = replace(load_run(options.config, overrides), output=options.output)
    run.set_threads()
    dataset, scores = load_dataset(run.data, "val"), ScoreFolder(options.scores)
    crf, excluded = load_crf_config(options.crf), read_ids(dataset, options.exclude)
    ids = [id for id in dataset.ids if id not in excluded]
    command = shlex.join(["python", *sys.argv])
    with open_run(run, resume=True, overwrite=False, command=command) as facts:
        facts["data"] = f"{dataset.name}: {len(ids)} images of split {run.data.val!r}; {scores.path}"
        arms, builds, device = [], {}, resolve_device(run.device)
        for name in options.arms:
            parts = None if ARMS[name] is None else replace(crf, **ARMS[name])
            layer = None if parts is None else DenseCRF(scores.num_classes, parts).to(device)
            builds[name] = partial(
                predictor_from_scores_and_config, scores, parts, scores.num_classes, device
            )
            how = {
                "predict": builds[name](),
                "config": run.evaluation,
                "crf": layer,
            }
            arm = evaluate_arm(name, dataset=dataset, ids=ids, folder=run.output / name, **how)
            arms.append(replace(arm, search_ids=sorted(excluded) if layer else ()))
        arms = measure_costs(run.output / "costs", arms, builds, dataset)
        what = {"title": "The parts of a CRF", "facts": facts, "config": run.evaluation, "strip_samples": ()}
        report = write_report(run.output, arms, class_names=dataset.classes, palette=dataset.palette, **what)
        draw(run.output, options.arms, range(1, run.evaluation.max_width + 1))
        print(f"{console_table(arms, run.evaluation)}\n\nreport: {report}, report.html, trimap.png")


def draw(folder: Path, names: Sequence[str], widths: range) -> None:
    """Two rows per band: the scores, and what they gain on the first arm."""
    lines = (folder / "scores.csv").read_text().splitlines()
    found = {(row["arm"], row["metric"]): row for row in csv.DictReader(lines)}
    bands = [band for band in BANDS if (names[0], f"trimap_{band}/miou@1") in found]
    figure = Figure(figsize=(12, 6.4 * len(bands)), dpi=100, layout="constrained")
    curves = itertools.product(bands, ("", f" - {names[0]}"), METRICS.items())
    panels = figure.subplots(2 * len(bands), len(METRICS), squeeze=False).flatten()
    for panel, (band, minus, (metric, title)) in zip(panels, curves, strict=True):
        panel.set_title(f"{band}: {title}{minus} (%) against width (px)", fontsize="small")
        panel.grid(color="0.92")
        for name in names[bool(minus) :]:
            each = [found[f"{name}{minus}", f"trimap_{band}/{metric}@{width}"] for width in widths]
            value = [100 * float(row["value"]) for row in each]
            panel.plot(widths, value, color=f"C{names.index(name)}", label=name)
            if all(row["low"] for row in each):  # few images have no interval
                low, high = ([100 * float(row[key]) for row in each] for key in ("low", "high"))
                panel.fill_between(widths, low, high, color=f"C{names.index(name)}", alpha=0.12, linewidth=0)
    panels[0].legend(frameon=False, fontsize="small")
    figure.savefig(folder / "trimap.png")


if __name__ == "__main__":
    main()
