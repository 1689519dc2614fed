"""What to do next, by rule from a verdict."""

from collections.abc import Iterator
from dataclasses import dataclass

from crfnet.report.document import arm_label, code
from crfnet.report.numbers import percent
from crfnet.report.verdict import Pair, Results, Verdict, decide, joint_pair, outcome, sign

__all__ = ["Places", "next_steps"]

_WIDE = 0.01  #: half an interval: from here on more images are worth their cost


@dataclass(frozen=True)
class Places:
    """Files that an arm is used with, relative to the report's folder; empty where there are none.

    Attributes:
        checkpoint: of the network.
        crf: of the CRF's parameters; empty where they are in the checkpoint.
    """

    checkpoint: str = ""
    crf: str = ""


def next_steps(results: Results, places: dict[str, Places]) -> list[str]:
    """A few sentences, each of something to do."""
    verdict = decide(results)
    return [*_use(results, verdict, places), *_joint(results, verdict), *_more(results, verdict)]


def _use(results: Results, verdict: Verdict, places: dict[str, Places]) -> Iterator[str]:
    winner, pair = verdict.winner, verdict.pair
    if pair is None:
        return
    if verdict.outcome == "conflict":
        better, worse = _where(results, pair)
        yield (
            f"Choose by what counts: {arm_label(pair[0])} {better}, {arm_label(pair[1])} {worse}. "
            f"{code('--search.criterion trimap')} searches a CRF for the borders."
        )
    elif verdict.outcome == "gain":
        yield f"Use {arm_label(winner)}{_how(places.get(winner, Places()))}."
    elif verdict.outcome == "loss":
        yield (
            f"Stay with {arm_label(winner)}. If a CRF was meant to help, search weaker ones as well, such as "
            f"{code('--search.w1 [0.5,1,2,3]')}."
        )
    elif verdict.outcome == "none":
        yield f"Stay with {arm_label(winner)}, which costs least, until a difference is sure."


def _where(results: Results, pair: Pair) -> tuple[str, str]:
    image, borders = "over the whole image", "near the borders"
    return (image, borders) if sign(results.whole(pair)) == "gain" else (borders, image)


def _how(place: Places) -> str:
    """The command that applies an arm, in the folder of the report; or the file of its CRF."""
    if place.checkpoint:
        crf = f" --crf {place.crf}" if place.crf else ""
        command = code(f"crfnet predict config.yaml --checkpoint {place.checkpoint}{crf} photo.jpg")
        return f" with {code(place.crf)}: {command}" if place.crf else f": {command}"
    return f" with {code(place.crf)}" if place.crf else ""


def _joint(results: Results, verdict: Verdict) -> Iterator[str]:
    pair = joint_pair(results)
    if pair is None or verdict.winner == "joint":
        return
    found = outcome(results, pair)
    if found == "loss":
        yield (
            f"Joint training made it worse: look below for when its parameters went astray, and lower "
            f"{code('joint.crf_lr')} or {code('joint.lr')}."
        )
    elif found == "none":
        yield f"Leave joint training out: {arm_label(pair[1])} is as good, as far as these images tell."


def _more(results: Results, verdict: Verdict) -> Iterator[str]:
    """What would make the answer surer, or answer more."""
    names, pair = set(results.names), verdict.pair
    if pair is not None and verdict.outcome == "none":
        whole = results.whole(pair)
        half = (whole.high - whole.low) / 2
        if half > _WIDE:
            yield f"Score more images: the interval still reaches {percent(half)} points to either side."
    if results.seeds == 1 and names & {"joint", "unary+"}:
        yield (
            "Before relying on it, repeat with other seeds: "
            f"{code('crfnet compare config.yaml --seed 1 --output RUN1')}, then "
            f"{code('crfnet report RUN0 RUN1 --output DIR')}."
        )
    if names <= {"unary", "posthoc"}:
        yield (
            f"{code('crfnet compare')} also trains network and CRF together, with the controls for that."
            if len(names) > 1
            else f"{code('crfnet search')} finds a CRF for this network, and "
            f"{code('crfnet evaluate --crf best.yaml')} tells what it adds."
        )
