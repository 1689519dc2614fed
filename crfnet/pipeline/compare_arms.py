"""The main job: all five arms on one data set, in one report.

| arm | what it is |
| --- | --- |
| unary | the network alone |
| posthoc | the network frozen, the dense CRF cross-validated on held-out images behind it (DeepLab's way) |
| joint | network and unrolled CRF trained end to end from there (CRF-as-RNN's way) |
| unary+ | control: the network trained for the same extra iterations with no CRF |
| posthoc+ | control: the CRF cross-validated again, on unary+ |

Without the controls the gain of joint training is confounded with that of the extra training.
"""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from crfnet.config.variants import to_plain
from crfnet.crf.config_file import load_crf_config
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.data import SegmentationDataset, Subset, load_dataset
from crfnet.distributed import on_rank_zero
from crfnet.errors import InputError, require
from crfnet.pipeline.build import build_run_segmenter, resolve_device, warm_start
from crfnet.pipeline.cache_scores import cache_scores
from crfnet.pipeline.digests import state_digest, text_digest, weights_digest
from crfnet.pipeline.evaluate_arm import evaluate_arm
from crfnet.pipeline.measure_costs import measure_costs
from crfnet.pipeline.predictors import predictor_from_checkpoint, predictor_from_model, unary_from_model
from crfnet.pipeline.rehearse_report import rehearse_report
from crfnet.pipeline.run_config import Run
from crfnet.pipeline.run_folder import check_folder, open_run, run_stage, stage_seconds
from crfnet.pipeline.samples import strip_samples
from crfnet.pipeline.trace_energy import trace_energy
from crfnet.report import ArmResult, console_table, shown_images, write_report
from crfnet.score_cache import ScoreFolder
from crfnet.search import SearchConfig, check_search, draw_images, search
from crfnet.segmenter import Segmenter
from crfnet.training import TrainConfig, check_training, train

__all__ = ["ARMS", "compare"]

#: Arm -> the stages that trained its network, its own last.
_TRAININGS = {
    "unary": ("unary",),
    "posthoc": ("unary",),
    "joint": ("unary", "joint"),
    "unary+": ("unary", "unary+"),
    "posthoc+": ("unary", "unary+"),
}
#: Arm -> the stages that searched its CRF's parameters, or those it began with.
_SEARCHES = {"posthoc": ("posthoc",), "joint": ("posthoc",), "posthoc+": ("posthoc+",)}

ARMS = tuple(_TRAININGS)

log = logging.getLogger(__name__)


class _Network(NamedTuple):
    """What an arm predicts with; see `build_run_segmenter`."""

    checkpoint: Path
    crf: CRFConfig | None = None
    with_crf: bool = False


def compare(
    run: Run, *, resume: bool = False, overwrite: bool = False, command: str = ""
) -> tuple[Path, str]:
    """Run all five arms of `run`; return the path of the report and its table as text.

    Every stage leaves its result in a folder of its own under ``run.output``; with `resume`, finished
    stages are kept and a training or search that was killed goes on where it was.

    Raises:
        InputError: anything in the data, the config or the output folder that cannot be used, before
            training begins.
    """
    on_rank_zero(lambda: check_folder(run.output, resume=resume, overwrite=overwrite))
    job = _Job(run)
    how = {"resume": resume, "overwrite": overwrite}
    with open_run(run, command=command, digests=job.digests, **how) as facts:
        return _compare(job, facts)


def _compare(job: "_Job", facts: dict[str, str]) -> tuple[Path, str]:
    run = job.run
    log.info(
        "%s: searching on %d images, reporting on %d", job.val.name, len(job.search_ids), len(job.report_ids)
    )

    log.info("unary: training the network alone")
    unary = job.train("unary", run.train, crf=None, start=None)
    log.info("posthoc: searching the CRF's parameters on the held-out images")
    searched = job.search("posthoc", unary)
    log.info("joint: training network and CRF together")
    warm = warm_start(run.crf, searched)
    joint = job.train("joint", run.joint, crf=warm, start=unary)
    log.info("unary+: training the network for as long, without the CRF")
    unary_plus = job.train("unary+", run.joint, crf=None, start=unary)
    log.info("posthoc+: searching the CRF's parameters again")
    searched_plus = job.search("posthoc+", unary_plus)

    log.info("scoring the five arms on the %d images that no search has seen", len(job.report_ids))
    networks = {
        "unary": _Network(unary),
        "posthoc": _Network(unary, searched),
        "joint": _Network(joint, warm, with_crf=True),
        "unary+": _Network(unary_plus),
        "posthoc+": _Network(unary_plus, searched_plus),
    }
    arms = [job.evaluate(arm, network) for arm, network in networks.items()]
    log.info("measuring what each arm costs, all of them on one image after the other")
    arms = job.measure(arms, networks)
    facts["configuration"] = "config.yaml beside this report"
    facts["data"] = (
        f"{job.val.name}: trained on {len(job.train_set.ids)} images, CRF searched on {len(job.search_ids)}, "
        f"scores from the other {len(job.report_ids)} of split {run.data.val!r}"
    )
    return on_rank_zero(lambda: _report(job, arms, facts))


def _report(job: "_Job", arms: Sequence[ArmResult], facts: Mapping[str, str]) -> tuple[Path, str]:
    run = job.run
    shown = shown_images(arms, run.pictures, run.evaluation)
    folders = {arm: job.folder(arm) / "predictions" for arm in ARMS}
    report = write_report(
        run.output,
        arms,
        title=run.title,
        class_names=job.val.classes,
        palette=job.val.palette,
        facts=facts,
        strip_samples=strip_samples(job.val, shown, folders),
        config=run.evaluation,
    )
    return report, console_table(arms, run.evaluation)


class _Job:
    """One comparison: its data, and a folder for each of its stages."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.device = resolve_device(run.device)  # refused before any work
        self.train_set, self.val = load_dataset(run.data, "train"), load_dataset(run.data, "val")
        if run.search.images >= len(self.val.ids):
            raise InputError(
                f"search.images is {run.search.images}, must be < {len(self.val.ids)}, the images of split "
                f"{run.data.val!r}: some are left to report on"
            )
        self.search_ids = draw_images(self.val.ids, run.search)
        searched = set(self.search_ids)
        self.report_ids = [name for name in self.val.ids if name not in searched]
        self._check_stages()
        training = on_rank_zero(lambda: self.train_set.check("train"))
        validation = on_rank_zero(lambda: self.val.check("val"))
        on_rank_zero(lambda: check_search(self.val, self.search_ids, run.search))
        on_rank_zero(lambda: rehearse_report(run, self.val, self.report_ids, ARMS))
        self.digests = {
            "training images": training.images,
            "training labels": training.labels,
            "validation images": validation.images,
            "validation labels": validation.labels,
        }

    def _check_stages(self) -> None:
        """Refuse what any stage would refuse, hours later: each model is built once."""
        run = self.run
        same = "0 in a comparison, where unary+ is trained for as many iterations as joint"
        require("joint.early_stop", run.joint.early_stop, run.joint.early_stop == 0, same)
        searched = dataclasses.replace(run.crf, normalization=run.search.normalization)
        stages = {"train.": (run.train, None), "joint.": (run.joint, warm_start(run.crf, searched))}
        for place, (config, crf) in stages.items():
            check_training(self.segmenter(None, crf), self.train_set, config, self.val, place)

    def folder(self, arm: str) -> Path:
        return self.run.output / arm.replace("+", "_plus")

    def segmenter(self, checkpoint: Path | None, crf: CRFConfig | None, with_crf: bool = False) -> Segmenter:
        return build_run_segmenter(self.run, self.val.num_classes, checkpoint, crf, with_crf=with_crf)

    def train(self, arm: str, config: TrainConfig, *, crf: CRFConfig | None, start: Path | None) -> Path:
        folder = self.folder(arm) / "train"

        def work() -> dict[str, float]:
            model = self.segmenter(start, crf)
            result = train(
                model,
                self.train_set,
                config,
                folder,
                seed=self.run.seed,
                validation=self._validation(config),
                resume=True,
            )
            return {"seconds": result.seconds}  # over all parts of a run that was killed and resumed

        run_stage(folder, work, {} if start is None else self.weights(start))
        return folder / "checkpoint.pt"

    def _validation(self, config: TrainConfig) -> SegmentationDataset:
        """The images for the log; those that decide when training ends must not be reported on."""
        return Subset(self.val, self.search_ids) if config.early_stop else self.val

    def weights(self, checkpoint: Path) -> dict[str, str]:
        return {"weights": on_rank_zero(lambda: weights_digest(checkpoint))}

    def search(self, arm: str, checkpoint: Path) -> CRFConfig:
        folder, weights = self.folder(arm) / "search", self.weights(checkpoint)

        def work() -> dict[str, float]:
            model = self.segmenter(checkpoint, None).eval()
            source = f"{checkpoint.parent.parent.name} network of this run"
            scores = cache_scores(
                model,
                self.val,
                self.search_ids,
                folder / "scores",
                config=self.run.predict,
                source=source,
                digests={"images": self.digests["validation images"], **weights},
            )
            # Both searches of a run may share a database: each under its own name.
            config = dataclasses.replace(self.run.search, study=f"{self.run.search.study}-{arm}")
            # By the first process, with search.workers others of its own; the rest of the ranks wait.
            on_rank_zero(lambda: self._search(scores, config, folder))
            return {}

        run_stage(folder, work, weights)
        return load_crf_config(folder / "best.yaml")

    def _search(self, scores: ScoreFolder, config: SearchConfig, folder: Path) -> None:
        search(self.val, self.search_ids, scores, config, folder, resume=True, device=self.device)

    def evaluate(self, arm: str, network: _Network) -> ArmResult:
        """Evaluate an arm on the reported images; `_TRAININGS` and `_SEARCHES` are what it cost."""
        model, folder = self.segmenter(*network), self.folder(arm) / "predictions"
        crf = model.crf
        digests = {"weights": on_rank_zero(lambda: state_digest(model.state_dict()))}
        if isinstance(crf, DenseCRF):
            digests["configuration of the CRF"] = text_digest(to_plain(crf.config))
        result = evaluate_arm(
            arm,
            predictor_from_model(model, self.run.predict),
            self.val,
            self.report_ids,
            folder,
            config=self.run.evaluation,
            crf=crf if isinstance(crf, DenseCRF) else None,
            digests=digests,
        )
        if isinstance(crf, DenseCRF):
            trace_energy(folder, crf, unary_from_model(model, self.run.predict), self.val, self.report_ids)
        trainings, searches = _TRAININGS[arm], _SEARCHES.get(arm, ())
        return dataclasses.replace(
            result,
            train_seconds=math.fsum(stage_seconds(self.folder(name) / "train") for name in trainings),
            search_seconds=math.fsum(stage_seconds(self.folder(name) / "search") for name in searches),
            search_ids=self.search_ids if searches else (),
            search_folder=self.folder(searches[0]) / "search" if searches else None,
            train_folder=self.folder(trainings[-1]) / "train" if trainings[-1] == arm else None,
        )

    def measure(self, arms: Sequence[ArmResult], networks: Mapping[str, _Network]) -> list[ArmResult]:
        """The arms with what each costs per image; see `measure_costs`."""
        builds = {
            arm: partial(predictor_from_checkpoint, self.run, self.val.num_classes, *network)
            for arm, network in networks.items()
        }
        return measure_costs(self.run.output / "costs", arms, builds, self.val)
