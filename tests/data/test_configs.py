"""Every config reads its own data set, and the networks have as many outputs as those have classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crfnet.data import load_dataset
from crfnet.errors import InputError
from crfnet.files import read_yaml
from crfnet.models import DeepLabV2Config
from crfnet.pipeline.run_config import load_run
from crfnet.segmenter import build_segmenter

CONFIGS = Path(__file__).parents[2] / "configs"

#: Data set, which names its folder of configs: number of classes, an image and its mask, the place of lists.
SETS = {
    "camvid": (11, "JPEGImages/a.jpg", "SegmentationClass/a.png", "ImageSets/Segmentation"),
    "voc": (21, "JPEGImages/a.jpg", "SegmentationClass/a.png", "ImageSets/Segmentation"),
    "context": (60, "JPEGImages/a.jpg", "SegmentationClassContext/a.png", "ImageSets/Main"),
    "person_part": (7, "JPEGImages/a.jpg", "pascal_person_part_gt/a.png", "."),
    "cityscapes": (
        19,
        "leftImg8bit/{split}/a/a_0_1_leftImg8bit.png",
        "gtFine/{split}/a/a_0_1_gtFine_labelIds.png",
        ".",
    ),
}


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_every_config_reads_its_own_data_set(path, tmp_path):
    name = path.parent.name
    num_classes, image, mask, lists = SETS[name]
    run = load_run(path, ["--data.root", str(tmp_path)])
    assert run.data.name == name
    for split in ("train", "val"):
        listed = getattr(run.data, split)
        for pattern, pixels in ((image, np.zeros((5, 7, 3))), (mask, np.ones((5, 7)))):
            file = tmp_path / pattern.format(split=listed)
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(file)
        (tmp_path / lists).mkdir(parents=True, exist_ok=True)
        (tmp_path / lists / f"{listed}.txt").write_text("a\n")
        dataset = load_dataset(run.data, split)
        assert dataset.num_classes == len(dataset.palette) == num_classes
        assert len(dataset) == 1
        assert dataset[0].labels.unique().tolist() == [255 if name == "cityscapes" else 1]


def test_a_file_is_named_after_its_network():
    for path in CONFIGS.glob("*/*.yaml"):
        model = read_yaml(path).get("model")
        assert path.stem.startswith(f"{model['variant']}_" if model else "scores"), path


def one_scale(model):
    variant = model.variant
    if isinstance(variant, DeepLabV2Config):
        variant = replace(variant, multi_scale=False)
    return replace(model, weights="none", variant=variant)


@pytest.mark.parametrize("folder", SETS)
def test_the_network_has_an_output_for_each_class(folder):
    num_classes = SETS[folder][0]
    model = load_run(sorted((CONFIGS / folder).glob("*.yaml"))[0]).model
    with torch.device("meta"):
        segmenter = build_segmenter(one_scale(model), num_classes).eval()
        scores = segmenter.network(torch.zeros(1, 3, 65, 65))
    assert scores.shape[1] == num_classes


def test_a_config_of_ones_own_data(tmp_path):
    for split, number in (("train", 1), ("val", 9)):
        for folder, pixels in (("photos", np.zeros((5, 7, 3))), ("masks", np.full((5, 7), number))):
            (tmp_path / folder / split).mkdir(parents=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / folder / split / "a.png")
    path = tmp_path / "own.yaml"
    text = f"data: {{name: folders, root: {tmp_path}, images: photos, classes: [road, other], void: [9]}}\n"
    path.write_text(text)
    config = load_run(path).data
    train, val = (load_dataset(config, split) for split in ("train", "val"))
    assert train.classes == val.classes == ("road", "other")
    assert [each[0].labels.unique().tolist() for each in (train, val)] == [[1], [255]]
    for old, new, part in (
        ("[road, other]", "[road, road]", "data.classes is ['road', 'road'], must be"),
        ("name: folders", "name: folder", "data.name"),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(InputError) as caught:
            load_run(path)
        assert part in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
