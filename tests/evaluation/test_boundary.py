"""Boundary IoU and boundary F against loops over their definitions, and cases seen by eye."""

import math

import pytest
import torch

from crfnet.errors import InputError
from crfnet.evaluation.boundary import (
    BoundaryConfig,
    boundary_f,
    boundary_tallies,
    contour_matches,
    f_scores,
)
from crfnet.evaluation.confusion import tally_metrics
from crfnet.labels import VOID

CLASSES = 3


def random_maps(seed, height=9, width=12):
    """Blobs of the classes with some void, and a prediction that is another such map in places."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.tensor([0, 1, 2, VOID])[torch.randint(4, (3, 4), generator=generator)]
    labels = coarse.repeat_interleave(3, 0).repeat_interleave(3, 1)[:height, :width].contiguous()
    noise = torch.randint(CLASSES, (height, width), generator=generator)
    use = torch.rand(height, width, generator=generator) < 0.2
    return torch.where(use | (labels == VOID), noise, labels), labels


def masks(prediction, labels, c):
    """The class' pixels in truth and prediction, void taken out of both."""
    truth = {(y, x) for y, x in (labels == c).nonzero().tolist()}
    return truth, {(y, x) for y, x in ((prediction == c) & (labels != VOID)).nonzero().tolist()}


def eroded(mask, times):
    """By a 3 x 3 square; outside the image is outside the mask."""
    for _ in range(times):
        mask = {
            (y, x) for y, x in mask if all((y + i, x + j) in mask for i in (-1, 0, 1) for j in (-1, 0, 1))
        }
    return mask


def outline(mask, height, width):
    """The pixels of the mask with a pixel of the image outside it among their 4 neighbors."""
    steps = ((0, 1), (1, 0), (0, -1), (-1, 0))
    return {
        (y, x)
        for y, x in mask
        if any(0 <= y + i < height and 0 <= x + j < width and (y + i, x + j) not in mask for i, j in steps)
    }


def near(one, other, theta):
    return [p for p in one if any(math.dist(p, q) <= theta for q in other)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("width", [1, 2, 3, 8])
def test_boundary_iou_against_erosions(seed, width):
    prediction, labels = random_maps(seed)
    found = boundary_tallies(prediction, labels, CLASSES, width)
    for c in range(CLASSES):
        truth, predicted = (mask - eroded(mask, width) for mask in masks(prediction, labels, c))
        assert found[c].tolist() == [len(truth & predicted), len(truth), len(predicted)]
        if truth | predicted:
            iou = float(tally_metrics(found).per_class_iou[c])
            assert iou == pytest.approx(len(truth & predicted) / len(truth | predicted))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("theta", [0.5, 1.0, 1.5, 2.3, 4.7])
def test_boundary_f_against_loops(seed, theta):
    prediction, labels = random_maps(seed)
    found = contour_matches(prediction, labels, CLASSES, theta)
    for c in range(CLASSES):
        truth, predicted = (outline(mask, *labels.shape) for mask in masks(prediction, labels, c))
        hits = len(near(predicted, truth, theta)), len(near(truth, predicted, theta))
        assert found[c].tolist() == [hits[0], len(predicted), hits[1], len(truth)]
        if hits[0] and hits[1]:
            precision, recall = hits[0] / len(predicted), hits[1] / len(truth)
            assert float(f_scores(found)[c]) == pytest.approx(2 * precision * recall / (precision + recall))


def square(top, left, side=6, size=(16, 20), label=1):
    labels = torch.zeros(size, dtype=torch.int64)
    labels[top : top + side, left : left + side] = label
    return labels


def test_identical_is_one():
    _, labels = random_maps(1)
    prediction = labels.masked_fill(labels == VOID, 0)
    found = tally_metrics(boundary_tallies(prediction, labels, CLASSES, 2))
    assert float(found.miou) == 1
    f = f_scores(contour_matches(prediction, labels, CLASSES, 1.0))
    assert (f[~f.isnan()] == 1).all()
    assert not f.isnan().all()


def test_disjoint_is_zero():
    prediction, labels = square(1, 1), square(9, 13)
    assert float(tally_metrics(boundary_tallies(prediction, labels, 2, 1)).per_class_iou[1]) == 0
    assert float(f_scores(contour_matches(prediction, labels, 2, 2.0))[1]) == 0


def test_one_pixel_shift_by_hand():
    """Outlines of 20 pixels, one pixel to the right: 10 in common, the other 10 one pixel away."""
    prediction, labels = square(5, 6), square(5, 5)
    assert boundary_tallies(prediction, labels, 2, 1)[1].tolist() == [10, 20, 20]
    assert float(f_scores(contour_matches(prediction, labels, 2, 0.5))[1]) == pytest.approx(10 / 20)
    assert float(f_scores(contour_matches(prediction, labels, 2, 1.0))[1]) == 1
    # With d = 3 the whole square is boundary: 30 of 36 + 6 pixels.
    assert float(tally_metrics(boundary_tallies(prediction, labels, 2, 3)).per_class_iou[1]) == 30 / 42


def test_empty_classes():
    """Absent from both: nothing; from one: zero. A class without any border in the image has no F."""
    prediction, labels = square(5, 5, label=2), square(5, 5, label=1)
    found = boundary_tallies(prediction, labels, 4, 1)
    assert found[3].tolist() == [0, 0, 0]
    skip, zero = tally_metrics(found, "skip"), tally_metrics(found, "zero")
    assert skip.per_class_iou[1:3].tolist() == [0, 0]
    assert skip.per_class_iou[3].isnan()
    assert float(skip.miou) == pytest.approx(1 / 3)
    assert float(zero.miou) == pytest.approx(1 / 4)
    f = f_scores(contour_matches(prediction, labels, 4, 2.0))
    assert f[:3].tolist() == [1, 0, 0]
    assert f[3].isnan()
    plain = torch.zeros(5, 6, dtype=torch.int64)
    assert boundary_f(contour_matches(plain, plain, 2, 1.0)).tolist() == [0, 0]
    assert boundary_tallies(plain, plain, 2, 1)[0].tolist() == [18, 18, 18]  # the image border is a contour


def test_void_is_taken_out_before_borders_are_looked_for():
    labels = torch.tensor([[0, 0, 0, VOID, 1, 1, 1]])
    labels = labels.expand(7, 7).contiguous()
    tallied = boundary_tallies(torch.where(labels == VOID, 1, labels), labels, 2, 1)
    assert tallied.tolist() == [[16, 16, 16], [16, 16, 16]]
    matched = contour_matches(torch.where(labels == VOID, 1, labels), labels, 2, 1.0)
    assert matched.tolist() == [[7, 7, 7, 7], [7, 7, 7, 7]]  # the columns next to void
    assert boundary_tallies(labels, torch.full_like(labels, VOID), 2, 1).sum() == 0
    assert contour_matches(labels, torch.full_like(labels, VOID), 2, 1.0).sum() == 0


def test_image_f_is_the_mean_over_its_classes():
    prediction, labels = square(5, 6), square(5, 5)
    labels[0:3, 15:18] = 2
    per_class = f_scores(matches := contour_matches(prediction, labels, 4, 0.5))
    assert per_class[2] == 0
    assert boundary_f(matches).tolist() == pytest.approx([float(per_class[:3].mean()), 1])
    together = boundary_f(torch.stack([matches, torch.zeros_like(matches)]))
    assert together.tolist()[1] == [0, 0]


def test_widths_of_the_papers():
    """VOC's 500 x 375 has a diagonal of 625."""
    config = BoundaryConfig()
    assert config.iou_pixels(375, 500) == 12  # round half to even, as in the authors' code
    assert config.f_pixels(375, 500) == pytest.approx(4.6875)
    assert config.iou_pixels(3, 4) == 1
    pixels = BoundaryConfig(iou_width=3.0, f_width=2.5)
    assert (pixels.iou_pixels(375, 500), pixels.f_pixels(375, 500)) == (3, 2.5)


@pytest.mark.parametrize("width", [0.0, -1.0, math.inf, math.nan])
def test_bad_widths(width):
    with pytest.raises(InputError, match="iou_width is"):
        BoundaryConfig(iou_width=width)
    with pytest.raises(InputError, match="f_width is"):
        BoundaryConfig(f_width=width)


def test_many_boundary_pixels_are_looked_up_in_parts(monkeypatch):
    prediction, labels = random_maps(2)
    expected = contour_matches(prediction, labels, CLASSES, 3.0)
    monkeypatch.setattr("crfnet.evaluation.boundary._PIXELS", 5)
    monkeypatch.setattr("crfnet.evaluation.boundary._OFFSETS", 2)
    assert torch.equal(contour_matches(prediction, labels, CLASSES, 3.0), expected)
