"""One YAML file -> one frozen `Run`. Unknown keys, wrong types and bad values are errors that name the place.

Each section is the dataclass of its owner, so its keys are documented where they are used; ``crfnet config
--help`` prints all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import yaml

from crfnet.config.reader import read_config
from crfnet.config.variants import check_choices, free, to_plain
from crfnet.crf.layer import CRFConfig
from crfnet.data import DataConfig
from crfnet.data.config import expanded
from crfnet.domain_transform import DomainTransformConfig
from crfnet.errors import require
from crfnet.evaluation.evaluator import EvaluationConfig
from crfnet.evaluation.inference import PredictConfig
from crfnet.models import ModelConfig
from crfnet.pipeline.arms import FIVE, Arm, ordered_arms
from crfnet.search import DomainTransformSearch, SearchConfig
from crfnet.training import TrainConfig

__all__ = ["Run", "dump_run", "load_run"]


@dataclass(frozen=True)
class Run:
    """Everything that a command needs to know.

    Attributes:
        title: heading of the report.
        output: folder that the run writes; refused when it is in use, unless --resume or --overwrite is
            given.
        seed: of the weights, the order of the images and the augmentation.
        device: "auto" (a GPU where there is one), "cpu" or "cuda".
        threads: of torch on a CPU, and of the CRF's kernels there; 0 is torch's own number, a thread a core.
            Of a small network's layers two threads make little faster, and much slower beside other work.
        data: which images.
        model: which network.
        train: how the network alone is trained (stage unary).
        joint: how network and CRF are trained together (stage joint), and the control without CRF (unary+).
        crf: structure of the jointly trained CRF, and the parameters wherever none were searched.
        search: which CRF parameters are tried on the held-out images (post-hoc).
        domain_transform: what the arms with a domain transform have behind their network; see crf.
        domain_transform_search: which of its widths are tried on those images.
        arms: what a comparison compares, in the report's order; arms that they need are added. Built in:
            unary, posthoc, joint, unary+, posthoc+, dt, dt_joint and dt+; see own_arms.
        own_arms: further arms by name, each with network, train, behind, parameters and control.
        predict: how images are given to a trained network: scales, mirror, tiles.
        evaluation: metrics, trimap widths, bootstrap.
        pictures: number of images in the report's strip.
    """

    title: str = free("crfnet")
    output: Path = free(Path("runs/run"))
    seed: int = free(0)
    device: Literal["auto", "cpu", "cuda"] = free("auto")
    threads: int = free(0)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    joint: TrainConfig = field(
        default_factory=lambda: TrainConfig(loss="image", unary_loss=0.5, iterations=2000, clip=5.0)
    )
    crf: CRFConfig = field(default_factory=CRFConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    domain_transform: DomainTransformConfig = field(default_factory=DomainTransformConfig)
    domain_transform_search: DomainTransformSearch = field(default_factory=DomainTransformSearch)
    arms: tuple[str, ...] = FIVE
    own_arms: dict[str, Arm] = field(default_factory=dict)
    predict: PredictConfig = field(default_factory=PredictConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    pictures: int = free(6)

    def __post_init__(self) -> None:
        check_choices(self, "")
        object.__setattr__(self, "output", expanded(self.output))
        require("output", str(self.output), "\0" not in str(self.output), "the name of a folder")
        require("seed", self.seed, 0 <= self.seed < 2**32, f"in 0..{2**32 - 1}")
        for name, arm in ordered_arms(self.arms, self.own_arms).items():
            frozen = arm.behind == "domain_transform" and arm.parameters == "config" and not arm.train
            trained = not frozen or self.domain_transform.edges == "image"
            require(
                f"own_arms.{name}.train", arm.train, trained, "given where domain_transform.edges is learned"
            )
        require("threads", self.threads, 0 <= self.threads <= 1024, "in 0..1024")
        require("pictures", self.pictures, self.pictures >= 1, ">= 1")

    def set_threads(self) -> None:
        """Give torch, and the kernels that follow it, as many threads in this process as `threads` says."""
        if self.threads:
            torch.set_num_threads(self.threads)


def load_run(path: Path | None, overrides: Sequence[str] = ()) -> Run:
    """The `Run` in the YAML file at `path`, changed by `overrides` (``--section.key value ...``).

    Raises:
        InputError: the file cannot be read; an unknown key, a wrong type or a value that is not allowed.
    """
    return read_config(Run, path, overrides)


def dump_run(run: Run) -> str:
    """The resolved config as YAML; of variants the chosen ones' sections alone."""
    return str(yaml.safe_dump(to_plain(run), sort_keys=False))
