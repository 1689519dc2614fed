"""What a comparison measured of each arm, and which arms are compared with which."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from crfnet.errors import InputError
from crfnet.evaluation.evaluator import Evaluation

__all__ = ["DESCRIPTIONS", "DIFFERENCES", "ArmResult", "check_arms", "compared_pairs", "short"]

#: What each arm is; arms of other names are reported without a description.
DESCRIPTIONS = {
    "unary": "the network alone",
    "posthoc": "the same network, frozen, with a dense CRF of searched parameters behind it (DeepLab's way)",
    "joint": "network and unrolled CRF trained together from there, end to end (CRF-as-RNN's way)",
    "unary+": "control: the network trained for the same extra iterations as joint, with no CRF",
    "posthoc+": "control: the CRF searched again, behind unary+",
    "dt": "the network of unary, frozen, with a domain transform of searched widths behind it",
    "dt_joint": "network and domain transform trained together from there, end to end",
    "dt+": "control: the domain transform searched again, behind unary+",
}

_TRAINED = ("joint", "dt_joint")  #: whose CRF was trained with their network

#: (arm, minus): the differences that answer the question; where a + or joint is on both sides, both arms had
#: the extra training.
DIFFERENCES = (
    ("posthoc", "unary"),
    ("joint", "unary"),
    ("joint", "posthoc"),
    ("unary+", "unary"),
    ("posthoc+", "unary+"),
    ("joint", "unary+"),
    ("joint", "posthoc+"),
    ("dt", "unary"),
    ("dt", "posthoc"),
    ("dt+", "unary+"),
    ("dt_joint", "unary+"),
    ("dt_joint", "dt+"),
    ("dt_joint", "joint"),
)


@dataclass(frozen=True)
class ArmResult:
    """One arm of a comparison.

    Attributes:
        name: unique; see `DESCRIPTIONS` for those that the report explains.
        evaluation: its confusion matrices; all arms score the same images in the same order.
        seconds_per_image: wall-clock time of inference with everything behind the network.
        train_seconds: all training this arm needed, also what it shares with others.
        search_seconds: all parameter search this arm needed.
        peak_memory_mb: at inference, of a process that does nothing else, in MiB.
        crf: CRF parameters used, by name; None without a CRF.
        search_ids: the images on which its parameters were chosen; they must be held out of the evaluation.
        folder: its label maps, evaluation.npz, and energy/ where the CRF's inference was followed.
        search_folder: of the search for its CRF's parameters, with heatmap.png.
        train_folder: of the training of its CRF, with log.jsonl.
        folds: of a cross-validation, in which each image has the parameters chosen without it; 0 for none.
        seed: that its networks were trained with; None where that is not known.
        repeats: the same arm with networks of other seeds, over the same images (see `combine`). All arms of
            a comparison have as many; those at one place are of one run.
        cpu_seconds_per_image: the same inference as processor time, of all threads.
        seen_ids: scored images on which its parameters were chosen all the same: its scores are too good.
        machine_load: of the machine that measured these times meanwhile: processes that ran or wanted to, for
            each core; above 1 the wall clock tells of other work, too.

    A cost that was not measured is NaN.
    """

    name: str
    evaluation: Evaluation
    seconds_per_image: float
    train_seconds: float
    search_seconds: float
    peak_memory_mb: float
    crf: Mapping[str, float | str] | None = None
    search_ids: Sequence[str] = ()
    folder: Path | None = None
    search_folder: Path | None = None
    train_folder: Path | None = None
    folds: int = 0
    seed: int | None = None
    repeats: Sequence["ArmResult"] = ()
    cpu_seconds_per_image: float = math.nan
    machine_load: float = math.nan
    seen_ids: Sequence[str] = ()

    @property
    def seen(self) -> int | None:
        """On how many scored images its parameters were chosen; None where nothing tells.

        Parameters that were trained, not searched, were chosen on no image that is scored.
        """
        trained = self.train_folder is not None or self.name in _TRAINED
        if self.seen_ids or self.crf is None or self.search_ids or self.folds or trained:
            return len(self.seen_ids)
        return None

    @property
    def seeds(self) -> tuple["ArmResult", ...]:
        """This arm and its repeats: one of each seed."""
        return (self, *self.repeats)

    @property
    def seed_labels(self) -> tuple[str, ...]:
        """What each of `seeds` is called."""
        return tuple(
            f"run {place}" if each.seed is None else f"seed {each.seed}"
            for place, each in enumerate(self.seeds, 1)
        )

    def cost(self, name: str) -> float:
        """The mean over seeds of ``seconds_per_image`` or another cost; NaN unless all were measured."""
        return fmean(getattr(each, name) for each in self.seeds)


def check_arms(arms: Sequence[ArmResult]) -> None:
    """Raise `InputError` unless the arms can be compared.

    They need different names, the same images, classes and widths, as many seeds, and no image that any arm
    was searched on.
    """
    if not arms:
        raise InputError("arms is empty, must be at least one")
    names = [arm.name for arm in arms]
    if len(set(names)) != len(names):
        raise InputError(f"arms are named {', '.join(names)}: names must differ")
    first = arms[0]
    if not first.evaluation.ids:
        raise InputError(f"arm {first.name} scored no image")
    for arm in arms:
        for each in arm.seeds:
            _check_like(each, first)
            _check_held_out(each)
        if len(arm.seeds) != len(first.seeds):
            raise InputError(
                f"arms {first.name} and {arm.name} have {len(first.seeds)} and {len(arm.seeds)} seeds, "
                "must be as many in every arm"
            )


def compared_pairs(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The `DIFFERENCES` between arms that are there, then every other arm minus the first."""
    known = [pair for pair in DIFFERENCES if set(pair) <= set(names)]
    return (*known, *((name, names[0]) for name in names[1:] if (name, names[0]) not in known))


def _check_like(arm: ArmResult, first: ArmResult) -> None:
    for quantity in ("ids", "num_classes", "max_width"):
        mine, theirs = (getattr(each.evaluation, quantity) for each in (arm, first))
        if mine != theirs:
            raise InputError(
                f"arms {first.name} and {arm.name} differ in {quantity}: {short(theirs)} and "
                f"{short(mine)}; only arms that scored the same images can be compared"
            )


def _check_held_out(arm: ArmResult) -> None:
    searched = set(arm.search_ids)
    scored = [id for id in arm.evaluation.ids if id in searched]
    if scored:
        raise InputError(
            f"arm {arm.name}: {len(scored)} of the scored images, first {scored[0]}, are among those its "
            "parameters were searched on, must be held out"
        )


def short(value: object) -> str:
    """At most 60 characters of it."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
