"""Joint training of network and CRF on the toy set: which settings make it collapse, and which do not.

    python experiments/joint_training/run.py [--only TEXT] [--output DIR] [--section.key VALUE ...]

Trains the network of toy.yaml alone, searches a CRF behind it, and trains both together once for every row of
settings.yaml. Left in the output folder: results.csv and table.md (a row per setting, with its outcome),
curves.csv (every step of every run) and curves_GROUP.png. Rows that are finished are kept, so that a run that
was stopped goes on where it was.
"""

import argparse
import copy
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from results import NUMBERS, Row, folder_of, read_log, write_results

from crfnet.checkpoints.checkpoint import load_model
from crfnet.crf.config_file import load_crf_config
from crfnet.crf.layer import CRFConfig
from crfnet.data import load_dataset
from crfnet.errors import InputError
from crfnet.evaluation.evaluator import Evaluation
from crfnet.pipeline.build import warm_start
from crfnet.pipeline.cache_scores import cache_scores
from crfnet.pipeline.predictors import predictor_from_model
from crfnet.pipeline.run_config import Run, load_run
from crfnet.pipeline.run_folder import provenance, run_stage
from crfnet.pipeline.samples import select_samples
from crfnet.search import draw_images, search
from crfnet.segmenter import Segmenter, build_segmenter
from crfnet.training import train

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,  # so that an error is one line
        allow_abbrev=False,
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="the rows whose group or name holds this")
    parser.add_argument("--settings", type=Path, default=HERE / "settings.yaml", help="the rows")
    parser.add_argument("--output", type=Path, help="instead of the config's output folder")
    options, overrides = parser.parse_known_args(arguments)
    try:
        run = load_run(HERE / "toy.yaml", overrides)
        run.set_threads()
        study(options.output or run.output, read_rows(options.settings), options.only, overrides)
    except InputError as error:
        parser.error(str(error))


def read_rows(path: Path) -> list[Row]:
    try:
        groups = yaml.safe_load(path.read_text())
        return [Row.of(name, group, **row) for group, rows in groups.items() for name, row in rows.items()]
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as groups of rows ({error})") from error


def study(output: Path, rows: Sequence[Row], only: str, overrides: Sequence[str]) -> None:
    runs = {row.name: run_of(row, 0, overrides) for row in rows}  # a bad row is told before hours of work
    wanted = [row for row in rows if only in row.name or only in row.group]
    controls = [row for row in rows if row.name in {each.control for each in wanted} and row not in wanted]
    output.mkdir(parents=True, exist_ok=True)
    (output / "run.json").write_text(json.dumps(provenance(" ".join(sys.argv)), indent=1) + "\n")
    chosen = [row for row in rows if row in (*controls, *wanted)]
    for seed in range(max(row.seeds for row in chosen)):
        for row in (*controls, *wanted):  # the controls first, which the others are compared with
            if seed < row.seeds:
                run_row(output, row, seed, overrides)
        done = [replace(row, seeds=min(row.seeds, seed + 1)) for row in chosen]
        write_results(output, {row: runs[row.name] for row in done})


def run_of(row: Row, seed: int, overrides: Sequence[str]) -> Run:
    words = [word for key, value in row.changes for word in (f"--{key}", str(value))]
    return load_run(HERE / "toy.yaml", ["--seed", str(seed), *words, *overrides])


class Toy:
    """What all runs of a seed share: images, the network trained alone, the CRF searched behind it."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run = run
        self.train_set, self.val = load_dataset(run.data, "train"), load_dataset(run.data, "val")
        searched = draw_images(self.val.ids, run.search)
        self.images = list(select_samples(self.val, [id for id in self.val.ids if id not in set(searched)]))
        self.checkpoint, found = folder / "unary/checkpoint.pt", folder / "search"

        def train_alone() -> dict[str, float]:
            train(self.model(None), self.train_set, run.train, folder / "unary", seed=run.seed, resume=True)
            return {}

        def search_behind() -> dict[str, float]:
            model = self.model(None).eval()
            cached = partial(cache_scores, config=run.predict, source="the network trained alone")
            scores = cached(model, self.val, searched, found / "scores")
            search(self.val, searched, scores, run.search, found, resume=True)
            return {}

        run_stage(folder / "unary", train_alone)
        run_stage(found, search_behind)
        self.searched = load_crf_config(found / "best.yaml")

    def model(self, crf: CRFConfig | None) -> Segmenter:
        torch.manual_seed(self.run.seed)
        model = build_segmenter(self.run.model, len(self.val.classes), crf)
        if self.checkpoint.is_file():
            load_model(model, self.checkpoint, network_only=True)
        return model

    def evaluate(self, model: Segmenter) -> Evaluation:
        predict = predictor_from_model(model, self.run.predict)
        evaluation = Evaluation(len(self.val.classes), self.run.evaluation.max_width)
        for sample in self.images:
            evaluation.add(sample.id, predict(sample), sample.labels)
        return evaluation


def run_row(output: Path, row: Row, seed: int, overrides: Sequence[str]) -> None:
    """Trains and evaluates a row with one seed, unless that is done."""
    run = run_of(row, seed, overrides)
    folder, begin = folder_of(output, row.name, seed), output / f"begin/seed{seed}"

    def work() -> dict[str, float]:
        toy = Toy(run, begin)
        crf = warm_start(run.crf, toy.searched) if row.start == "searched" else run.crf
        model = toy.model(crf if row.crf else None)
        kept = keep_weights(model, every=-(-run.joint.iterations // 2))
        try:
            train(model, toy.train_set, run.joint, folder, seed=seed, overwrite=True)
            kept[run.joint.iterations] = copy.deepcopy(model.state_dict())
        except (ValueError, RuntimeError) as error:  # TrainingDivergedError, or the CRF refuses what it got
            if not read_log(folder):
                raise
            (folder / "error.txt").write_text(f"{error}\n")
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        # Rows that begin alike share what they begin with.
        numbers = "_".join(f"{getattr(crf, name):g}" for name in NUMBERS) if row.crf else "alone"
        score(toy, model, kept, folder, begin / f"{numbers}.npz")
        return {}

    run_stage(folder, work)


def score(toy: Toy, model: Segmenter, kept: dict[int, dict[str, Any]], folder: Path, start: Path) -> None:
    """Evaluates the kept weights, as ``STEP.npz``; and the network at the end without its CRF."""
    finished = not (folder / "error.txt").is_file()
    if not start.is_file():
        model.load_state_dict(kept[0])
        toy.evaluate(model).save(start)
    shutil.copyfile(start, folder / "0000.npz")
    for step in sorted(kept)[1:] if finished else ():
        model.load_state_dict(kept[step])
        toy.evaluate(model).save(folder / f"{step:04d}.npz")
    if finished:
        model.crf = None
        toy.evaluate(model).save(folder / "network.npz")


def keep_weights(model: Segmenter, every: int) -> dict[int, dict[str, Any]]:
    """Will hold a copy of the weights after every so many steps of a training, those before it first."""
    kept: dict[int, dict[str, Any]] = {}
    passes = 0

    def note(*_: object) -> None:
        nonlocal passes
        if torch.is_grad_enabled():  # evaluation has none
            if passes % every == 0:
                kept[passes] = copy.deepcopy(model.state_dict())
            passes += 1

    model.network.backbone.register_forward_pre_hook(note)
    return kept


if __name__ == "__main__":
    main()
