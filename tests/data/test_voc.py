"""Folders in the layout of PASCAL VOC: what is read, and the one line for everything that can be wrong."""

import re
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image

from crfnet.data import DATASETS, DataConfig, SegmentationDataset, ToyConfig, classes_of, load_dataset
from crfnet.errors import InputError


def load(root: Path, name: str = "voc") -> SegmentationDataset:
    config = DataConfig(name=name, root=root)
    dataset = load_dataset(config, "val")
    assert classes_of(config) == (dataset.classes, dataset.palette)
    return dataset


def load_and_check(root: Path, name: str) -> None:
    load(root, name).check()


def refused(root: Path, *parts: str, name: str = "voc") -> None:
    """Loading or checking raises one line that holds all ``parts``."""
    with pytest.raises(InputError) as caught:
        load_and_check(root, name)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def test_the_index_plane_is_read_and_not_the_colors(voc_writer):
    writer = voc_writer("a", "b")
    labels = np.arange(35).reshape(5, 7) % 21
    labels[0, 0] = 255
    writer.mask("b", labels)
    # A palette that says nothing: all entries the same gray. Only the index plane can give the labels back.
    mask = Image.fromarray(labels.astype(np.uint8))
    mask.putpalette([77] * 768)
    mask.save(writer.mask_path("a"))
    dataset = load(writer.root)
    dataset.check()
    for sample in dataset:
        assert sample.labels.dtype == torch.int64
        assert np.array_equal(sample.labels.numpy(), labels)


def test_gray_masks_are_labels(voc_writer):
    writer = voc_writer("a")
    labels = np.arange(35).reshape(5, 7) % 21
    writer.mask("a", labels, mode="L")
    assert np.array_equal(load(writer.root)[0].labels.numpy(), labels)


def test_images_are_rgb_png_or_jpg(voc_writer):
    writer = voc_writer("a", "b")
    pixels = np.zeros((5, 7, 3))
    pixels[:, 3:] = (200, 100, 50)
    writer.image("a", pixels)
    writer.image_path("b").unlink()
    writer.image("b", np.full((5, 7, 3), (200, 100, 50)), ending="jpg")
    png, jpg = (sample.image for sample in load(writer.root))
    assert png.shape == (3, 5, 7)
    assert png.dtype == torch.uint8
    assert png[:, 2, 5].tolist() == [200, 100, 50]
    assert np.abs(jpg[:, 2, 3].numpy() - np.array([200, 100, 50])).max() < 6


def test_ids_are_the_lines_of_the_chosen_list(voc_writer):
    writer = voc_writer("a", "b", "c")
    writer.list("train", "c\r\n\r\n  a \r\n")
    dataset = load_dataset(DataConfig(name="voc", root=writer.root), "train")
    assert dataset.ids == ("c", "a")
    assert [sample.id for sample in dataset] == ["c", "a"]
    assert dataset[-1].id == "a"
    assert load(writer.root).ids == ("a", "b", "c")


def test_other_list_by_name(voc_writer):
    writer = voc_writer("a", "b")
    writer.list("mine", "b")
    assert load_dataset(DataConfig(name="voc", root=writer.root, val="mine"), "val").ids == ("b",)


def test_no_root():
    with pytest.raises(InputError, match=r"data.root is not given, .* the data set \(data.name: voc\)"):
        load_dataset(DataConfig(name="voc"), "train")


@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationClass", "ImageSets/Segmentation"])
def test_missing_folder(voc_writer, folder):
    writer = voc_writer("a")
    (writer.root / folder).rename(writer.root / "elsewhere")
    refused(
        writer.root, "data.root", str(writer.root / folder), "JPEGImages, SegmentationClass and ImageSets"
    )


def test_missing_list_names_the_lists_there_are(voc_writer):
    writer = voc_writer("a")
    writer.list("val", "a").unlink()
    writer.list("extra", "a")
    refused(writer.root, "val.txt", "extra, train")


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_empty_list(voc_writer, text):
    writer = voc_writer("a")
    refused(writer.root, str(writer.list("val", text)), "empty", "at least one")


def test_list_that_is_not_text(voc_writer):
    writer = voc_writer("a")
    path = writer.list("val", "")
    path.write_bytes(b"\xff\xfe\x00\x81")
    refused(writer.root, str(path), "one id a line")


def test_id_twice(voc_writer):
    writer = voc_writer("a", "b")
    refused(writer.root, str(writer.list("val", "a\nb\na\n")), "id a ", "twice", "once")


@pytest.mark.parametrize("line", ["/JPEGImages/a.jpg /SegmentationClass/b.png", "../a", "a 1", "a a", "x\\a"])
def test_line_that_is_no_id(voc_writer, line):
    writer = voc_writer("a")
    refused(writer.root, str(writer.list("val", line)), repr(line), "without folder and ending")


def test_lines_of_the_papers_lists_are_pairs_of_paths(voc_writer):
    writer = voc_writer("a", "b")
    writer.list(
        "val", "/JPEGImages/b.jpg /SegmentationClassAug/b.png\n/JPEGImages/a.jpg /SegmentationClass/a.png\n"
    )
    assert load(writer.root).ids == ("b", "a")


def test_where_voc_has_no_mask_that_of_sbd_is_read(voc_writer):
    writer = voc_writer("a", "b")
    aug = writer.root / "SegmentationClassAug"
    aug.mkdir()
    writer.mask_path("b").rename(aug / "b.png")
    Image.fromarray(np.full((5, 7), 9, np.uint8)).save(aug / "a.png")
    a, b = load(writer.root)
    assert a.labels.unique().tolist() == [0]  # VOC's own
    assert b.labels.unique().tolist() == [1]
    (aug / "b.png").rename(writer.root / "SegmentationClass" / "c.png")
    refused(writer.root, str(writer.mask_path("b")), "no such mask", "SegmentationClassAug/{id}.png")


def test_missing_image(voc_writer):
    writer = voc_writer("a", "b")
    writer.image_path("b").unlink()
    refused(writer.root, "b.jpg", "no such image", "{id}.jpg, ", "{id}.png")


def test_missing_mask(voc_writer):
    writer = voc_writer("a", "b")
    writer.mask_path("b").unlink()
    refused(writer.root, str(writer.mask_path("b")), "no such mask")


def test_truncated_image_and_mask(voc_writer):
    writer = voc_writer("a")
    for path in (writer.image_path("a"), writer.mask_path("a")):
        whole = path.read_bytes()
        for keep in (0, 20, len(whole) - 30):
            path.write_bytes(whole[:keep])
            refused(writer.root, str(path), "cannot be read as an image")
        path.write_bytes(whole)
    load(writer.root).check()


def test_sizes_that_differ(voc_writer):
    writer = voc_writer("a")
    writer.mask("a", np.zeros((7, 5)))
    refused(writer.root, str(writer.mask_path("a")), "5x7", "7x5", str(writer.image_path("a")), "equal sizes")


@pytest.mark.parametrize("mode", ["P", "L"])
@pytest.mark.parametrize("label", [21, 254])
def test_label_outside_the_classes(voc_writer, mode, label):
    writer = voc_writer("a")
    labels = np.zeros((5, 7))
    labels[3, 6] = label
    writer.mask("a", labels, mode)
    refused(writer.root, str(writer.mask_path("a")), f"label {label} at x=6, y=3", "0..20", "255 (void)")


def test_masks_in_color_or_few_bits_are_refused(voc_writer):
    writer = voc_writer("a")
    for mode in ("RGB", "RGBA", "I;16", "1"):
        Image.new(mode, (7, 5)).save(writer.mask_path("a"))
        refused(
            writer.root, str(writer.mask_path("a")), f"mode {mode}", "a palette image (P) or 8-bit gray (L)"
        )
    # 4-bit gray, written by hand: the reader would stretch label 1 to 17, a valid class.
    writer.mask_path("a").write_bytes(four_bit_gray_png())
    refused(writer.root, "mode L;4", "8-bit gray")


def four_bit_gray_png() -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 7, 5, 4, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0\x11\x11\x11\x11" * 5))
        + (chunk(b"IEND", b""))
    )


def test_sixteen_bit_image_is_refused(voc_writer):
    writer = voc_writer("a")
    Image.new("I;16", (7, 5)).save(writer.image_path("a"))
    refused(writer.root, str(writer.image_path("a")), "mode I;16", "8 bits")


def test_check_names_the_first_and_counts_the_others(voc_writer, capsys):
    writer = voc_writer("a", "b", "c", "d")
    for image_id in "bd":
        writer.mask_path(image_id).unlink()
    refused(writer.root, "b.png", "(and 1 more of 4 images)")
    assert "check voc" in capsys.readouterr().err


def test_reading_without_check_is_refused_too(voc_writer):
    writer = voc_writer("a")
    writer.mask("a", np.full((5, 7), 200))
    with pytest.raises(InputError, match="label 200"):
        load(writer.root)[0]


def test_camvid_void_is_255_or_unlabeled_11(voc_writer):
    writer = voc_writer("a")
    labels = np.arange(35).reshape(5, 7) % 12
    labels[0, 0] = 255
    writer.mask("a", labels, mode="L")
    dataset = load(writer.root, "camvid")
    dataset.check()
    assert np.array_equal(dataset[0].labels.numpy(), np.where(labels == 11, 255, labels))
    writer.mask("a", labels + 1)  # 12 is in it, and 256 is 0
    refused(writer.root, "label 12", "0..10", name="camvid")


def test_voc_classes(voc_writer):
    dataset = load(voc_writer("a").root)
    assert dataset.num_classes == len(dataset.palette) == 21
    assert (dataset.classes[0], dataset.classes[15], dataset.classes[20]) == (
        "background",
        "person",
        "tvmonitor",
    )


def test_unknown_split():
    with pytest.raises(Exception, match="split"):  # a type error while shapes and types are checked
        load_dataset(DataConfig(), "test")


@pytest.mark.parametrize(
    ("field", "value"),
    [("train", 0), ("val", 0), ("size", (31, 128)), ("size", (128, 31)), ("seed", -1)],
)
def test_config_out_of_range(field, value):
    shown = re.escape(str(list(value) if isinstance(value, tuple) else value))
    with pytest.raises(InputError, match=f"{field} is {shown}, must be"):
        ToyConfig(**{field: value})


def test_the_table_and_the_config_name_the_same_sets():
    assert list(DATASETS) == list(get_args(get_type_hints(DataConfig)["name"]))


def test_real_camvid(extra_data):
    root = extra_data / "camvid"
    if not root.is_dir():
        pytest.skip("no camvid folder")
    config = DataConfig(name="camvid", root=root)
    train, val = load_dataset(config, "train"), load_dataset(config, "val")
    assert (len(train), len(val)) == (367, 101)
    assert not set(train.ids) & set(val.ids)
    seen: set[int] = set()
    for index in (0, 50, 100):
        sample = val[index]
        assert sample.image.shape == (3, 360, 480)
        assert sample.labels.shape == (360, 480)
        seen |= set(sample.labels.unique().tolist())
    assert seen <= {*range(11), 255}
    assert {0, 1, 3, 255} <= seen
    # Sky is above the road.
    labels = val[0].labels
    rows = torch.arange(360)[:, None].expand(360, 480)
    assert rows[labels == 0].float().mean() < rows[labels == 3].float().mean()
