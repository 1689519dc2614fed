"""Streaming evaluation: sums, files, errors."""

import numpy as np
import pytest
import torch

from crfnet.errors import InputError
from crfnet.evaluation.confusion import confusion_matrix, metrics
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.evaluation.trimap import BANDS, trimap_confusions


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
    total = sum(confusion_matrix(*maps(s, size), 3) for s, size in enumerate([(6, 8), (5, 5), (1, 9)]))
    assert evaluation.metrics("zero").miou == metrics(total, "zero").miou
    for band in BANDS:
        assert torch.equal(evaluation.trimap(band)[0].long(), trimap_confusions(*first, 3, band, 4))
        inside = metrics(evaluation.trimap(band)[:, 1].sum(0))
        assert evaluation.trimap_metrics(band).miou[1] == inside.miou


def test_empty():
    assert Evaluation(3).metrics().miou.isnan()
    assert len(Evaluation(3)) == 0


def test_save_and_load(evaluation, tmp_path):
    path = tmp_path / "new" / "arm.npz"
    evaluation.save(path)
    again = Evaluation.load(path)
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
    with pytest.raises(InputError, match="lacks confusion"):
        Evaluation.load(path)
    zeros = {f"trimap_{band}": np.zeros((1, 2, 3, 3)) for band in BANDS}
    np.savez(path, ids=np.array(["a", "b"]), confusion=np.zeros((1, 3, 3)), **zeros)
    with pytest.raises(InputError, match="confusion has shape"):
        Evaluation.load(path)


def test_bad_images_are_named_and_leave_no_trace(evaluation):
    prediction, labels = maps(5)
    with pytest.raises(InputError, match="image x: prediction is 8 x 6 and labels are 6 x 8"):
        evaluation.add("x", prediction.T, labels)
    with pytest.raises(InputError, match=r"image x: labels holds 7: allowed are 0\.\.2 or 255"):
        evaluation.add("x", prediction, labels.masked_fill(labels == 255, 7))
    with pytest.raises(InputError, match="image1: it was scored already"):
        evaluation.add("image1", prediction, labels)
    assert len(evaluation) == len(evaluation.trimap("void")) == 3


@pytest.mark.parametrize("name", ["max_width", "draws"])
def test_config_is_checked(name):
    with pytest.raises(InputError, match=f"{name} is 0"):
        EvaluationConfig(**{name: 0})
