"""Damaged images and masks."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crfnet.files.images import upright
from crfnet.score_cache import ScoreFolder
from tests.fuzz.damage import Damage, damages
from tests.fuzz.factories import pictures
from tests.fuzz.fixture_tree import CLASSES, IDS, FixtureTree
from tests.fuzz.fuzzing import fuzz, parts
from tests.fuzz.harness import run

COUNT = 40  #: of each of the files below: 360 examples
MADE = pictures()


def indices(path: Path) -> np.ndarray:
    """The labels in a file, read without crfnet."""
    with Image.open(path) as file:
        assert file.mode in ("P", "L")
        return np.array(file)


def check_table(fixtures: FixtureTree, out: str) -> None:
    """What data check says of the masks is what they hold."""
    masks = [indices(fixtures.root / f"voc/SegmentationClass/{image_id}.png") for image_id in IDS]
    for image_id, mask in zip(IDS, masks, strict=True):
        image = next(fixtures.root.glob(f"voc/JPEGImages/{image_id}.*"))
        with Image.open(image) as file:
            assert file.size == mask.shape[::-1]
    pixels = sum(np.bincount(mask.ravel(), minlength=256) for mask in masks)
    rows = [row for row in out.splitlines() if re.match(r" *\d+  [a-z]", row)]
    assert len(rows) == CLASSES
    for label, row in enumerate(rows):
        share, images = row.split()[2:4]
        assert float(share) == pytest.approx(100 * pixels[label] / pixels[:CLASSES].sum(), abs=6e-4)
        assert int(images) == sum((mask == label).any() for mask in masks)


def check_miou(fixtures: FixtureTree, out: str) -> None:
    """The mIoU of two folders, from one confusion matrix."""
    counts = np.zeros((256, 256), int)
    for image_id in IDS:
        truth = indices(fixtures.root / f"voc/SegmentationClass/{image_id}.png")
        np.add.at(counts, (truth, indices(fixtures.root / f"predictions/{image_id}.png")), 1)
    counts = counts[:CLASSES]
    assert not counts[:, CLASSES:].any()
    counts = counts[:, :CLASSES]
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    miou = (counts.diagonal()[union > 0] / union[union > 0]).mean()
    assert f"predictions  {100 * miou:.2f}" in " ".join(out.split("\n")).replace("   ", "  "), out


def check_prediction(fixtures: FixtureTree, out: str) -> None:
    with Image.open(fixtures.root / "voc/JPEGImages/a.jpg") as file:
        size = upright(file).size
    labels = indices(fixtures.out / "predictions/a.png")
    assert labels.shape == size[::-1]
    assert labels.max() < CLASSES


def check_classes(fixtures: FixtureTree, out: str) -> None:
    found = ScoreFolder(fixtures.out).stored_logits("a").exp()
    for label in range(2):
        with Image.open(fixtures.root / f"foreign/png/a_{label}.png") as file:
            wanted = np.array(file, np.float32) / (255 if file.mode == "L" else 65535)
        np.testing.assert_allclose(found[label], wanted.clip(1e-5, 1), atol=1e-3)


def check_crop(fixtures: FixtureTree, out: str) -> None:
    with Image.open(fixtures.root / "voc/JPEGImages/a.jpg") as file:
        size = file.size
    assert tuple(ScoreFolder(fixtures.out).stored_logits("a").shape[1:]) == size[::-1]


def files(fixtures):
    """The file that is damaged, the command that reads it, and what checks its result."""
    root, voc = fixtures.root, fixtures.root / "voc"
    folders = [
        "--predictions",
        root / "predictions",
        "--labels",
        voc / "SegmentationClass",
        "--num-classes",
        21,
    ]
    quick = ["--device", "cpu", "--evaluation.draws", 5, "--evaluation.max_width", 2]
    checked = (["data", "check", fixtures.config, "--workers", 0], check_table)
    scored = (["evaluate", *folders, *quick], check_miou)
    predict = ["predict", fixtures.config, "--checkpoint", root / "checkpoint.pt", voc / "JPEGImages/a.jpg"]
    classes = ["convert-scores", root / "foreign/png", "--to", fixtures.out]
    crop = ["convert-scores", root / "foreign/mat", "--images", voc / "JPEGImages", "--to", fixtures.out]
    return {
        "jpg": (voc / "JPEGImages/a.jpg", *checked),
        "png": (voc / "JPEGImages/b.png", *checked),
        "indexed": (voc / "SegmentationClass/a.png", *checked),
        "gray": (voc / "SegmentationClass/c.png", *checked),
        "prediction": (root / "predictions/a.png", *scored),
        "truth": (voc / "SegmentationClass/c.png", *scored),
        "photo": (voc / "JPEGImages/a.jpg", predict, check_prediction),
        "class": (root / "foreign/png/a_1.png", classes, check_classes),
        "size": (voc / "JPEGImages/a.jpg", crop, check_crop),
    }


NAMES = ("jpg", "png", "indexed", "gray", "prediction", "truth", "photo", "class", "size")


def example(fixtures: FixtureTree, name: str, damage: Damage) -> None:
    path, command, check = files(fixtures)[name]
    with fixtures.damaged(path):
        damage.apply(path, MADE)
        ending = run(
            fixtures,
            command,
            [path.name, path.stem, f"{path.parent.name}:", "1 class"],
            partial=name == "size",
        )
        if ending.status == 0:
            check(fixtures, ending.out)


@parts
@pytest.mark.parametrize("name", NAMES)
def test_damage(fixtures, name, part):
    fuzz(lambda damage: example(fixtures, name, damage), damages(MADE), COUNT, part)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("made", MADE)
def test_other_pictures(fixtures, name, made):
    example(fixtures, name, Damage(made))
