"""Two folders of PNGs against the same maps added by hand, and everything that is wrong with folders."""

import numpy as np
import pytest
import torch
from PIL import Image

from crfnet.errors import InputError
from crfnet.evaluation.boundary import BoundaryConfig
from crfnet.evaluation.evaluator import Evaluation, EvaluationConfig
from crfnet.evaluation.label_folders import evaluate_folders, png_pairs
from crfnet.labels import write_label_png

CONFIG = EvaluationConfig(max_width=3, element="disc", boundary=BoundaryConfig(2.0, 1.0))


def maps(index):
    labels = torch.zeros(9, 11 + index, dtype=torch.int64)
    labels[2:6, 3:8] = 1
    prediction = labels.roll(1, index % 2)
    labels[7] = 255
    return prediction, labels


@pytest.fixture
def folders(tmp_path):
    """(predictions, labels) of three images, the predictions with pictures beside them."""
    for index, name in enumerate(("b", "a", "c")):
        prediction, labels = maps(index)
        write_label_png(tmp_path / f"predictions/{name}.png", prediction)
        write_label_png(tmp_path / f"predictions/{name}_overlay.png", prediction)
        write_label_png(tmp_path / f"labels/{name}.png", labels)
    (tmp_path / "predictions/run.json").write_text("{}")
    return tmp_path / "predictions", tmp_path / "labels"


def test_equals_the_maps_added_by_hand(folders):
    found = evaluate_folders(*folders, 2, CONFIG)
    assert found.ids == ("a", "b", "c")
    expected = Evaluation(2, 3, "disc", CONFIG.boundary)
    for name, index in (("a", 1), ("b", 0), ("c", 2)):
        expected.add(name, *maps(index))
    assert torch.equal(found.confusion, expected.confusion)
    assert torch.equal(found.trimap("change"), expected.trimap("change"))
    assert torch.equal(found.boundary_tallies, expected.boundary_tallies)
    assert torch.equal(found.contour_matches, expected.contour_matches)


def test_folders_that_are_missing_or_empty(folders, tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        png_pairs(tmp_path / "nowhere", folders[1])
    with pytest.raises(InputError, match="nowhere: no such folder"):
        png_pairs(folders[0], tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no \.png"):
        png_pairs(folders[0], tmp_path / "empty")


def test_files_without_partner(folders):
    predictions, labels = folders
    (labels / "c.png").unlink()
    with pytest.raises(InputError, match=r"predictions/c\.png: no partner of that name in .*labels"):
        png_pairs(predictions, labels)
    (predictions / "c.png").unlink()
    (predictions / "c_overlay.png").unlink()
    (predictions / "a.png").unlink()
    (predictions / "a_overlay.png").unlink()
    with pytest.raises(InputError, match=r"labels/a\.png: no partner of that name in .*predictions"):
        png_pairs(predictions, labels)


def test_maps_that_do_not_fit(folders):
    predictions, labels = folders
    write_label_png(labels / "b.png", torch.zeros(9, 10, dtype=torch.int64))
    with pytest.raises(
        InputError, match=r"predictions/b\.png against .*prediction is 9 x 11 and labels are 9 x 10"
    ):
        evaluate_folders(predictions, labels, 2, CONFIG)
    write_label_png(labels / "b.png", torch.full((9, 11), 7))
    with pytest.raises(InputError, match=r"labels/b\.png: .*labels holds 7, must be 0\.\.1 or 255"):
        evaluate_folders(predictions, labels, 2, CONFIG)
    write_label_png(labels / "b.png", torch.zeros(9, 11, dtype=torch.int64))
    write_label_png(predictions / "b.png", torch.full((9, 11), 2))
    with pytest.raises(InputError, match=r"prediction holds 2, must be 0\.\.1"):
        evaluate_folders(predictions, labels, 2, CONFIG)
    (predictions / "b.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"b\.png: cannot be read as an image"):
        evaluate_folders(predictions, labels, 2, CONFIG)


def test_an_object_of_255_is_refused_and_hidden_files_are_none(tmp_path):
    for folder, values in (("mine", [0, 1]), ("truth", [0, 255])):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.array([values] * 4, np.uint8)).save(tmp_path / folder / "a.png")
        (tmp_path / folder / "._a.png").write_bytes(b"resource fork")
    with pytest.raises(InputError, match="label maps hold 0 and 255 alone"):
        evaluate_folders(tmp_path / "mine", tmp_path / "truth", 2, EvaluationConfig())
    Image.fromarray(np.array([[0, 1, 255]] * 4, np.uint8)).save(tmp_path / "truth/a.png")
    Image.fromarray(np.array([[0, 1, 1]] * 4, np.uint8)).save(tmp_path / "mine/a.png")
    found = evaluate_folders(tmp_path / "mine", tmp_path / "truth", 2, EvaluationConfig())
    assert found.ids == ("a",)
