"""What to do next, by rule from a verdict."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from crfnet.report.document import arm_label, code
from crfnet.report.metric_intervals import FEWEST_IMAGES
from crfnet.report.numbers import percent
from crfnet.report.search_edges import Edge
from crfnet.report.verdict import Pair, Results, Verdict, decide, joint_pair, outcome, sign

__all__ = ["Places", "RunPlaces", "next_steps"]

_WIDE = 0.01  #: half an interval: from here on more images are worth their cost


@dataclass(frozen=True)
class Places:
    """Files that an arm is used with, as a command would name them; empty where there are none.

    Attributes:
        checkpoint: of the network.
        crf: of the CRF's parameters; empty where they are in the checkpoint.
        images: the list of those that the parameters were chosen on.
    """

    checkpoint: str = ""
    crf: str = ""
    images: str = ""


@dataclass(frozen=True)
class RunPlaces:
    """What commands name of a run.

    Attributes:
        folder: of the report, not quoted.
        config: of the run, as a command would name it.
        seed: of the run.
        arms: by arm, the files that it is used with.
        edges: arms whose search ended at the edge of what it tried, by where it did.
        images: that ``predict`` is shown with.
        start: the checkpoint that its trainings began with, where it trained no network of its own.
        trained: whether the run trains, so that it can be repeated with another seed.
    """

    folder: str = "RUN"
    config: str = "CONFIG"
    seed: int = 0
    arms: Mapping[str, Places] = field(default_factory=dict)
    edges: Mapping[tuple[Edge, ...], Sequence[str]] = field(default_factory=dict)
    images: str = "YOUR_PHOTO.jpg"
    start: str = ""
    trained: bool = True


def next_steps(results: Results, run: RunPlaces) -> list[str]:
    """A few sentences, each of something to do."""
    verdict = decide(results)
    if results.images < FEWEST_IMAGES:
        few = f"Score more images: {FEWEST_IMAGES} at least, better a hundred."
        return [few, *_seen(results, run), *_beyond(run), *_other_commands(results)]
    return [
        *_seen(results, run),
        *_use(results, verdict, run),
        *_beyond(run),
        *_joint(results, verdict),
        *_more(results, verdict, run),
        *_other_commands(results),
    ]


def _seen(results: Results, run: RunPlaces) -> Iterator[str]:
    """How to score on images that a search has not used."""
    for name, seen in results.seen.items():
        place = run.arms.get(name, Places())
        listed = code(f"--exclude {place.images or 'FILE'}")
        if seen:
            yield f"Score {arm_label(name)} on images that its search has not used: the same with {listed}."
        elif seen is None:
            yield (
                f"Leave out the images that the parameters of {arm_label(name)} were chosen on: the same "
                f"with {listed}, an id a line (images.txt of a search)."
            )


def _use(results: Results, verdict: Verdict, run: RunPlaces) -> Iterator[str]:
    winner, pair = verdict.winner, verdict.pair
    if pair is None:
        return
    if verdict.outcome == "conflict":
        better, worse = _where(results, pair)
        yield (
            f"Choose by what counts: {arm_label(pair[0])} {better}, {arm_label(pair[1])} {worse}. "
            f"{code('--search.criterion trimap')} searches a CRF for the borders."
        )
    elif verdict.outcome == "gain" and not results.seen.get(winner):
        yield f"Use {arm_label(winner)}{_how(run, run.arms.get(winner, Places()))}."
    elif verdict.outcome == "loss":
        weaker = code('--search.w1 "[0.5,1,2,3]"')
        if any(set(pair) & set(names) for names in run.edges.values()):  # which says where to search
            yield f"Stay with {arm_label(winner)}."
        else:
            yield (
                f"Stay with {arm_label(winner)}. If a CRF was meant to help, search weaker ones as well, "
                f"such as {weaker}."
            )
    elif verdict.outcome == "none":
        yield f"Stay with {arm_label(winner)}, which costs least, until a difference is sure."


def _where(results: Results, pair: Pair) -> tuple[str, str]:
    image, borders = "over the whole image", "near the borders"
    return (image, borders) if sign(results.whole(pair)) == "gain" else (borders, image)


def _how(run: RunPlaces, place: Places) -> str:
    """The command that applies an arm; or the file of its CRF."""
    if place.checkpoint:
        crf = f" --crf {place.crf}" if place.crf else ""
        command = code(f"crfnet predict {run.config} --checkpoint {place.checkpoint}{crf} {run.images}")
        return f" with {code(place.crf)}: {command}" if place.crf else f": {command}"
    return f" with {code(place.crf)}" if place.crf else ""


def _beyond(run: RunPlaces) -> Iterator[str]:
    """Which values no search has tried, though the best ones may lie there."""
    for edges, names in run.edges.items():
        parts = []
        for largest, word, further in ((True, "largest", "larger"), (False, "smallest", "smaller")):
            those = [f"{edge.name} = {edge.value:g}" for edge in edges if edge.largest == largest]
            if those:
                are, were = ("are", "were") if len(those) > 1 else ("is", "was")
                parts.append((f"{' and '.join(those)} {are} the {word} that {were} tried", further))
        told, further = (" and ".join(each) for each in zip(*parts, strict=True))
        options = code(" ".join(edge.beyond for edge in edges))
        yield (
            f"{' and '.join(map(arm_label, names))}: {told}; the best may lie beyond: search {further} ones, "
            f"too ({options})."
        )


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


def _more(results: Results, verdict: Verdict, run: RunPlaces) -> Iterator[str]:
    """What would make the answer surer."""
    names, pair = set(results.names), verdict.pair
    if pair is not None and verdict.outcome == "none":
        whole = results.whole(pair)
        half = (whole.high - whole.low) / 2
        if half > _WIDE:
            yield f"Score more images: the interval still reaches {percent(half)} points to either side."
    if run.trained and results.seeds == 1 and names & {"joint", "unary+"}:
        other, seeds = f"{run.folder}_seed{run.seed + 1}", f"{run.folder}_seeds"
        folder, other, seeds = map(shlex.quote, (run.folder, other, seeds))
        start = f" --checkpoint {run.start}" if run.start else ""
        yield (
            "Before relying on it, repeat with other seeds: "
            f"{code(f'crfnet compare {run.config}{start} --seed {run.seed + 1} --output {other}')}, then "
            f"{code(f'crfnet report {folder} {other} --output {seeds}')}."
        )


def _other_commands(results: Results) -> Iterator[str]:
    """What would answer more."""
    names = set(results.names)
    if names <= {"unary", "posthoc"}:
        yield (
            f"{code('crfnet compare')} also trains network and CRF together, with the controls for that."
            if len(names) > 1
            else f"{code('crfnet search')} finds a CRF for this network, and "
            f"{code('crfnet evaluate --crf best.yaml')} tells what it adds."
        )
