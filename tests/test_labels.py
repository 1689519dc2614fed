"""Names and colors of classes, and label maps as pictures."""

import pytest
import torch
from PIL import Image
from torchvision.datasets import Cityscapes

from crfnet.data import DATASETS, DataConfig, classes_of, load_dataset
from crfnet.data.cityscapes import LABEL_IDS
from crfnet.errors import InputError
from crfnet.labels import (
    DATASET_CLASSES,
    VOC_PALETTE,
    VOID,
    luminance,
    overlay,
    paint,
    read_label_png,
    write_label_png,
    write_picture,
)

LABELS = torch.tensor([[0, 1, 2], [15, 20, 255]])


def test_voc_palette():
    """Colors that the VOC development kit lists."""
    assert VOC_PALETTE[0] == (0, 0, 0)
    assert VOC_PALETTE[1] == (128, 0, 0)
    assert VOC_PALETTE[3] == (128, 128, 0)
    assert VOC_PALETTE[15] == (192, 128, 128)
    assert VOC_PALETTE[20] == (0, 64, 128)
    assert VOC_PALETTE[255] == (224, 224, 192)


def test_palette_is_that_of_voc():
    colors = VOC_PALETTE
    assert colors[:5] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))
    assert colors[8] == (64, 0, 0)
    assert colors[20] == (0, 64, 128)
    assert colors[255] == (224, 224, 192)
    assert len(set(colors)) == 256


def test_camvid_classes():
    names, colors = DATASET_CLASSES["camvid"]
    assert len(names) == 11
    assert names[:4] == ("Sky", "Building", "Pole", "Road")
    assert colors[names.index("Bicyclist")] == (0, 128, 192)


def test_cityscapes_classes_are_those_of_its_scripts():
    """Torchvision has a copy of helpers/labels.py of cityscapesScripts."""
    scored = sorted(
        (each for each in Cityscapes.classes if 0 <= each.train_id < VOID), key=lambda c: c.train_id
    )
    names, colors = DATASET_CLASSES["cityscapes"]
    assert names == tuple(each.name for each in scored)
    assert colors == tuple(each.color for each in scored)
    assert tuple(each.id for each in scored) == LABEL_IDS


@pytest.mark.parametrize("name", DATASET_CLASSES)
def test_every_data_set_has_names_and_as_many_colors(name):
    names, colors = classes_of(DataConfig(name=name))
    assert len(names) == len(colors) == len(set(names)) == len(set(colors))
    assert (len(names), names[0]) in {(21, "background"), (11, "Sky"), (19, "road"), (60, "background"),
                                      (59, "aeroplane"), (7, "background"), (6, "ground")}  # fmt: skip


def test_none_is_left_out():
    assert {*DATASET_CLASSES, "folders"} == set(DATASETS)


def test_of_the_toy_set_they_are_its_own():
    dataset = load_dataset(DataConfig(name="toy"), "val")
    assert classes_of(DataConfig(name="toy")) == (dataset.classes, dataset.palette)


def test_of_folders_they_are_the_configs():
    names, colors = classes_of(DataConfig(name="folders", classes=("road", "tree")))
    assert names == ("road", "tree")
    assert len(colors) == 2


def test_label_png_is_a_palette_picture(tmp_path):
    path = tmp_path / "labels.png"
    write_label_png(path, LABELS)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        assert picture.convert("RGB").getpixel((0, 1)) == (192, 128, 128)
    assert torch.equal(read_label_png(path), LABELS)
    write_label_png(path, LABELS, palette=[(1, 2, 3), (4, 5, 6)])
    with Image.open(path) as picture:
        assert picture.convert("RGB").getpixel((1, 0)) == (4, 5, 6)
        assert picture.convert("RGB").getpixel((2, 1)) == (224, 224, 192)
    assert [file.name for file in tmp_path.iterdir()] == ["labels.png"]
    with pytest.raises(ValueError, match=r"0\.\.255"):
        write_label_png(path, LABELS * 2)


def test_read_label_png_refuses_colors(tmp_path):
    path = tmp_path / "colors.png"
    write_picture(path, paint(LABELS))
    with pytest.raises(InputError, match="mode RGB"):
        read_label_png(path)
    with pytest.raises(InputError, match="no such file"):
        read_label_png(tmp_path / "gone.png")
    path.write_bytes(b"text")
    with pytest.raises(InputError, match="cannot be read"):
        read_label_png(path)


def test_overlay_tints_the_image_in_gray(tmp_path):
    """Whatever its hue was: that of a pixel is the class's; void is cream; opacity 0 is the image itself."""
    image = torch.tensor([100, 100, 100], dtype=torch.uint8)[:, None, None].expand(3, 2, 3)
    mixed = overlay(image, LABELS, opacity=0.25)
    assert mixed[:, 0, 1].tolist() == [107, 75, 75]  # 0.75 * 100 + 0.25 * (128, 0, 0)
    assert mixed[:, 1, 2].tolist() == [131, 131, 123]  # 0.75 * 100 + 0.25 * (224, 224, 192)
    blue = torch.tensor([20, 100, 202], dtype=torch.uint8)[:, None, None].expand(3, 2, 3)
    assert luminance(20, 100, 202) == 87
    assert overlay(blue, LABELS, opacity=0.25)[:, 0, 1].tolist() == [97, 65, 65]
    assert torch.equal(overlay(blue, LABELS, opacity=0.0), blue)
    assert [luminance(value, value, value) for value in range(256)] == [*range(256)]
    assert torch.equal(overlay(image, LABELS, opacity=1.0)[:, 0], paint(LABELS)[:, 0])
    with pytest.raises(ValueError, match="opacity is 2"):
        overlay(image, LABELS, opacity=2.0)
    write_picture(tmp_path / "overlay.png", mixed)
    with Image.open(tmp_path / "overlay.png") as picture:
        assert picture.mode == "RGB"
        assert picture.getpixel((1, 0)) == (107, 75, 75)
