"""The answer of a report: rules from made-up results of every kind to sentences."""

import dataclasses
import math

import pytest

from crfnet.evaluation.bootstrap import Interval
from crfnet.report.answer import answer
from crfnet.report.next_steps import Places, RunPlaces, next_steps
from crfnet.report.numbers import seconds
from crfnet.report.search_edges import Edge
from crfnet.report.verdict import Costs, Results, Verdict, changed_classes, decide, outcome, sign

VOID = "within 3 px of void (the ribbon along objects that is not scored)"
BORDER = "trimap_void/miou@3"
ARMS = ("unary", "posthoc", "joint", "unary+", "posthoc+")
GAIN, LOSS, NONE = (0.02, 0.01, 0.03), (-0.02, -0.03, -0.01), (0.001, -0.004, 0.006)
NAN = (math.nan,) * 3


def interval(estimate, low, high):
    return Interval(low, high, estimate)


def results(names=ARMS, classes=None, **differences):
    """Differences as ``posthoc_unary=(whole, near)``; those that are not given are not sure."""
    intervals = {}
    for name in names:
        intervals[name, "miou"] = interval(0.6, 0.55, 0.65)
        intervals[name, BORDER] = interval(0.4, 0.35, 0.45)
        for other in names:
            key = f"{name}_{other}".replace("+", "p")
            whole, near = differences.pop(key, (NONE, NONE))
            intervals[f"{name} - {other}", "miou"] = interval(*whole)
            intervals[f"{name} - {other}", BORDER] = interval(*near)
    assert not differences
    for (pair, class_name), change in (classes or {}).items():
        intervals[pair, f"iou/{class_name}"] = interval(*change)
    named = [class_name for _, class_name in classes or {}]
    return Results(names, intervals, list(dict.fromkeys(named)), BORDER, 3, images=50)


def test_sign():
    assert [sign(interval(*each)) for each in (GAIN, LOSS, NONE, NAN)] == ["gain", "loss", "none", "unknown"]
    assert sign(interval(0.0, 0.0, 0.0)) == "none"


@pytest.mark.parametrize(
    ("whole", "near", "expected"),
    [
        (GAIN, GAIN, "gain"),
        (GAIN, NONE, "gain"),
        (NONE, GAIN, "gain"),
        (GAIN, LOSS, "conflict"),
        (LOSS, GAIN, "conflict"),
        (NONE, LOSS, "loss"),
        (NONE, NONE, "none"),
        (GAIN, NAN, "gain"),
        (NAN, NAN, "unknown"),
    ],
)
def test_outcome_of_image_and_borders(whole, near, expected):
    assert outcome(results(posthoc_unary=(whole, near)), ("posthoc", "unary")) == expected


BOTH = (GAIN, GAIN)
POSTHOC = {"posthoc_unary": BOTH, "posthocp_unary": BOTH, "posthocp_unaryp": BOTH}


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ({}, Verdict("none", "unary", ("posthoc", "unary"))),
        (POSTHOC, Verdict("gain", "posthoc", ("posthoc", "unary"))),
        (POSTHOC | {"unaryp_unary": (GAIN, NONE)}, Verdict("gain", "posthoc+", ("posthoc+", "unary+"))),
        (
            POSTHOC | {"joint_posthocp": (NONE, GAIN), "joint_unary": BOTH},
            Verdict("gain", "joint", ("joint", "posthoc+")),
        ),
        # better than an arm that a CRF made worse, yet not than the network alone
        ({"joint_posthocp": BOTH}, Verdict("none", "unary", ("posthoc", "unary"))),
        # better than the network alone, without being better than posthoc+
        ({"joint_unary": BOTH}, Verdict("gain", "joint", ("joint", "unary"))),
        ({"unaryp_unary": BOTH}, Verdict("gain", "unary+", ("unary+", "unary"))),
        ({"posthoc_unary": (GAIN, LOSS)}, Verdict("conflict", "unary", ("posthoc", "unary"))),
        (
            {f"{arm}_unary": (LOSS, LOSS) for arm in ("posthoc", "joint", "unaryp", "posthocp")},
            Verdict("loss", "unary", ("posthoc", "unary")),
        ),
        ({"posthoc_unary": (LOSS, LOSS)}, Verdict("none", "unary", ("posthoc", "unary"))),
    ],
)
def test_who_wins(differences, expected):
    assert decide(results(**differences)) == expected


def test_who_wins_among_fewer_and_other_arms():
    assert decide(results(["unary"])) == Verdict("unknown", "unary")
    two = results(["unary", "posthoc"], posthoc_unary=(LOSS, NONE))
    assert decide(two) == Verdict("loss", "unary", ("posthoc", "unary"))
    none = results(["posthoc", "joint"], joint_posthoc=BOTH)
    assert decide(none) == Verdict("gain", "joint", ("joint", "posthoc"))
    turned = results(["joint", "posthoc"], posthoc_joint=(NONE, LOSS))
    assert decide(turned) == Verdict("loss", "joint", ("posthoc", "joint"))
    larger = ((0.05, 0.04, 0.06), NONE)
    others = results(["mine", "yours", "theirs"], yours_mine=BOTH, theirs_mine=larger)
    assert decide(others) == Verdict("gain", "theirs", ("theirs", "mine"))
    unknown = results(["mine", "yours"], yours_mine=(NAN, NAN))
    assert decide(unknown) == Verdict("unknown", "mine", ("yours", "mine"))


def test_a_gain_in_words():
    text = answer(results(**POSTHOC))
    assert text.startswith(
        "**The post-hoc CRF wins.** `posthoc` gains 2.00 points of mIoU [1.00, 3.00] over the image and "
        f"2.00 [1.00, 3.00] {VOID} against `unary`, the network alone. "
        "**Joint training did not pay here:** `joint` makes no sure difference in mIoU (+0.10 [-0.40, +0.60] "
        "over the image and +0.10 [-0.40, +0.60] within 3 px of void) against `posthoc+`, the CRF behind a "
        "network that was trained as long."
    )
    assert text.endswith("One seed: the intervals do not cover chance in training.")
    assert "The post-hoc CRF:" not in text  # said once


def test_a_gain_in_one_place_alone():
    borders = answer(results(["unary", "posthoc"], posthoc_unary=(NONE, GAIN)))
    assert (
        "`posthoc` gains 2.00 points of mIoU [1.00, 3.00] within 3 px of void (the ribbon along objects that "
        "is not scored), with no sure difference over the image (+0.10 [-0.40, +0.60]) against `unary`"
        in borders
    )
    unknown = answer(results(["unary", "posthoc"], posthoc_unary=(GAIN, NAN)))
    assert "`posthoc` gains 2.00 points of mIoU [1.00, 3.00] over the image against `unary`" in unknown


def test_joint_wins_in_words():
    text = answer(results(**POSTHOC, joint_posthocp=BOTH, joint_unary=BOTH))
    assert text.startswith("**Joint training wins.** `joint` gains 2.00 points")
    assert "against `posthoc+`, the CRF behind a network that was trained as long." in text
    assert "The post-hoc CRF: `posthoc` gains 2.00 points of mIoU" in text
    assert "did not pay" not in text


def test_loss_conflict_and_no_difference_in_words():
    two = ["unary", "posthoc"]
    loss = answer(results(two, posthoc_unary=(LOSS, LOSS)))
    assert loss.startswith(
        "**The network alone is best.** `posthoc` loses 2.00 points of mIoU [1.00, 3.00] over the image and "
        f"2.00 [1.00, 3.00] {VOID} against `unary`"
    )
    conflict = answer(results(two, posthoc_unary=(LOSS, GAIN)))
    assert conflict.startswith(
        "**It depends on where one looks.** `posthoc` loses 2.00 points of mIoU [1.00, 3.00] over the image "
        f"but gains 2.00 points [1.00, 3.00] {VOID} against `unary`"
    )
    assert answer(results(two)).startswith(
        "**No difference is sure.** `posthoc` makes no sure difference in mIoU (+0.10 [-0.40, +0.60] over "
        f"the image and +0.10 [-0.40, +0.60] {VOID}) against `unary`, the network "
        "alone."
    )
    one = answer(results(["predictions"]))
    assert one == (
        "**One arm, nothing to compare it with.** `predictions` has 60.00 % [55.00, 65.00] mIoU and 40.00 % "
        f"[35.00, 45.00] {VOID}."
    )
    nothing = answer(results(["mine", "yours"], yours_mine=(NAN, NAN)))
    assert "**Nothing can be compared.** `yours` has no score in common against `mine`." in nothing
    assert answer(results(["mine", "yours"], yours_mine=BOTH)).startswith("**`yours` wins.** `yours` gains")


def test_what_becomes_of_joint_training():
    joint = lambda *how: answer(results(**POSTHOC, joint_posthocp=how))  # noqa: E731
    assert "**Joint training did not pay here:** `joint` loses 2.00 points" in joint(LOSS, NONE)
    assert "Joint training is no clear choice: `joint` gains 2.00 points of mIoU" in joint(GAIN, LOSS)
    assert "Joint training: `joint` gains 2.00 points" in joint(GAIN, NONE)  # not for sure more than unary
    longer = answer(results(unaryp_unary=(LOSS, NONE)))
    assert "Longer training alone, `unary+`, loses 2.00 points [1.00, 3.00] over the image." in longer


def test_seeds():
    several = dataclasses.replace(results(**POSTHOC), seeds=3)
    assert answer(several).endswith("Means of 3 seeds: the intervals cover chance in training, too.")
    assert "seed" not in answer(results(["unary", "posthoc"]))  # both are of one network
    assert not any("other seeds" in step for step in next_steps(several, RunPlaces()))


def test_classes_that_lose_what_others_gain():
    pair = "posthoc - unary"
    changes = {"sky": GAIN, "pole": LOSS, "fence": (-0.05, -0.06, -0.04), "road": NONE, "x*y": NAN}
    found = results(["unary", "posthoc"], {(pair, name): each for name, each in changes.items()})
    assert changed_classes(found, ("posthoc", "unary")) == (
        [("fence", -0.05), ("pole", -0.02)],
        [("sky", 0.02)],
    )
    text = "By class, `posthoc` against `unary` takes from fence -5.00, pole -2.00 and gives to sky +2.00."
    assert text in answer(found)
    many = {(pair, f"c{i}"): GAIN for i in range(5)}
    assert "takes from no class for sure and gives to c0 +2.00, c1 +2.00, c2 +2.00, 2 more." in answer(
        results(["unary", "posthoc"], many)
    )
    assert "takes from a*b -2.00".replace("*", "\\*") in answer(
        results(["unary", "posthoc"], {(pair, "a*b"): LOSS})
    )
    assert "changes no class for sure" in answer(results(["unary", "posthoc"], {(pair, "road"): NONE}))


def test_costs():
    costs = {
        "unary": Costs(0.03, 0.05, 60.0, 0.0, 400.0, 0.8),
        "posthoc": Costs(0.08, 0.13, 60.0, 300.0, 430.0, 0.8),
    }
    found = dataclasses.replace(results(["unary", "posthoc"], posthoc_unary=BOTH), costs=costs)
    assert (
        "Cost of `posthoc`: 80 ms per image against 30 ms, 430 MiB of memory against 400, 5 min of search "
        "more." in answer(found)
    )
    busy = {name: dataclasses.replace(each, load=2.0) for name, each in costs.items()}
    assert "0.13 s of processor time per image against 50 ms" in answer(
        dataclasses.replace(found, costs=busy)
    )
    assert "Cost" not in answer(dataclasses.replace(found, costs={}))
    times = [seconds(each) for each in (math.nan, 0.0312, 0.3, 119.0, 600.0, 9000.0)]
    assert times == ["–", "31.2 ms", "0.3 s", "119 s", "10 min", "2.5 h"]


def test_next_steps():
    places = {
        "posthoc": Places("unary/train/checkpoint.pt", "posthoc/search/best.yaml"),
        "joint": Places("joint/train/checkpoint.pt"),
    }
    run = RunPlaces("runs/a", "runs/a/config.yaml", 7, places)
    use, leave, seeds = next_steps(results(**POSTHOC), run)
    assert use == (
        "Use `posthoc` with `posthoc/search/best.yaml`: `crfnet predict runs/a/config.yaml --checkpoint "
        "unary/train/checkpoint.pt --crf posthoc/search/best.yaml YOUR_PHOTO.jpg`."
    )
    assert leave.startswith("Leave joint training out: `posthoc+` is as good")
    assert seeds == (
        "Before relying on it, repeat with other seeds: `crfnet compare runs/a/config.yaml --seed 8 --output "
        "runs/a_seed8`, then `crfnet report runs/a runs/a_seed8 --output runs/a_seeds`."
    )
    *_, seeds = next_steps(results(**POSTHOC), dataclasses.replace(run, start="w.pt"))
    assert "`crfnet compare runs/a/config.yaml --checkpoint w.pt --seed 8 --output runs/a_seed8`" in seeds
    untrained = next_steps(results(**POSTHOC), dataclasses.replace(run, trained=False))
    assert untrained == [use, leave]
    use, *_ = next_steps(results(**POSTHOC, joint_posthocp=BOTH, joint_unary=BOTH), run)
    assert use == (
        "Use `joint`: `crfnet predict runs/a/config.yaml --checkpoint joint/train/checkpoint.pt "
        "YOUR_PHOTO.jpg`."
    )
    lost = next_steps(
        results(**POSTHOC, joint_posthocp=(LOSS, LOSS)), RunPlaces(arms={"posthoc": Places("", "b.yaml")})
    )
    assert lost[0] == "Use `posthoc` with `b.yaml`."
    assert lost[1].startswith("Joint training made it worse")
    assert next_steps(results(["predictions"]), RunPlaces()) == []


def test_next_steps_without_a_winner():
    two = ["unary", "posthoc"]
    wide = (0.001, -0.02, 0.022)
    stay, more, compare = next_steps(results(two, posthoc_unary=(wide, NONE)), RunPlaces())
    assert stay.startswith("Stay with `unary`, which costs least")
    assert more == "Score more images: the interval still reaches 2.10 points to either side."
    assert compare.startswith("`crfnet compare` also trains")
    assert len(next_steps(results(two), RunPlaces())) == 2  # the interval is narrow
    choose, *_ = next_steps(results(two, posthoc_unary=(LOSS, GAIN)), RunPlaces())
    assert choose.startswith(
        "Choose by what counts: `posthoc` near the borders, `unary` over the whole image."
    )
    turned, *_ = next_steps(results(two, posthoc_unary=(GAIN, LOSS)), RunPlaces())
    assert "`posthoc` over the whole image, `unary` near the borders" in turned
    stay, *_ = next_steps(results(two, posthoc_unary=(LOSS, LOSS)), RunPlaces())
    assert stay.startswith("Stay with `unary`. If a CRF was meant to help")
    assert next_steps(results(["unary"]), RunPlaces())[-1].startswith("`crfnet search` finds a CRF")


def test_a_few_images_decide_nothing():
    """However narrow their intervals: figures, no verdict, no class, no word of sureness; ten decide."""
    two = ["unary", "posthoc"]
    found = results(two, {("posthoc - unary", "sky"): GAIN}, posthoc_unary=BOTH)
    one, nine, ten = (dataclasses.replace(found, images=images) for images in (1, 9, 10))
    assert decide(one) == decide(nine) == Verdict("few", "unary", ("posthoc", "unary"))
    assert decide(ten) == Verdict("gain", "posthoc", ("posthoc", "unary"))
    assert answer(one) == (
        "**One image decides nothing.** There are intervals and an answer from 10 images on. On this image "
        "alone: `posthoc` minus `unary`, the network alone: +2.00 points of mIoU over the image "
        f"and +2.00 {VOID}."
    )
    assert answer(nine).startswith("**9 images decide nothing.** There are intervals and an answer from 10 ")
    assert answer(ten).startswith("**The post-hoc CRF wins.**")
    first, other = next_steps(one, RunPlaces())
    assert first == "Score more images: 10 at least, better a hundred."
    assert other.startswith("`crfnet compare` also trains")
    five = answer(dataclasses.replace(results(**POSTHOC, joint_posthocp=(LOSS, LOSS)), images=4))
    assert "`joint` minus `posthoc+`, the CRF behind a network that was trained as long: -2.00 points" in five
    for word in ("wins", "sure", "pay", "best", "[", "seed"):
        assert word not in five + answer(one)
    alone = answer(
        dataclasses.replace(results(["unary"]), images=1, intervals={("unary", "miou"): NO_BOUNDS})
    )
    assert alone.endswith("from 10 images on. `unary` has 60.00 % mIoU.")


NO_BOUNDS = Interval(math.nan, math.nan, 0.6)


def test_images_that_the_search_has_used_are_told_before_the_figures():
    two = ["unary", "posthoc"]
    text = lambda seen, **how: answer(dataclasses.replace(results(two, **how), seen={"posthoc": seen}))  # noqa: E731
    assert text(8, posthoc_unary=BOTH).startswith(
        "**The post-hoc CRF wins, on images that its search has used.** The parameters of `posthoc` were "
        "chosen on 8 of the 50 images scored here: what it gains on those is more than on new ones. "
        "`posthoc` gains"
    )
    assert "were chosen on all 50 images scored here:" in text(50, posthoc_unary=BOTH)
    assert text(None, posthoc_unary=BOTH).startswith(
        "**The post-hoc CRF wins, unless its search has used these images.** Nothing tells on which images "
        "the parameters of `posthoc` were chosen: if on some of these, the gain is more than on new ones. "
        "`posthoc`"
    )
    assert text(8).startswith(
        "**No difference is sure.** The parameters of `posthoc` were chosen on 8 of the"
    )
    few = dataclasses.replace(results(two, posthoc_unary=BOTH), seen={"posthoc": 1}, images=1)
    assert "10 images on. The parameters of `posthoc` were chosen on the one image scored here" in answer(few)
    seen = dataclasses.replace(results(two, posthoc_unary=BOTH), seen={"posthoc": 8})
    steps = next_steps(seen, RunPlaces(arms={"posthoc": Places("", "s/best.yaml", "s/images.txt")}))
    assert steps[0] == (
        "Score `posthoc` on images that its search has not used: the same with `--exclude s/images.txt`."
    )
    assert not any(step.startswith("Use") for step in steps)
    unknown = dataclasses.replace(seen, seen={"posthoc": None})
    leave, use, *_ = next_steps(unknown, RunPlaces())
    assert leave.startswith(
        "Leave out the images that the parameters of `posthoc` were chosen on: the same with"
    )
    assert use == "Use `posthoc`."


def test_after_a_loss_one_search_is_proposed():
    smallest = (Edge("search", "w1", 2.5, False),)
    lost = results(names=("unary", "posthoc"), posthoc_unary=(LOSS, LOSS))
    weaker, *_ = next_steps(lost, RunPlaces())
    assert weaker.startswith("Stay with `unary`. If a CRF was meant to help, search weaker ones")
    stay, beyond, *_ = next_steps(lost, RunPlaces(edges={smallest: ["posthoc"]}))
    assert stay == "Stay with `unary`."
    assert "search smaller ones, too" in beyond


def test_a_search_that_ended_at_an_edge():
    largest = (Edge("search", "w1", 16.0, True), Edge("search", "theta_alpha", 40.0, True))
    both = (Edge("search", "theta_beta", 2.0, False), Edge("search", "iterations", 10.0, True))
    run = RunPlaces(edges={largest: ["posthoc", "posthoc+"], both: ["other"]})
    _, first, second, *_ = next_steps(results(**POSTHOC), run)
    assert first == (
        "`posthoc` and `posthoc+`: w1 = 16 and theta_alpha = 40 are the largest that were tried; the best "
        'may lie beyond: search larger ones, too (`--search.w1 "[16,32,64]" '
        '--search.theta_alpha "[40,80,160]"`).'
    )
    assert second == (
        "`other`: iterations = 10 is the largest that was tried and theta_beta = 2 is the smallest that was "
        "tried; the best may lie beyond: search larger and smaller ones, too (`--search.theta_beta "
        '"[0.5,1,2]" --search.iterations "[10,20,40]"`).'
    )
