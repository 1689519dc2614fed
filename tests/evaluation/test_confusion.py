"""Metrics against hand computation, the absent-class conventions, void and bad input."""

import pytest
import torch

from crfnet.errors import InputError
from crfnet.evaluation.confusion import confusion_matrix, metrics, tallies, tally_metrics

TRUTH = torch.tensor([[0, 0, 1], [1, 255, 255]])
PREDICTION = torch.tensor([[0, 1, 1], [1, 1, 2]])


def test_confusion_by_hand():
    """Rows truth, columns prediction; void pixels are no false positives, not even of class 2."""
    assert confusion_matrix(PREDICTION, TRUTH, 3).tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]


def test_metrics_by_hand():
    found = metrics(torch.tensor([[3, 1], [2, 4]]))
    assert found.per_class_iou.tolist() == pytest.approx([3 / 6, 4 / 7])
    assert float(found.miou) == pytest.approx((3 / 6 + 4 / 7) / 2)
    assert float(found.pixel_accuracy) == pytest.approx(7 / 10)
    assert float(found.mean_accuracy) == pytest.approx((3 / 4 + 4 / 6) / 2)
    assert found.per_class_accuracy.tolist() == pytest.approx([3 / 4, 4 / 6])
    assert float(found.weighted_iou) == pytest.approx(0.4 * 3 / 6 + 0.6 * 4 / 7)


def test_tallies_by_hand():
    """(right, truth, predicted) of each class; they are all that the metrics need, also when resampled."""
    confusion = torch.tensor([[3, 1], [2, 4]])
    assert tallies(confusion).tolist() == [[3, 4, 5], [4, 6, 5]]
    several = torch.randint(0, 9, (5, 3, 3)).double() * 0.5
    both = metrics(several), tally_metrics(tallies(several))
    assert torch.equal(both[0].miou, both[1].miou)
    assert torch.equal(both[0].weighted_iou, both[1].weighted_iou)


def test_absent_class_is_skipped_or_zero():
    """Class 2 is nowhere; class 1 is predicted but not there, which counts against it in both conventions."""
    confusion = torch.tensor([[3, 1, 0], [0, 0, 0], [0, 0, 0]])
    skip, zero = metrics(confusion, "skip"), metrics(confusion, "zero")
    assert float(skip.miou) == pytest.approx((3 / 4 + 0) / 2)
    assert float(zero.miou) == pytest.approx((3 / 4 + 0 + 0) / 3)
    assert float(skip.mean_accuracy) == pytest.approx(3 / 4)
    assert float(zero.mean_accuracy) == pytest.approx((3 / 4) / 3)
    assert skip.per_class_iou[2].isnan()
    assert zero.per_class_iou[2] == 0
    with pytest.raises(Exception, match="absent"):
        metrics(confusion, "nan")  # type: ignore[arg-type]


@pytest.mark.parametrize("absent", ["skip", "zero"])
def test_nothing_scored_is_nan(absent):
    found = metrics(torch.zeros(2, 3, 3, dtype=torch.int64), absent)
    means = (found.miou, found.pixel_accuracy, found.mean_accuracy, found.weighted_iou)
    for each in (*means, found.per_class_iou, found.per_class_accuracy):
        assert each.isnan().all()


def test_leading_axes_are_independent():
    confusions = torch.randint(0, 9, (4, 2, 3, 3))
    together = metrics(confusions)
    assert together.miou.shape == (4, 2)
    assert together.miou[3, 1] == metrics(confusions[3, 1]).miou
    assert torch.equal(together.per_class_iou[2, 0], metrics(confusions[2, 0]).per_class_iou)


@pytest.mark.parametrize(
    ("prediction", "labels", "message"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(3, 2, dtype=torch.int64), "2 x 3.*3 x 2"),
        (
            torch.zeros(1, 2, dtype=torch.int64),
            torch.tensor([[0, 3]]),
            "labels holds 3, must be 0..2 or 255",
        ),
        (
            torch.tensor([[0, -1]]),
            torch.zeros(1, 2, dtype=torch.int64),
            "prediction holds -1, must be 0..2",
        ),
    ],
)
def test_bad_maps(prediction, labels, message):
    with pytest.raises(InputError, match=message):
        confusion_matrix(prediction, labels, 3)


def test_prediction_on_void_does_not_matter():
    assert confusion_matrix(torch.tensor([[0, 255]]), torch.tensor([[0, 255]]), 2).sum() == 1
