"""Every named metric is that of the evaluation; differences are those of its bootstrap."""

import math

import pytest
import torch

from crfnet.errors import InputError
from crfnet.evaluation.bootstrap import bootstrap, seeds_bootstrap
from crfnet.evaluation.confusion import metrics
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.evaluation.named_metrics import MEANS, difference, interval, named_metric
from tests.evaluation.by_hand import paired_interval

CONFIG = EvaluationConfig(max_width=5, draws=60, seed=3)
NAMES = ("miou", "pixel_accuracy", "weighted_iou", "boundary_iou", "boundary_f", "trimap_void/miou@2")


def arm(shift, images=8, seed=0):
    """A square whose prediction is moved by `shift` pixels, some of them by one more, with void around."""
    generator = torch.Generator().manual_seed(seed)
    evaluation = Evaluation(3, CONFIG.max_width)
    for i in range(images):
        labels = torch.zeros(20, 24 + i, dtype=torch.int64)
        labels[4:14, 5 : 12 + i % 3] = 1 + i % 2
        prediction = labels.roll(shift + int(torch.randint(2, (1,), generator=generator)), 1)
        labels[14:16] = 255
        evaluation.add(f"im{i}", prediction, labels)
    return evaluation


@pytest.mark.parametrize("absent", ["skip", "zero"])
def test_scores_are_those_of_the_evaluation(absent):
    evaluation = arm(1)
    expected = {name: getattr(evaluation.metrics(absent), name) for name in MEANS}
    expected |= {"boundary_iou": evaluation.boundary_iou(absent)[0], "boundary_f": evaluation.boundary_f()}
    for band in ("void", "change"):
        found = evaluation.trimap_metrics(band, absent)
        for width in (1, 5):
            expected |= {f"trimap_{band}/{name}@{width}": getattr(found, name)[width - 1] for name in MEANS}
    for name, value in expected.items():
        assert named_metric(name, absent).score(evaluation) == pytest.approx(float(value)), name


def test_no_score_where_nothing_is_counted():
    evaluation = Evaluation(2, 5)
    evaluation.add("a", torch.zeros(3, 3, dtype=torch.int64), torch.full((3, 3), 255))
    for name in NAMES:
        assert math.isnan(named_metric(name).score(evaluation)), name


@pytest.mark.parametrize("name", NAMES)
def test_identical_arms_differ_by_exactly_nothing(name):
    found = difference(arm(1), arm(1), name, CONFIG)
    assert (found.low, found.high, found.estimate) == (0, 0, 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_better_arm_is_found_by_every_metric(name):
    better, worse = arm(0), arm(3)
    found = difference(worse, better, name, CONFIG)
    assert found.estimate == pytest.approx(named_metric(name).score(better) - named_metric(name).score(worse))
    assert found.low <= found.estimate <= found.high
    assert found.excludes_zero
    assert found.low > 0


def test_intervals_are_those_of_confusion_matrices():
    a, b = arm(1), arm(2)
    statistic = lambda c: metrics(c).miou  # noqa: E731
    found, expected = (
        difference(a, b, "miou", CONFIG),
        paired_interval(a.confusion, b.confusion, statistic, 60, 3),
    )
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    inside = [each.trimap("change")[:, 1] for each in (a, b)]
    found, expected = (
        difference(a, b, "trimap_change/miou@2", CONFIG),
        paired_interval(*inside, statistic, 60, 3),
    )
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    found, expected = interval(a, "miou", CONFIG), bootstrap(a.confusion, statistic, 60, 3)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_multiprocess_seeds_are_given_as_several_evaluations():
    a, b = [arm(2, seed=s) for s in range(3)], [arm(1, seed=s) for s in range(2)]
    what = named_metric("boundary_f")
    tables = [torch.stack([what.per_image(each) for each in each_arm]) for each_arm in (a, b)]
    assert difference(a, b, "boundary_f", CONFIG) == seeds_bootstrap(*tables, what.statistic, 60, 3)
    assert difference(a, a, "boundary_f", CONFIG, paired=True).high == 0


@pytest.mark.parametrize(
    "name", ["iou", "trimap_void/miou", "trimap_void/miou@0", "trimap_edge/miou@3", "trimap_void/iou@3", ""]
)
def test_unknown_metrics(name):
    with pytest.raises(InputError, match=r"metric is .*, must be one of"):
        named_metric(name)


def test_evaluations_that_do_not_compare():
    with pytest.raises(InputError, match="differ in ids"):
        difference(arm(1), arm(1, images=7), "miou", CONFIG)
    other = arm(1)
    other.element = "disc"
    with pytest.raises(InputError, match="differ in element"):
        difference(arm(1), other, "miou", CONFIG)
    with pytest.raises(InputError, match="no evaluation"):
        difference([], [], "miou", CONFIG)
    with pytest.raises(ValueError, match="width is 6"):
        difference(arm(1), arm(1), "trimap_void/miou@6", CONFIG)
