"""Images that are trained on and scored on: told by their pixels, and said."""

import logging
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from crfnet.cli.main import main
from crfnet.data import DataConfig, ToyConfig, load_dataset, shared_images, shared_images_line
from crfnet.pipeline.compare_arms import _Job
from crfnet.pipeline.run_config import load_run
from tests.test_cli import CONFIG


@pytest.fixture
def shared(tmp_path):
    """Images a, b, c to train on; c and d, and e, which is a by another name, to validate on."""
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for name in "abcd":
            pixels = random.integers(0, 2, (32, 40), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / kind / f"{name}.png")
        shutil.copy(tmp_path / kind / "a.png", tmp_path / kind / "e.png")
    (tmp_path / "train.txt").write_text("a\nb\nc\n")
    (tmp_path / "val.txt").write_text("c\nd\ne\n")
    data = {"name": "folders", "root": str(tmp_path), "classes": ["x", "y"]}
    config = {**CONFIG, "data": data, "output": str(tmp_path / "out")}
    config["search"] = {**CONFIG["search"], "images": 1}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    return tmp_path / "run.yaml"


def test_by_their_pixels(shared):
    run = load_run(shared)
    train, val = (load_dataset(run.data, split) for split in ("train", "val"))
    assert shared_images(val, val.ids, train.image_digests.values()) == ["c", "e"]
    assert shared_images(val, ["d"], train.image_digests.values()) == []


def test_toy_images_of_the_same_number_are_others():
    config = DataConfig(toy=ToyConfig(train=4, val=4))
    train, val = (load_dataset(config, split) for split in ("train", "val"))
    assert shared_images(val, val.ids, train.image_digests.values()) == []


def test_the_line():
    assert shared_images_line([], 4, "images", "trained on") == ""
    line = shared_images_line(list("abcdef"), 9, "validation images", "trained on")
    assert line.startswith("6 of the 9 validation images are trained on, too (a, b, c, d, e, ...): scores")


def test_training_says_so(shared, caplog):
    with caplog.at_level(logging.WARNING, "crfnet"):
        main(["train", str(shared), "--train.validate_every", "1"])
    lines = [record.message for record in caplog.records if "trained on" in record.message]
    assert lines == [
        "2 of the 3 validation images are trained on, too (c, e): scores on them say nothing about new images"
    ]


def test_a_comparison_says_so(shared, caplog):
    """Of the images reported on, and of those that the search sees; and what is in both of these."""
    with caplog.at_level(logging.WARNING, "crfnet"):
        job = _Job(load_run(shared), None, resume=False)
    of_search = len({"c", "e"} & set(job.search_ids))
    said = [f"{2 - of_search} of the 2 images reported on are trained on, too"]
    said += [f"{of_search} of the 1 images searched on are trained on, too"] * of_search
    assert [line.partition(" (")[0] for line in job.warnings] == said
    assert [record.message for record in caplog.records] == job.warnings
