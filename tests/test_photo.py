"""The example photo: what it is, what a CRF makes of it, and what the demo shows first."""

import logging

import pytest
import torch
from PIL import Image

from crfnet import DenseCRF, example_photo
from crfnet.cli.main import main
from crfnet.errors import InputError
from crfnet.labels import DATASET_CLASSES
from crfnet.report.before_after import before_after_figure, highlight
from crfnet.report.closeup import Window


@pytest.fixture(scope="module")
def maps():
    """Network's and CRF's labels of the photo."""
    image, logits, _ = example_photo()
    with torch.no_grad():
        after = DenseCRF.preset("deeplab", num_classes=21).eval().map(logits, image)
    return logits.argmax(1)[0], after[0]


def test_it_is_a_person_and_the_crf_removes_the_bottle(maps):
    image, logits, names = example_photo()
    assert image.shape == (1, 3, 512, 512)
    assert image.dtype == torch.uint8
    assert logits.shape == (1, 21, 512, 512)
    assert names == DATASET_CLASSES["voc"].names
    seen = [{names[label] for label in labels.unique()} for labels in maps]
    assert seen == [{"background", "bottle", "person"}, {"background", "person"}]
    # corners of the network's map lie on those of the image: the face is a person's, the right edge is none
    assert all(names[labels[120, 230]] == "person" for labels in maps)
    assert 0.005 < (maps[0] != maps[1]).float().mean() < 0.05
    # The suit's right shoulder, orange before white: the network leaves a part out, the CRF follows it.
    shoulder = image[0, 0].int() - image[0, 2].int() > 120
    shoulder[:, :260], shoulder[:, 380:], shoulder[:200], shoulder[330:] = False, False, False, False
    found = [(labels[shoulder] == names.index("person")).float().mean().item() for labels in maps]
    assert found[0] < 0.93
    assert found[1] > 0.97


def test_class_0_is_dark_and_the_frame_is_drawn():
    image = torch.full((3, 40, 60), 200, dtype=torch.uint8)
    labels = torch.zeros(40, 60, dtype=torch.int64)
    labels[:, 30:] = 1
    picture = highlight(image, labels, [(0, 0, 0), (0, 0, 255)])
    assert picture[:, 0, 0].tolist() == [60, 60, 60]
    assert picture[:, 0, 59].tolist() == [130, 130, 219]
    figure = before_after_figure(image, {"a": labels, "b": labels}, window=Window(3, 4, 20, 10))
    cells = figure.axes
    assert [each.images[0].get_array().shape[:2] for each in cells] == [(40, 60), (20, 10)] * 3
    assert [len(each.patches) for each in cells] == [1, 0] * 3
    assert [text.get_text() for text in figure.texts] == ["image", "a", "b"]
    with pytest.raises(InputError, match="must be two or more"):
        before_after_figure(image, {"a": labels})


def test_demo_shows_it_first_and_says_where(tmp_path, monkeypatch, caplog):
    """It is there when the work begins, in the run's folder, on the list of what --overwrite removes."""
    began = []

    def work(job, facts):
        with Image.open(tmp_path / "photo.jpg") as picture:
            began.append(picture.size)
        return tmp_path / "report.md", "the table"

    monkeypatch.setattr("crfnet.pipeline.compare_arms._compare", work)
    with caplog.at_level(logging.INFO, "crfnet"):
        main(["demo", "--output", str(tmp_path)])
    (size,) = began
    assert size == pytest.approx((1000, 696), abs=2)
    assert f"a photo before and after its CRF: {tmp_path / 'photo.jpg'}" in caplog.text
    assert '"photo.jpg"' in (tmp_path / ".crfnet/files").read_text()
    caplog.clear()
    with pytest.raises(SystemExit):  # refused before anything is drawn
        main(["demo", "--output", str(tmp_path)])
    assert "before and after" not in caplog.text
