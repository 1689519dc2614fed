"""The first paragraph of a report: a verdict in sentences, by rule. No file, no tensor."""

import math
from collections.abc import Iterator, Mapping, Sequence

from crfnet.evaluation.bootstrap import Interval
from crfnet.report.caveats import chosen_on_these
from crfnet.report.document import arm_label, plain
from crfnet.report.metric_intervals import FEWEST_IMAGES
from crfnet.report.numbers import number, percent, points, seconds, signed, with_range
from crfnet.report.trimap_names import band_meaning, within
from crfnet.report.verdict import (
    Costs,
    Outcome,
    Pair,
    Results,
    Verdict,
    changed_classes,
    crf_pair,
    decide,
    joint_pair,
    outcome,
    sign,
)

__all__ = ["answer", "busy"]

_MOST_CLASSES = 3  #: named each way
_BUSY = 1.1  #: load per core from which the wall clock is not believed

_HEADLINES = {
    "joint": "Joint training wins.",
    "posthoc": "The post-hoc CRF wins.",
    "posthoc+": "The post-hoc CRF wins, behind a network that was trained longer.",
    "unary+": "Longer training wins, without a CRF.",
}
#: What an arm is, where it is what another is held against.
_AGAINST = {
    "unary": "the network alone",
    "posthoc": "the CRF behind the frozen network",
    "unary+": "the network trained as long without a CRF",
    "posthoc+": "the CRF behind a network that was trained as long",
}


def answer(results: Results) -> str:
    """One paragraph: who wins and by how much, what the rest comes to, for which classes, at what cost.

    Of too few images: that they decide nothing, and the figures.
    """
    verdict = decide(results)
    few = results.images < FEWEST_IMAGES
    parts = (_few, _cost) if few else (_headline, _follow_ups, _classes, _cost, _sure_of)
    return " ".join(sentence for part in parts for sentence in part(results, verdict))


def _headline(results: Results, verdict: Verdict) -> Iterator[str]:
    first, pair = results.names[0], verdict.pair
    if pair is None:
        yield "**One arm, nothing to compare it with.**"
        yield from chosen_on_these(results)
        yield _alone(results)
        return
    alone = "The network alone is best." if first == "unary" else f"{arm_label(first)} is best."
    headlines: Mapping[Outcome, str] = {
        "gain": _HEADLINES.get(verdict.winner, f"{arm_label(verdict.winner)} wins."),
        "conflict": "It depends on where one looks.",
        "loss": alone,
        "none": "No difference is sure.",
        "unknown": "Nothing can be compared.",
    }
    headline = headlines[verdict.outcome]
    if verdict.outcome == "gain" and verdict.winner in results.seen:
        known = results.seen[verdict.winner] is not None
        but = "on images that its search has used" if known else "unless its search has used these images"
        headline = f"{headline.removesuffix('.')}, {but}."
    yield f"**{headline}**"
    yield from chosen_on_these(results)
    yield _sentence(results, pair, _border_explained(results), _AGAINST.get(pair[1], ""))


def _few(results: Results, verdict: Verdict) -> Iterator[str]:
    """Figures of a few images, without a verdict and without intervals."""
    one = results.images == 1
    yield f"**{'One image decides' if one else f'{results.images} images decide'} nothing.**"
    yield f"There are intervals and an answer from {FEWEST_IMAGES} images on."
    yield from chosen_on_these(results)
    if verdict.pair is None:
        yield _alone(results)
        return
    yield f"On {'this image' if one else 'these'} alone:"
    pairs = [pair for pair in (verdict.pair, crf_pair(results), joint_pair(results)) if pair is not None]
    for number_of, pair in enumerate(dict.fromkeys(pairs)):
        border = _border(results) if number_of else _border_explained(results)
        places = {"over the image": results.whole(pair), border: results.near(pair)}
        parts = [
            f"{signed(found.estimate)} {place}"
            for place, found in places.items()
            if not math.isnan(found.estimate)
        ]
        described = _AGAINST.get(pair[1], "")
        figures = " and ".join(parts).replace(" ", " points of mIoU ", 1) or "no score in common"
        yield f"{arm_label(pair[0])} minus {arm_label(pair[1])}{described and ', '}{described}: {figures}."


def _alone(results: Results) -> str:
    """The scores of the first arm."""
    first = results.names[0]
    whole, near = results.of(first, "miou"), results.of(first, results.border)
    there = "" if math.isnan(near.estimate) else f" and {_level(near)} {_border_explained(results)}"
    return f"{arm_label(first)} has {_level(whole)} mIoU{there}."


def _border(results: Results) -> str:
    return within(results.border_band, results.border_width)


def _border_explained(results: Results) -> str:
    return f"{_border(results)} ({band_meaning(results.border_band)})"


def _follow_ups(results: Results, verdict: Verdict) -> Iterator[str]:
    """What becomes of the post-hoc CRF, of joint training and of longer training, where not yet said."""
    crf, joint, longer = crf_pair(results), joint_pair(results), ("unary+", "unary")
    said = verdict.pair or ()
    if crf is not None and not {"posthoc", "posthoc+"} & set(said[:1]) and verdict.pair != crf:
        yield f"The post-hoc CRF: {_sentence(results, crf, _border(results), _unsaid(crf[1], said))}"
    if joint is not None and verdict.pair != joint:
        found = outcome(results, joint)
        paid = {"gain": "Joint training:", "conflict": "Joint training is no clear choice:"}
        sentence = _sentence(results, joint, _border(results), _unsaid(joint[1], said))
        yield f"{paid.get(found, '**Joint training did not pay here:**')} {sentence}"
    if verdict.pair != longer and sign(results.whole(longer)) in ("gain", "loss"):
        change = _change(results.whole(longer), "over the image")
        yield f"Longer training alone, {arm_label(longer[0])}, {change}."


def _unsaid(name: str, said: Sequence[str]) -> str:
    """What an arm is, unless it was said before."""
    return "" if name in said else _AGAINST.get(name, "")


def _sentence(results: Results, pair: Pair, border: str, described: str) -> str:
    changes = _changes(results, pair, border)
    return f"{arm_label(pair[0])} {changes} against {arm_label(pair[1])}{described and ', '}{described}."


def _changes(results: Results, pair: Pair, border: str) -> str:
    """What an arm gains or loses, over the image and near the borders."""
    places = {"over the image": results.whole(pair), border: results.near(pair)}
    known = {place: found for place, found in places.items() if sign(found) != "unknown"}
    signs = {sign(found) for found in known.values()}
    if signs == {"none"}:
        numbers = " and ".join(f"{points(found)} {place}" for place, found in known.items())
        return f"makes no sure difference in mIoU ({numbers})"
    sure_first = sorted(known, key=lambda place: sign(known[place]) == "none")
    parts = [_change(known[place], place) for place in sure_first]
    if not parts:
        return "has no score in common"
    first, rest = parts[0].replace(" points", " points of mIoU", 1), parts[1:]
    if len(signs) == 1 and rest:
        return f"{first} and {rest[0].split(' ', 1)[1].replace(' points', '', 1)}"  # the verb is said
    return (" but " if signs == {"gain", "loss"} else ", ").join((first, *rest))


def _change(found: Interval, place: str) -> str:
    match sign(found):
        case "gain":
            return f"gains {100 * found.estimate:.2f} points [{_bounds(found)}] {place}"
        case "loss":
            turned = Interval(-found.high, -found.low, -found.estimate)
            return f"loses {100 * turned.estimate:.2f} points [{_bounds(turned)}] {place}"
    return f"with no sure difference {place} ({points(found)})"


def _bounds(found: Interval) -> str:
    return f"{100 * found.low:.2f}, {100 * found.high:.2f}"


def _level(found: Interval) -> str:
    return f"{percent(found.estimate)} %{with_range(found)}"


def _classes(results: Results, verdict: Verdict) -> Iterator[str]:
    """Where the arm that decided, and a CRF, take away what they give elsewhere."""
    crf, decided = crf_pair(results), verdict.pair
    if decided is not None and decided[0] != "unary+":
        yield from _by_class(results, decided, always=True)
    if crf is not None and crf != decided:
        yield from _by_class(results, crf, always=False)


def _by_class(results: Results, pair: Pair, *, always: bool) -> Iterator[str]:
    """One sentence; of an arm that did not decide only where it takes something away."""
    lost, won = changed_classes(results, pair)
    what = f"By class, {arm_label(pair[0])} against {arm_label(pair[1])}"
    if lost:
        given = _listed(won) if won else "no class for sure"
        yield f"{what} takes from {_listed(lost)} and gives to {given}."
    elif won and always:
        yield f"{what} takes from no class for sure and gives to {_listed(won)}."
    elif results.class_names and always:
        yield f"{what} changes no class for sure."


def _listed(changes: Sequence[tuple[str, float]]) -> str:
    named = [f"{plain(name)} {100 * change:+.2f}" for name, change in changes[:_MOST_CLASSES]]
    more = len(changes) - len(named)
    return ", ".join([*named, *([f"{more} more"] if more else [])])


def busy(costs: Costs) -> bool:
    """Whether other work ran while the times were measured, so that the wall clock is not believed."""
    return costs.load > _BUSY


def _cost(results: Results, verdict: Verdict) -> Iterator[str]:
    """What the arm costs that wins, or else that was meant to."""
    first = results.names[0]
    arm = verdict.winner if verdict.winner != first else (verdict.pair or (first,))[0]
    mine, base = (results.costs.get(name, Costs()) for name in (arm, first))
    parts = []
    clock = "cpu_seconds" if busy(mine) and not math.isnan(mine.cpu_seconds) else "seconds"
    here, there = getattr(mine, clock), getattr(base, clock)
    if not math.isnan(here):
        what = " of processor time" if clock == "cpu_seconds" else ""
        than = f" against {seconds(there)}" if arm != first and not math.isnan(there) else ""
        parts.append(f"{seconds(here)}{what} per image{than}")
    if not math.isnan(mine.peak_mb):
        than = f" against {number(base.peak_mb)}" if arm != first and not math.isnan(base.peak_mb) else ""
        parts.append(f"{number(mine.peak_mb)} MiB of memory{than}")
    for what, more in (
        ("training", mine.train_seconds - base.train_seconds),
        ("search", mine.search_seconds - base.search_seconds),
    ):
        if arm != first and more > 0:
            parts.append(f"{seconds(more)} of {what} more")
    if parts:
        yield f"Cost of {arm_label(arm)}: {', '.join(parts)}."


def _sure_of(results: Results, verdict: Verdict) -> Iterator[str]:
    del verdict
    if results.seeds > 1:
        yield f"Means of {results.seeds} seeds: the intervals cover chance in training, too."
    elif {"joint", "unary+"} & set(results.names):
        yield "One seed: the intervals do not cover chance in training."
