"""The CSV files against scores of single images and classes."""

import csv
import io

import pytest
import torch

from crfnet.errors import InputError
from crfnet.evaluation.boundary import f_scores
from crfnet.evaluation.confusion import confusion_matrix, metrics
from crfnet.evaluation.csv_tables import per_class_csv, per_image_csv, trimap_csv, write_tables
from crfnet.evaluation.evaluator import Evaluation

NAMES = ("background", "cat, black", "dog")


def maps(index):
    """Class 2 is in no image; the last image is void."""
    labels = torch.zeros(12, 14 + index, dtype=torch.int64)
    labels[3:9, 4:9] = 1
    prediction = labels.roll(1 + index, 1)
    labels[9:11] = 255
    return prediction, labels.fill_(255) if index == 2 else labels


@pytest.fixture
def evaluation():
    evaluation = Evaluation(3, 6)
    for index in range(3):
        evaluation.add(f"im{index}", *maps(index))
    return evaluation


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_per_image(evaluation):
    found = rows(per_image_csv(evaluation))
    assert [row["id"] for row in found] == ["im0", "im1", "im2"]
    for index in (0, 1):
        prediction, labels = maps(index)
        alone = Evaluation(3, 6)
        alone.add("alone", prediction, labels)
        expected = {
            "pixels": int((labels != 255).sum()),
            "miou": metrics(confusion_matrix(prediction, labels, 3)).miou,
            "pixel_accuracy": ((prediction == labels).sum() / (labels != 255).sum()),
            "boundary_iou": alone.boundary_iou()[0],
            "boundary_f": alone.boundary_f(),
            "trimap_void/miou@2": alone.trimap_metrics("void").miou[1],
            "trimap_change/miou@5": alone.trimap_metrics("change").miou[4],
        }
        for name, value in expected.items():
            assert float(found[index][name]) == pytest.approx(float(value), abs=1e-6), name
    assert found[2]["pixels"] == "0"
    assert {found[2][name] for name in ("miou", "boundary_f", "trimap_void/miou@2")} == {""}
    assert "trimap_void/miou@10" not in found[0]  # wider than what was counted


def test_per_class(evaluation):
    found = rows(per_class_csv(evaluation, NAMES))
    assert [row["name"] for row in found] == list(NAMES)
    confusion = evaluation.confusion.sum(0).double()
    assert float(found[1]["iou"]) == pytest.approx(float(metrics(confusion).per_class_iou[1]), abs=1e-6)
    assert float(found[1]["accuracy"]) == pytest.approx(float(confusion[1, 1] / confusion[1].sum()), abs=1e-6)
    assert float(found[1]["precision"]) == pytest.approx(
        float(confusion[1, 1] / confusion[:, 1].sum()), abs=1e-6
    )
    assert float(found[0]["boundary_iou"]) == pytest.approx(float(evaluation.boundary_iou()[1][0]), abs=1e-6)
    f = f_scores(evaluation.contour_matches[:2])[:, 1].mean()
    assert float(found[1]["boundary_f"]) == pytest.approx(float(f), abs=1e-6)
    assert (found[1]["images"], found[1]["truth"]) == ("2", "60")
    absent = found[2]
    assert (absent["images"], absent["truth"], absent["iou"], absent["boundary_f"]) == ("0", "0", "", "")
    assert rows(per_class_csv(evaluation, NAMES, "zero"))[2]["iou"] == "0.000000"
    with pytest.raises(InputError, match="class_names has 2 entries"):
        per_class_csv(evaluation, NAMES[:2])


def test_trimap_curves(evaluation):
    found = rows(trimap_csv(evaluation))
    assert [(row["band"], row["width"]) for row in found] == [
        (band, str(w)) for band in ("void", "change") for w in range(1, 7)
    ]
    for row in found:
        width = int(row["width"]) - 1
        assert int(row["pixels"]) == int(evaluation.trimap(row["band"])[:, width].sum())
        assert float(row["mean_accuracy"]) == pytest.approx(
            float(evaluation.trimap_metrics(row["band"]).mean_accuracy[width]), abs=1e-6
        )


def test_files(evaluation, tmp_path):
    write_tables(tmp_path / "new", evaluation, NAMES)
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"per_image.csv", "per_class.csv", "trimap.csv"}
    assert (tmp_path / "new/per_image.csv").read_text() == per_image_csv(evaluation)
