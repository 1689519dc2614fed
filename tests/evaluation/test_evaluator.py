"""Streaming evaluation: sums, files, errors."""

import math

import numpy as np
import pytest
import torch

from crfnet.errors import InputError
from crfnet.evaluation.boundary import BoundaryConfig, boundary_tallies, contour_matches, f_scores
from crfnet.evaluation.confusion import confusion_matrix, metrics, tallies
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.evaluation.trimap import BANDS
from tests.evaluation.by_hand import trimap_confusions


def maps(seed, size=(6, 8)):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1, 2, 255])[torch.randint(4, size, generator=generator)]
    return torch.randint(3, size, generator=generator), labels


@pytest.fixture
def evaluation():
    """Three images of different sizes."""
    evaluation = Evaluation(3, max_width=4)
    for seed, size in enumerate([(6, 8), (5, 5), (1, 9)]):
        evaluation.add(f"image{seed}", *maps(seed, size))
    return evaluation


def test_scores_are_of_summed_confusions(evaluation):
    first = maps(0)
    assert torch.equal(evaluation.confusion[0].long(), confusion_matrix(*first, 3))
    assert torch.equal(evaluation.boundary_tallies[0].long(), boundary_tallies(*first, 3, 1))
    assert torch.equal(evaluation.contour_matches[0].long(), contour_matches(*first, 3, 0.075))
    total = sum(confusion_matrix(*maps(s, size), 3) for s, size in enumerate([(6, 8), (5, 5), (1, 9)]))
    assert evaluation.metrics("zero").miou == metrics(total, "zero").miou
    for band in BANDS:
        assert torch.equal(evaluation.trimap(band)[0], trimap_confusions(*first, 3, band, 4))
        inside = metrics(evaluation.trimap(band)[:, 1].sum(0))
        assert evaluation.trimap_metrics(band).miou[1] == inside.miou
        for width in (1, 3, 4):
            expected = tallies(evaluation.trimap(band)[:, width - 1])
            assert torch.equal(evaluation.trimap_tallies(band, width), expected)
    with pytest.raises(ValueError, match="width is 5"):
        evaluation.trimap_tallies("void", 5)


def test_boundary_scores_of_all_images(evaluation):
    """Boundary IoU from sums over images; F as a mean over images."""
    mean, per_class = evaluation.boundary_iou()
    both, truth, predicted = evaluation.boundary_tallies.sum(0).double().unbind(-1)
    assert torch.allclose(per_class, both / (truth + predicted - both))
    assert mean == pytest.approx(float(per_class.mean()))
    alone = [f_scores(matches).nanmean() for matches in evaluation.contour_matches]
    assert evaluation.boundary_f() == pytest.approx(float(torch.stack(alone).mean()))


def test_element_and_widths_are_those_asked_for():
    size = (30, 40)  # diagonal 50
    labels = torch.zeros(size, dtype=torch.int64)
    labels[10:22, 12:30] = 1
    prediction = labels.roll(2, 1)
    made = Evaluation(2, 9, "cross", BoundaryConfig(iou_width=0.06, f_width=1.0))
    made.add("a", prediction, labels)
    for band in BANDS:
        assert torch.equal(made.trimap(band)[0], trimap_confusions(prediction, labels, 2, band, 9, "cross"))
    assert torch.equal(made.boundary_tallies[0].long(), boundary_tallies(prediction, labels, 2, 3))
    assert torch.equal(made.contour_matches[0].long(), contour_matches(prediction, labels, 2, 1.0))
    with pytest.raises(Exception, match="element"):
        Evaluation(2, 9, "ring")  # type: ignore[arg-type]


def test_memory_per_image_stays_small():
    """150 classes would be 7 MB a trimap pair if zeros were kept."""
    labels = torch.zeros(40, 50, dtype=torch.int64)
    labels[10:30, 10:30] = 149
    evaluation = Evaluation(150)
    evaluation.add("a", labels.roll(1, 0), labels)
    record = evaluation._images["a"]
    kept = [shell.bins.nbytes + shell.counts.nbytes for shell in record.shells.values()]
    assert sum(kept) < 2000


def test_empty():
    assert Evaluation(3).metrics().miou.isnan()
    assert math.isnan(Evaluation(3).boundary_iou()[0])
    assert math.isnan(Evaluation(3).boundary_f())
    assert Evaluation(3).trimap_metrics("void").miou.isnan().all()
    assert len(Evaluation(3)) == 0


def test_save_and_load(evaluation, tmp_path):
    path = tmp_path / "new" / "arm.npz"
    evaluation.element, evaluation.boundary = "disc", BoundaryConfig(2.0, 0.01)
    evaluation.save(str(path))
    again = Evaluation.load(str(path))  # as the README's example gives it
    assert (again.element, again.boundary) == ("disc", BoundaryConfig(2.0, 0.01))
    assert torch.equal(again.boundary_tallies, evaluation.boundary_tallies)
    assert torch.equal(again.contour_matches, evaluation.contour_matches)
    assert again.ids == evaluation.ids == ("image0", "image1", "image2")
    assert (again.num_classes, again.max_width) == (3, 4)
    assert torch.equal(again.confusion, evaluation.confusion)
    for band in BANDS:
        assert torch.equal(again.trimap(band), evaluation.trimap(band))
    assert [file.name for file in path.parent.iterdir()] == ["arm.npz"]
    again.add("image3", *maps(3))
    assert len(again) == 4


def test_load_refuses_what_it_cannot_use(evaluation, tmp_path):
    with pytest.raises(InputError, match=r"gone.npz: no such file"):
        Evaluation.load(tmp_path / "gone.npz")
    path = tmp_path / "arm.npz"
    evaluation.save(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"arm\.npz: it cannot be read"):
            Evaluation.load(path)
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(InputError, match=r"arm\.npz: it cannot be read"):
        Evaluation.load(path)
    np.savez(path, ids=np.array(["a"]))
    with pytest.raises(InputError, match="lacks settings, confusion"):
        Evaluation.load(path)
    path.write_bytes(whole)
    with np.load(path) as file:
        arrays = dict(file)
    for name, wrong, message in (
        ("confusion", np.zeros((1, 3, 3)), "confusion has shape"),
        ("void_bins", np.zeros(1, dtype=np.int32), "void_bins has shape"),
        ("settings", np.array("{}"), "settings cannot be read"),
    ):
        np.savez(path, **(arrays | {name: wrong}))
        with pytest.raises(InputError, match=message):
            Evaluation.load(path)


def test_a_file_of_the_older_version_is_refused_in_one_line(tmp_path):
    zeros = {f"trimap_{band}": np.zeros((1, 2, 3, 3)) for band in BANDS}
    np.savez(tmp_path / "old.npz", ids=np.array(["a"]), confusion=np.zeros((1, 3, 3)), **zeros)
    with pytest.raises(InputError, match=r"old\.npz: written by an older version") as refused:
        Evaluation.load(tmp_path / "old.npz")
    assert "\n" not in str(refused.value)


def test_bad_images_are_named_and_leave_no_trace(evaluation):
    prediction, labels = maps(5)
    with pytest.raises(InputError, match="image x: prediction is 8 x 6 and labels are 6 x 8"):
        evaluation.add("x", prediction.T, labels)
    with pytest.raises(InputError, match=r"image x: labels holds 7, must be 0\.\.2 or 255"):
        evaluation.add("x", prediction, labels.masked_fill(labels == 255, 7))
    with pytest.raises(InputError, match="image1: it was scored already"):
        evaluation.add("image1", prediction, labels)
    assert len(evaluation) == len(evaluation.trimap("void")) == 3


@pytest.mark.parametrize("name", ["max_width", "draws"])
def test_config_is_checked(name):
    with pytest.raises(InputError, match=f"{name} is 0"):
        EvaluationConfig(**{name: 0})
    with pytest.raises(Exception, match="element"):
        EvaluationConfig(element="ring")  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_counts_the_same(evaluation):
    found = Evaluation(3, max_width=4)
    for seed, size in enumerate([(6, 8), (5, 5), (1, 9)]):
        prediction, labels = maps(seed, size)
        found.add(f"image{seed}", prediction.cuda(), labels)
    assert torch.equal(found.confusion, evaluation.confusion)
    assert torch.equal(found.boundary_tallies, evaluation.boundary_tallies)
    assert torch.equal(found.contour_matches, evaluation.contour_matches)
    for band in BANDS:
        assert torch.equal(found.trimap(band), evaluation.trimap(band))
