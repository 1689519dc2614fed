"""The main job: all arms on one data set, in one report.

The five that it has unless told otherwise:

| arm | what it is |
| --- | --- |
| unary | the network alone |
| posthoc | the network frozen, the dense CRF cross-validated on held-out images behind it (DeepLab's way) |
| joint | network and unrolled CRF trained end to end from there (CRF-as-RNN's way) |
| unary+ | control: the network trained for the same extra iterations with no CRF |
| posthoc+ | control: the CRF cross-validated again, on unary+ |

Without the controls the gain of joint training is confounded with that of the extra training. Others, and how
one declares one's own: `crfnet.pipeline.arms`.
"""

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from crfnet.config.variants import to_plain
from crfnet.crf.layer import DenseCRF
from crfnet.data import SegmentationDataset, Subset, load_dataset, shared_images, shared_images_line
from crfnet.distributed import on_rank_zero
from crfnet.errors import InputError, require
from crfnet.pipeline.arms import SEARCH, Arm, described, folder_name, ordered_arms, stages_of
from crfnet.pipeline.build import build_run_segmenter, load_refinement, resolve_device, warm_start
from crfnet.pipeline.cache_scores import cache_scores
from crfnet.pipeline.digests import START, state_digest, text_digest, weights_digest
from crfnet.pipeline.evaluate_arm import evaluate_arm
from crfnet.pipeline.measure_costs import measure_costs
from crfnet.pipeline.predictors import predictor_from_checkpoint, predictor_from_model, unary_from_model
from crfnet.pipeline.rehearse_report import rehearse_report
from crfnet.pipeline.run_config import Run
from crfnet.pipeline.run_folder import check_folder, open_run, run_stage, stage_seconds
from crfnet.pipeline.samples import strip_samples
from crfnet.pipeline.trace_energy import trace_energy
from crfnet.report import MADE_UP, ArmResult, console_table, shown_images, write_report
from crfnet.score_cache import ScoreFolder
from crfnet.search import check_search, draw_images, search, search_domain_transform
from crfnet.segmenter import RefinementConfig, Segmenter
from crfnet.training import TrainConfig, check_training, rehearse_step, train

__all__ = ["compare"]

log = logging.getLogger(__name__)


class _Network(NamedTuple):
    """What an arm predicts with; see `build_run_segmenter`."""

    checkpoint: Path
    crf: RefinementConfig | None = None
    with_crf: bool = False


def compare(
    run: Run,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    command: str = "",
    first: Callable[[], None] | None = None,
) -> tuple[Path, str]:
    """Run the arms of `run`; return the path of the report and its table as text.

    Every stage leaves its result in a folder of its own under ``run.output``; with `resume`, finished
    stages are kept and a training or search that was killed goes on where it was.

    Args:
        run: what to compare, and where.
        checkpoint: a trained network that arms without another's network take, instead of training one.
        resume: go on with what is in the output folder.
        overwrite: remove what crfnet wrote there.
        command: for the record.
        first: called when everything is checked and the folder is open, before the work.

    Raises:
        InputError: anything in the data, the config or the output folder that cannot be used, before
            training begins.
    """
    on_rank_zero(lambda: check_folder(run.output, resume=resume, overwrite=overwrite))
    job = _Job(run, checkpoint, resume=resume)
    how = {"resume": resume, "overwrite": overwrite}
    with open_run(run, command=command, digests=job.digests, **how) as facts:
        if first is not None:
            on_rank_zero(first)
        return _compare(job, facts)


def _compare(job: "_Job", facts: dict[str, str]) -> tuple[Path, str]:
    run = job.run
    log.info(
        "%s: searching on %d images, reporting on %d", job.val.name, len(job.search_ids), len(job.report_ids)
    )

    networks: dict[str, _Network] = {}
    for name, arm in job.arms.items():
        networks[name] = job.prepare(name, arm, networks)

    log.info("scoring the arms on the %d images that no search has seen", len(job.report_ids))
    networks = {name: networks[name] for name in run.arms}
    arms = [job.evaluate(name, network) for name, network in networks.items()]
    log.info("measuring what each arm costs, all of them on one image after the other")
    arms = job.measure(arms, networks)
    facts |= {f"arm {name}": described(run.own_arms[name]) for name in run.arms if name in run.own_arms}
    if job.checkpoint is not None:
        facts["network"] = f"{job.checkpoint}, trained before; its training is in no cost"
    facts["configuration"] = "config.yaml beside this report"
    facts["data"] = (
        f"{job.val.name}: trained on {len(job.train_set.ids)} images, CRF searched on {len(job.search_ids)}, "
        f"scores from the other {len(job.report_ids)} of split {run.data.val!r}"
    )
    if job.warnings:
        facts["shared images"] = "; ".join(job.warnings)
    if run.data.name == "toy":
        facts |= MADE_UP
    return on_rank_zero(lambda: _report(job, arms, facts))


def _report(job: "_Job", arms: Sequence[ArmResult], facts: Mapping[str, str]) -> tuple[Path, str]:
    run = job.run
    shown = shown_images(arms, run.pictures, run.evaluation)
    folders = {arm: job.folder(arm) / "predictions" for arm in run.arms}
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

    def __init__(self, run: Run, checkpoint: Path | None, *, resume: bool) -> None:
        self.run, self.checkpoint = run, checkpoint
        self.arms = ordered_arms(run.arms, run.own_arms)
        self.searched: dict[str, RefinementConfig] = {}
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
        self.warnings = on_rank_zero(self._shared_images)
        on_rank_zero(lambda: rehearse_report(run, self.val, self.report_ids, run.arms))
        self.digests = {
            "training images": training.images,
            "training labels": training.labels,
            "validation images": validation.images,
            "validation labels": validation.labels,
        }
        self.digests[START] = "none" if checkpoint is None else self.weights(checkpoint)["weights"]
        self._rehearse(resume=resume)

    def _check_stages(self) -> None:
        """Refuse what any stage would refuse, hours later: each model is built once."""
        run = self.run
        same = "0 in a comparison, where unary+ is trained for as many iterations as joint"
        require("joint.early_stop", run.joint.early_stop, run.joint.early_stop == 0, same)
        if self.checkpoint is not None:
            self.segmenter(self.checkpoint, None)
        for arm in self.arms.values():
            self._structure(arm)
        for name, arm in self._trained_arms():
            config, model = self._config(arm), self._untrained(name)
            check_training(model, self.train_set, config, self.val, f"{arm.train}.")

    def _trained_arms(self) -> list[tuple[str, Arm]]:
        """Those whose network is trained in this run."""
        arms = self.arms.items()
        return [(name, arm) for name, arm in arms if arm.train and (arm.network or self.checkpoint is None)]

    def _untrained(self, name: str) -> Segmenter:
        """What an arm trains, with other numbers in it: to be tried."""
        return self.segmenter(None, self._structure(self.arms[name]))

    def _structure(self, arm: Arm) -> RefinementConfig | None:
        run = self.run
        if arm.behind == "crf" and arm.parameters != "config":
            return dataclasses.replace(run.crf, normalization=run.search.normalization)
        return {"": None, "crf": run.crf, "domain_transform": run.domain_transform}[arm.behind]

    def _config(self, arm: Arm) -> TrainConfig:
        return self.run.train if arm.train == "train" else self.run.joint

    def _rehearse(self, *, resume: bool) -> None:
        """Try a step of every training that is still to be done."""
        for name, arm in self._trained_arms():
            if not (resume and (self.folder(name) / "train/stage.json").exists()):
                log.info("%s: trying a step of its training", name)
                model, place = self._untrained(name), f"{arm.train}."
                rehearse_step(model, self.train_set, self._config(arm), seed=self.run.seed, place=place)

    def _shared_images(self) -> list[str]:
        """A line for each set of images that a score of new images should not have: logged, and reported."""
        digests = self.val.image_digests
        trained = list(self.train_set.image_digests.values())
        searched = [digests[name] for name in self.search_ids]
        report, search = (self.report_ids, "images reported on"), (self.search_ids, "images searched on")
        lines = [
            shared_images_line(shared_images(self.val, ids, others), len(ids), what, other)
            for (ids, what), others, other in (
                (report, trained, "trained on"),
                (search, trained, "trained on"),
                (report, searched, "searched on"),
            )
        ]
        for line in filter(None, lines):
            log.warning("%s", line)
        return [*filter(None, lines)]

    def folder(self, arm: str) -> Path:
        return self.run.output / folder_name(arm)

    def prepare(self, name: str, arm: Arm, others: Mapping[str, _Network]) -> _Network:
        """Train and search what an arm needs and no other has."""
        start = others[arm.network].checkpoint if arm.network else self.checkpoint
        trains = arm.train and (arm.network or start is None)
        behind = self._behind(name, arm, start)
        if not trains:
            assert start is not None
            return _Network(start, behind)
        log.info("%s: training the network%s", name, f" with its {arm.behind}" if behind else "")
        return _Network(
            self.train(name, self._config(arm), crf=behind, start=start), behind, with_crf=bool(behind)
        )

    def _behind(self, name: str, arm: Arm, network: Path | None) -> RefinementConfig | None:
        """What stands behind an arm's network, or what training begins with there."""
        if not arm.behind:
            return None
        structure = self.run.crf if arm.behind == "crf" else self.run.domain_transform
        if arm.parameters == "config":
            return structure
        if arm.parameters != SEARCH:
            return warm_start(structure, self.searched[arm.parameters])
        assert network is not None
        log.info("%s: searching its parameters on the held-out images", name)
        self.searched[name] = self.search(name, network, arm.behind)
        return self.searched[name]

    def segmenter(
        self, checkpoint: Path | None, crf: RefinementConfig | None, with_crf: bool = False
    ) -> Segmenter:
        return build_run_segmenter(self.run, self.val.num_classes, checkpoint, crf, with_crf=with_crf)

    def train(
        self, arm: str, config: TrainConfig, *, crf: RefinementConfig | None, start: Path | None
    ) -> Path:
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

    def search(self, arm: str, checkpoint: Path, behind: str) -> RefinementConfig:
        folder, weights = self.folder(arm) / "search", self.weights(checkpoint)

        def work() -> dict[str, float]:
            model = self.segmenter(checkpoint, None).eval()
            own = checkpoint != self.checkpoint
            source = f"{checkpoint.parent.parent.name} network of this run" if own else checkpoint.name
            scores = cache_scores(
                model,
                self.val,
                self.search_ids,
                folder / "scores",
                config=self.run.predict,
                source=source,
                digests={"images": self.digests["validation images"], **weights},
            )
            # By the first process, with search.workers others of its own; the rest of the ranks wait.
            search_one = self._search_crf if behind == "crf" else self._search_domain_transform
            on_rank_zero(lambda: search_one(arm, scores, folder))
            return {}

        run_stage(folder, work, weights)
        return load_refinement(folder / "best.yaml")

    def _search_crf(self, arm: str, scores: ScoreFolder, folder: Path) -> None:
        config = self.run.search
        study = f"{config.study}-{arm}"
        if config.storage:  # where other searches are, too: those of other seeds, of changed data or settings
            made_of = text_digest(scores.digest(self.search_ids), config.facts(), self.digests)
            study = f"{study}-{made_of[:12]}"
        config = dataclasses.replace(config, study=study)
        search(self.val, self.search_ids, scores, config, folder, resume=True, device=self.device)

    def _search_domain_transform(self, arm: str, scores: ScoreFolder, folder: Path) -> None:
        del arm
        # Cached scores have no features for learned edges.
        structure = dataclasses.replace(self.run.domain_transform, edges="image", layers=())
        config = self.run.domain_transform_search
        search_domain_transform(
            self.val, self.search_ids, scores, config, structure, folder, device=self.device
        )

    def evaluate(self, arm: str, network: _Network) -> ArmResult:
        """Evaluate an arm on the reported images."""
        model, folder = self.segmenter(*network), self.folder(arm) / "predictions"
        crf = model.crf
        digests = {"weights": on_rank_zero(lambda: state_digest(model.state_dict()))}
        if network.crf is not None:
            digests["configuration of the CRF"] = text_digest(to_plain(network.crf))
        result = evaluate_arm(
            arm,
            predictor_from_model(model, self.run.predict),
            self.val,
            self.report_ids,
            folder,
            config=self.run.evaluation,
            crf=crf,
            digests=digests,
        )
        if isinstance(crf, DenseCRF):
            trace_energy(folder, crf, unary_from_model(model, self.run.predict), self.val, self.report_ids)
        trainings, searches = stages_of(arm, self.arms)
        if self.checkpoint is not None:
            trainings = tuple(name for name in trainings if self.arms[name].network)
        return dataclasses.replace(
            result,
            train_seconds=math.fsum(stage_seconds(self.folder(name) / "train") for name in trainings),
            search_seconds=math.fsum(stage_seconds(self.folder(name) / "search") for name in searches),
            search_ids=self.search_ids if searches else (),
            search_folder=self.folder(searches[-1]) / "search" if searches else None,
            train_folder=self.folder(arm) / "train" if arm in trainings else None,
        )

    def measure(self, arms: Sequence[ArmResult], networks: Mapping[str, _Network]) -> list[ArmResult]:
        """The arms with what each costs per image; see `measure_costs`."""
        builds = {
            arm: partial(predictor_from_checkpoint, self.run, self.val.num_classes, *network)
            for arm, network in networks.items()
        }
        return measure_costs(self.run.output / "costs", arms, builds, self.val)
