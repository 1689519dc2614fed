"""Masks that hold something else than class numbers: refused with what to write, or translated."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from crfnet.cli.main import main
from crfnet.data import DataConfig, Subset, classes_of, load_dataset
from crfnet.errors import InputError
from crfnet.labels import DATASET_CLASSES
from crfnet.pipeline.run_config import dump_run, load_run
from tests.data.test_layouts import SIZE, image, mask, street

TWO = ("background", "object")


def own(root: Path, *masks: object, classes=TWO, split="train", **keys):
    """A folder with those masks, as a data set."""
    for place, labels in enumerate(masks):
        image(root / f"images/{split}/x{place}.png")
        if np.ndim(labels) == 3:
            path = root / f"masks/{split}/x{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(labels, np.uint8)).save(path)
        else:
            mask(root / f"masks/{split}/x{place}.png", labels)
    return load_dataset(DataConfig(name="folders", root=root, classes=classes, **keys), split)


def half(a: int, b: int) -> np.ndarray:
    labels = np.full(SIZE, a)
    labels[2:, 3:] = b
    return labels


def refused(dataset, *parts: str, split="train") -> None:
    with pytest.raises(InputError) as caught:
        dataset.check(split)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def test_an_object_of_255_is_refused_before_work(tmp_path):
    dataset = own(tmp_path, half(0, 255))
    advice = "data.label_map: {255: object}"
    refused(dataset, "masks hold 0 and 255 alone", advice)
    refused(dataset, advice, split="val")
    own(tmp_path, half(0, 255), void=(255,)).check("val")  # it was said


def test_255_beyond_a_share_of_void_is_refused(tmp_path):
    many = ("road", "building", "tree")
    dataset = own(tmp_path, half(0, 255), half(1, 255), half(2, 255), classes=many)
    refused(dataset, "255 is 34 % of the masks' pixels", "data.void: [255]", split="val")
    own(tmp_path, half(0, 255), half(1, 255), half(2, 255), classes=many, void=(255,)).check("train")
    few = np.full(SIZE, 2)
    few[0] = 255
    own(tmp_path, half(0, 1), few, half(2, 0), classes=many).check("train")


def test_a_class_that_no_training_image_holds_is_refused(tmp_path):
    dataset = own(tmp_path, half(0, 1), classes=("a", "b", "c"))
    refused(dataset, "no mask of train holds c", "there are a, b", "data.label_map", "{NUMBER: c}")
    dataset.check("val")
    dataset.check()


def test_public_sets_warn_of_absent_classes(voc_writer, caplog):
    writer = voc_writer("a", "b")
    load_dataset(DataConfig(name="voc", root=writer.root), "train").check("train")
    assert "no image of train holds bicycle, bird" in caplog.text


def test_the_command_says_it_and_train_refuses(tmp_path, capsys):
    for split in ("train", "val"):
        own(tmp_path, half(0, 255), half(0, 255), split=split)
    config = tmp_path / "own.yaml"
    data = {"name": "folders", "root": str(tmp_path), "classes": [*TWO]}
    config.write_text(yaml.safe_dump({"output": str(tmp_path / "run"), "data": data}))
    for command in (["data", "check", "--workers", "0"], ["train"], ["compare", "--search.images", "1"]):
        with pytest.raises(SystemExit) as stop:
            main([*command, str(config)])
        assert stop.value.code == 2
        assert "label_map: {255: object}" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
    data["label_map"] = {255: "object"}
    config.write_text(yaml.safe_dump({"data": data}))
    main(["data", "check", str(config), "--workers", "0"])
    assert "class_weights: balanced is [0.7609, 1.458]" in capsys.readouterr().out


def test_label_map_gives_numbers_a_class(tmp_path):
    dataset = own(tmp_path, half(0, 255), label_map={255: "object"})
    dataset.check("train")
    assert dataset.classes == TWO
    assert np.array_equal(dataset[0].labels.numpy(), half(0, 1))
    spread = own(tmp_path, half(100, 200), label_map={100: "background", 200: "object"})
    assert np.array_equal(spread[0].labels.numpy(), half(0, 1))
    quoted = own(tmp_path, half(0, 200), label_map={"200": "object"})
    assert np.array_equal(quoted[0].labels.numpy(), half(0, 1))
    unknown = own(tmp_path, half(100, 201), label_map={100: "background", 200: "object"})
    refused(unknown, "label 201 at x=3, y=2", "data.label_map")


def test_a_class_mapped_away_is_gone(tmp_path):
    config = {"classes": ("a", "b", "c"), "label_map": {1: "void", 2: "a"}}
    dataset = own(tmp_path, half(0, 1), half(2, 0), **config)
    dataset.check("train")
    assert (dataset.classes, dataset.num_classes, len(dataset.palette)) == (("a",), 1, 1)
    assert np.array_equal(dataset[0].labels.numpy(), half(0, 255))
    assert np.array_equal(dataset[1].labels.numpy(), half(0, 0))
    middle = own(tmp_path, half(0, 1), half(2, 0), classes=("a", "b", "c"), label_map={"b": "c"})
    assert middle.classes == ("a", "c")
    assert middle.palette == (middle.palette[0], (0, 128, 0))  # its own color, not that of b
    assert middle[0].labels.unique().tolist() == [0, 1]


def test_every_reader_has_label_map(voc_writer, tmp_path):
    writer = voc_writer("a", "b", "c")  # of labels 0, 1, 2
    config = DataConfig(name="voc", root=writer.root, label_map={"aeroplane": "void", 2: "bird"})
    dataset = load_dataset(config, "train")
    assert classes_of(config) == (dataset.classes, dataset.palette)
    assert dataset.classes == tuple(
        name for name in DATASET_CLASSES["voc"].names if name not in ("aeroplane", "bicycle")
    )
    assert [int(sample.labels[0, 0]) for sample in (dataset[i] for i in range(3))] == [0, 255, 1]
    street(tmp_path, "val", "ulm_000001_000019", half(7, 26))
    streets = DataConfig(
        name="cityscapes",
        root=tmp_path,
        classes=("drivable", "other"),
        label_map=dict.fromkeys(DATASET_CLASSES["cityscapes"].names, "other") | {"road": "drivable"},
    )
    found = load_dataset(streets, "val")
    assert found.classes == ("drivable", "other")
    assert found.palette == ((128, 64, 128), (244, 35, 232))
    assert np.array_equal(found[0].labels.numpy(), half(0, 1))


def test_a_subset_has_the_chosen_images(voc_writer):
    dataset = load_dataset(DataConfig(name="voc", root=voc_writer("a", "b", "c").root), "train")
    chosen = Subset(dataset, ["c", "a"])
    assert (chosen.ids, len(chosen), chosen.classes) == (("c", "a"), 2, dataset.classes)
    assert [chosen[number].id for number in range(2)] == ["c", "a"]
    assert chosen.pixels[:3] == [35, 0, 35]


RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)


def painted(a, b) -> np.ndarray:
    return np.where((half(0, 1) == 0)[..., None], a, b)


def test_masks_in_colors(tmp_path):
    colors = {"road": RED, "tree": GREEN, "void": BLACK}
    dataset = own(tmp_path, painted(RED, GREEN), painted(GREEN, BLACK), classes=(), colors=colors)
    dataset.check("train")
    assert (dataset.classes, dataset.palette) == (("road", "tree"), (RED, GREEN))
    assert np.array_equal(dataset[0].labels.numpy(), half(0, 1))
    assert np.array_equal(dataset[1].labels.numpy(), half(1, 255))
    again = pickle.loads(pickle.dumps(dataset))  # as worker processes get it
    assert np.array_equal(again[0].labels.numpy(), half(0, 1))
    merged = own(tmp_path, classes=("all",), colors=colors, label_map={"road": "all", "tree": "all"})
    assert (merged.classes, merged.palette) == (("all",), (RED,))
    assert np.array_equal(merged[1].labels.numpy(), half(0, 255))
    own(tmp_path, painted(RED, (255, 1, 0)))
    refused(dataset, "color [255, 1, 0] at x=3, y=2", "must be one of data.colors")
    refused(own(tmp_path, painted(RED, GREEN)), "mode RGB", "give data.colors")


def test_camvid_in_its_original_colors(voc_writer):
    writer = voc_writer("a")
    Image.fromarray(painted((128, 64, 128), (128, 0, 192)).astype(np.uint8)).save(writer.mask_path("a"))
    names = DATASET_CLASSES["camvid"]
    colors = dict(zip(*names, strict=True)) | {"LaneMarking": (128, 0, 192), "void": BLACK}
    config = DataConfig(name="camvid", root=writer.root, colors=colors, label_map={"LaneMarking": "Road"})
    dataset = load_dataset(config, "train")
    assert (dataset.classes, dataset.palette) == names
    assert np.array_equal(dataset[0].labels.numpy(), half(3, 3))


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        ({"label_map": {0: "rod"}}, "data.label_map has 'rod', must be void or a class: background, object"),
        ({"label_map": {"sky": "object"}}, "data.label_map has 'sky', must be numbers or background, object"),
        ({"label_map": {256: "object"}}, "must be numbers in 0..255"),
        ({"colors": {"object": (0, 0, 300)}}, "data.colors.object is [0, 0, 300], must be [r, g, b]"),
        ({"colors": {"object": (0, 0, 3), "b": (0, 0, 3)}}, "another color than that of object"),
        ({"colors": {"object": (0, 0, 3), "b": (0, 0, 4)}}, "says nothing of 'b' (color 1)"),
        ({"classes": ("void", "a"), "label_map": {1: "a"}}, "other names than void"),
        (
            {"name": "voc", "classes": ("a", "b"), "label_map": {1: "a"}},
            "says nothing of 'background' (label 0)",
        ),
        ({"name": "voc", "classes": (), "label_map": {77: "car"}}, "must be labels of voc, 0..20 or 255"),
        ({"name": "toy", "classes": (), "label_map": {1: "void"}}, "left out: toy is drawn"),
    ],
)
def test_what_contradicts_itself_is_refused(keys, part):
    with pytest.raises(InputError, match=re.escape(part)):
        classes_of(DataConfig(**{"name": "folders", "classes": TWO} | keys))


def test_the_config_file_and_the_command_line(tmp_path):
    config = tmp_path / "own.yaml"
    config.write_text(
        "data:\n  name: folders\n  classes: [a, b]\n  label_map: {0: a, 255: b, 7: void}\n"
        "  image_range: [0, 4095]\n  channels: 1\n"
    )
    run = load_run(config)
    assert run.data.label_map == {0: "a", 255: "b", 7: "void"}
    again = tmp_path / "again.yaml"
    again.write_text(dump_run(run))
    assert load_run(again) == run
    config.write_text("data: {name: folders, colors: {a: [1, 2, 3], b: [4, 5, 6]}}\n")
    assert load_run(config).data.colors == {"a": (1, 2, 3), "b": (4, 5, 6)}
    assert load_run(config, ["--data.label_map", "{a: b}"]).data.label_map == {"a": "b"}


@pytest.mark.parametrize("names", ["[yes, no]", "[0, 1]", "[a, null]", "[a, on]"])
def test_names_that_yaml_reads_as_something_else(names, tmp_path):
    config = tmp_path / "own.yaml"
    config.write_text(f"data: {{name: folders, classes: {names}}}\n")
    with pytest.raises(InputError, match="quotes"):
        load_run(config)
    config.write_text("data: {name: folders, classes: ['yes', 'no'], label_map: {1: no}}\n")
    with pytest.raises(InputError, match="quotes"):
        load_run(config)
    config.write_text("data: {name: folders, classes: ['yes', 'no'], label_map: {1: 'no'}}\n")
    assert load_run(config).data.classes == ("yes", "no")
