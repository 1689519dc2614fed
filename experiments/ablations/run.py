"""What a CRF behind a trained network gains by each of its parts: CRF-as-RNN's section 7.1, network frozen.

    python experiments/ablations/run.py --checkpoint mobilenetv2.pt --data.root VOC \
        --search runs/voc_after/search runs/voc_symmetric/search

For every row of settings.yaml the CRF alone is trained from the searched numbers, or a trained one is tested
otherwise; all on images that no search saw. Left in OUTPUT: table.md and table.csv, a line for each row, with
intervals of what it gains on the row that it is compared with, beside the paper's numbers. Started again, it
goes on where it was stopped: rows that are done are kept, and those that were added are done.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from rows import Row, read_settings, with_needed
from table import Result, write_tables

from crfnet.config.variants import to_plain
from crfnet.crf.config_file import load_crf_config
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.data import Sample, load_dataset
from crfnet.errors import InputError
from crfnet.evaluation.evaluator import Evaluation
from crfnet.pipeline.build import build_run_segmenter, resolve_device, warm_start
from crfnet.pipeline.cache_scores import cache_scores
from crfnet.pipeline.digests import text_digest, weights_digest
from crfnet.pipeline.evaluate_arm import evaluate_arm
from crfnet.pipeline.evaluate_split import read_ids
from crfnet.pipeline.predictors import Predictor, predictor_from_model, predictor_from_scores
from crfnet.pipeline.run_config import Run, load_run
from crfnet.pipeline.run_folder import open_run, run_stage
from crfnet.score_cache import ScoreFolder
from crfnet.search import draw_images, search
from crfnet.search.result_files import BEST_FILE, IMAGES_FILE
from crfnet.segmenter import Segmenter
from crfnet.training import check_training, train

HERE = Path(__file__).parent
CONFIG = HERE.parents[1] / "configs/voc/deeplab_v3_mobilenetv2.yaml"


def main(arguments: Sequence[str] | None = None) -> None:
    look = {"formatter_class": argparse.RawDescriptionHelpFormatter, "usage": argparse.SUPPRESS}
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, **look)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the trained network")
    parser.add_argument("--config", type=Path, default=CONFIG, help="data set, network, CRF; default: VOC's")
    parser.add_argument("--settings", type=Path, default=HERE / "settings.yaml", help="the rows")
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="rows whose name holds this, and their bases"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings; default: 0")
    parser.add_argument(
        "--search", type=Path, nargs="+", default=[], metavar="DIR", help="finished searches, one for each"
        " normalization; what is not given is searched first"
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("runs/ablations"), help="default: %(default)s")
    try:
        study(*parser.parse_known_args(arguments))
    except InputError as error:
        parser.error(str(error))


def study(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    shared, rows = read_settings(options.settings)
    seeds = list(dict.fromkeys(options.seeds))
    chosen = with_needed(rows, options.only)
    if not chosen:
        raise InputError(f"--only {options.only!r}: no row of {options.settings} has that in its name")
    run = replace(load_run(options.config, [*shared, *overrides]), output=options.output)
    run.set_threads()
    # A row that cannot be run is told before hours of work.
    runs = {row.name: load_run(options.config, [*shared, *row.words(), *overrides]) for row in rows}
    job = Job(run, runs, options.checkpoint, options.search, rows)
    command = shlex.join(["python", *sys.argv])
    with open_run(run, resume=True, overwrite=False, command=command, digests=job.digests) as facts:
        for count in range(1, len(seeds) + 1):
            results: list[Result] = []
            for row in chosen:
                results.append(job.result(row, seeds[:count]))
                if count == 1 or len(results) == len(chosen):  # all rows of a table have as many seeds
                    write_tables(run.output, results, run.evaluation, facts)
        print((run.output / "table.md").read_text())


class Timed:
    """Adds up the processor time that a predictor takes: the CRF's alone where the scores are cached."""

    def __init__(self, predict: Predictor) -> None:
        self.predict, self.seconds = predict, 0.0

    def __call__(self, sample: Sample) -> torch.Tensor:
        began = time.process_time()
        labels = self.predict(sample)
        self.seconds += time.process_time() - began
        return labels


class Job:
    """One study: its data, what its rows start from, and a folder for each of them."""

    def __init__(
        self, run: Run, runs: dict[str, Run], checkpoint: Path, searches: Sequence[Path], rows: Sequence[Row]
    ) -> None:
        self.run, self.runs, self.checkpoint, self.rows = run, runs, checkpoint, rows
        self.train_set, self.val = load_dataset(run.data, "train"), load_dataset(run.data, "val")
        self.given = {load_crf_config(each / BEST_FILE).normalization: each for each in searches}
        used = {runs[row.name].crf.normalization for row in rows if row.crf and row.start == "searched"}
        self.drawn = draw_images(self.val.ids, run.search) if used - self.given.keys() else []
        seen = set(self.drawn).union(
            *(read_ids(self.val, each / IMAGES_FILE) for each in self.given.values())
        )
        self.ids = [name for name in self.val.ids if name not in seen]
        if not self.ids:
            raise InputError("the searches saw all images, must leave some to report on")
        self.digests = {"weights": weights_digest(checkpoint), "images": text_digest(self.ids)}
        for row in rows:  # before hours of work
            model = self.segmenter(row, self.runs[row.name].crf if row.crf else None)
            if row.trains:
                check_training(model, self.train_set, self.runs[row.name].joint, None, f"{row.name}: joint.")
        self.train_set.check("train")

    def segmenter(self, row: Row, crf: CRFConfig | None, checkpoint: Path | None = None) -> Segmenter:
        how = {"with_crf": checkpoint is not None}
        return build_run_segmenter(
            self.runs[row.name], self.val.num_classes, checkpoint or self.checkpoint, crf, **how
        )

    @cached_property
    def scores(self) -> ScoreFolder:
        """Of the network, which most rows leave as it is: computed once."""
        model = build_run_segmenter(self.run, self.val.num_classes, self.checkpoint, None).eval()
        wanted = [name for name in self.val.ids if name in {*self.ids, *self.drawn}]
        how = {"config": self.run.predict, "source": str(self.checkpoint), "digests": self.digests}
        return cache_scores(model, self.val, wanted, self.run.output / "scores", **how)

    def searched(self, normalization: str) -> CRFConfig:
        """The best CRF of a search with this normalization, which is made where none was given."""
        folder = self.given.get(normalization, self.run.output / f"search_{normalization}")
        if normalization not in self.given:
            config = replace(self.run.search, normalization=normalization)

            def work() -> dict[str, float]:
                device = resolve_device(self.run.device)
                search(self.val, self.drawn, self.scores, config, folder, resume=True, device=device)
                return {}

            run_stage(folder, work)
        return load_crf_config(folder / BEST_FILE)

    def start(self, row: Row) -> CRFConfig | None:
        """The CRF that a row begins with."""
        crf = self.runs[row.name].crf
        if not row.crf or row.start == "config":
            return crf if row.crf else None
        return warm_start(crf, self.searched(crf.normalization))

    def folder(self, name: str, seed: int) -> Path:
        plain = "".join(letter if letter.isalnum() else "_" for letter in name)
        return self.run.output / "rows" / plain / f"seed{seed}"

    def result(self, row: Row, seeds: Sequence[int]) -> Result:
        """The row with every seed, done where it was not; without a training they are the same."""
        found = [self.one(row, seed) for seed in (seeds if row.trains or row.of else seeds[:1])]
        repeat = len(seeds) // len(found)
        return Result(row, [each for each, _ in found] * repeat, [numbers for _, numbers in found])

    def one(self, row: Row, seed: int) -> tuple[Evaluation, dict[str, float]]:
        run, folder, crf = self.runs[row.name], self.folder(row.name, seed), self.start(row)
        ids = [
            self.ids[i * len(self.ids) // row.images] for i in range(min(row.images, len(self.ids)))
        ] or self.ids
        how = {"config": run.evaluation, "folder": folder / "test", "dataset": self.val, "ids": ids}

        def work() -> dict[str, float]:
            checkpoint = self.folder(row.of, seed) / "train/checkpoint.pt" if row.of else None
            numbers: dict[str, float] = {}
            if row.trains:
                checkpoint = folder / "train/checkpoint.pt"
                numbers["train_seconds"] = self.train(row, crf, folder / "train", seed)
            model = self.segmenter(row, crf, checkpoint).eval()
            predict = Timed(self.predictor(row, model))
            evaluate_arm(row.name, predict, crf=model.crf, **how)
            numbers["test_seconds"] = predict.seconds / len(ids)
            if isinstance(model.crf, DenseCRF):
                now = model.crf.config_now()
                numbers |= {name: getattr(now, name) for name in ("w1", "theta_alpha", "theta_beta", "w2")}
            return numbers

        made_of = [to_plain(run.crf), to_plain(run.joint), row.network, row.of, crf and to_plain(crf), ids]
        numbers = run_stage(folder, work, {"settings of the row": text_digest(made_of)})
        return evaluate_arm(row.name, lambda sample: sample.labels, **how).evaluation, numbers

    def predictor(self, row: Row, model: Segmenter) -> Predictor:
        """The labels that a row gives an image: of the one network's scores, unless it trained its own."""
        run = self.runs[row.name]
        if "trained" in {row.network, *(each.network for each in self.rows if each.name == row.of)}:
            return predictor_from_model(model, run.predict)
        return predictor_from_scores(self.scores, model.crf, resolve_device(run.device))

    def train(self, row: Row, crf: CRFConfig | None, folder: Path, seed: int) -> float:
        """Train a row's CRF, or network and CRF; return the processor time, of the part since a restart."""
        config = self.runs[row.name].joint
        if row.network == "frozen":  # in evaluation mode and without gradients
            config = replace(config, crf_warmup=config.iterations)
        began = time.process_time()
        train(self.segmenter(row, crf), self.train_set, config, folder, seed=seed, resume=True)
        return time.process_time() - began


if __name__ == "__main__":
    main()
