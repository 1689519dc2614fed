"""`crfnet data check`: the counts are those of the files, and everything unusable is named."""

import json

import numpy as np
import pytest

from crfnet.cli.main import main
from crfnet.data import DataConfig, load_dataset
from crfnet.data.check import split_statistics


@pytest.fixture
def voc(voc_writer):
    """Three images in train, of which two are in val."""
    writer = voc_writer("a", "b", "c")
    labels = np.zeros((5, 7))
    labels[0] = 255
    labels[1, :3] = 20
    writer.mask("a", labels)
    writer.image("b", np.zeros((4, 6, 3)))
    writer.mask("b", np.full((4, 6), 20))
    writer.list("val", "a\nb\n")
    return writer


def read(writer, split="train", workers=0):
    return split_statistics(
        load_dataset(DataConfig(name="voc", root=writer.root), split), split, workers=workers
    )


def test_counts_are_those_of_the_files(voc, capsys):
    found = read(voc)
    assert (found.images, found.usable, found.first_problem) == (3, 3, None)
    assert found.sizes == {"7x5": 2, "6x4": 1}
    pixels = [0] * 21
    pixels[0], pixels[2], pixels[20] = 25, 35, 3 + 24
    assert found.pixels == pixels
    assert [found.images_with[label] for label in (0, 2, 20)] == [1, 1, 2]
    assert sum(found.images_with) == 4
    assert found.void == 7 / (35 + 24 + 35)
    assert "check voc train" in capsys.readouterr().err


def test_processes_find_the_same(voc):
    voc.mask_path("b").unlink()
    assert read(voc, workers=2) == read(voc)


def test_no_more_processes_than_cores(voc):
    assert read(voc, workers=10_000) == read(voc)  # torch warns of more, and warnings are errors here


def test_unusable_images_are_named_and_not_counted(voc):
    voc.mask_path("b").unlink()
    voc.image_path("c").write_bytes(b"no image")
    found = read(voc)
    assert (found.images, found.usable, found.no_mask, list(found.unreadable)) == (3, 1, ["b"], ["c"])
    assert "c.png: cannot be read as an image" in found.unreadable["c"]
    assert found.sizes == {"7x5": 1}
    assert sum(found.pixels) == 28
    voc.mask_path("a").unlink()
    voc.mask_path("c").unlink()
    empty = read(voc)
    assert (empty.usable, empty.void, empty.sizes, empty.no_mask) == (0, 0.0, {}, ["a", "b", "c"])


def check(writer, *arguments):
    config = writer.root / "voc.yaml"
    config.write_text(f"data: {{name: voc, root: {writer.root}}}\n")
    main(["data", "check", str(config), "--workers", "0", *map(str, arguments)])


def test_the_command_reports_both_splits(voc, tmp_path, capsys):
    output = tmp_path / "new/report.json"
    check(voc, "--output", output)
    text = capsys.readouterr().out
    assert "train: 3 images, 3 usable, 0 without a mask, 0 unreadable; void 7.45 %" in text
    assert "sizes: 7x5 (2), 6x4 (1)" in text
    assert "sizes: 7x5 (1), 6x4 (1)" in text
    assert "2 ids are in train and in val: a, b" in text
    row = next(line for line in text.splitlines() if "tvmonitor" in line and line.startswith(" 20"))
    assert row.split() == ["20", "tvmonitor", f"{100 * 27 / 87:.3f}", "2", f"{100 * 27 / 52:.3f}", "2"]
    assert "classes that no image holds: aeroplane, bird, " in text
    found = json.loads(output.read_text())
    assert found["val"]["pixels"][20] == 27
    assert found["in_both"] == ["a", "b"]


def test_the_command_exits_with_2_when_something_cannot_be_used(voc, tmp_path, capsys):
    voc.mask("b", np.full((4, 6), 77))
    voc.mask_path("c").unlink()
    with pytest.raises(SystemExit) as stop:
        check(voc, "--output", tmp_path / "report.json")
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert "train: 3 images, 1 usable, 1 without a mask, 1 unreadable" in shown.out
    assert "without a mask: c" in shown.out
    last = shown.err.splitlines()[-1]
    assert last.startswith("crfnet: ")
    assert "label 77" in last
    assert "of 5 images, 3 cannot be used" in last
    assert list(json.loads((tmp_path / "report.json").read_text())["train"]["unreadable"]) == ["b"]


def test_bad_arguments(voc, tmp_path, capsys):
    there = tmp_path / "there.json"
    there.write_text("mine")
    for arguments, part in (
        (["--output", there], "there.json exists"),
        (["--workers", -1], "--workers is -1"),
        (["--data.val", "none"], "none.txt: no such list"),
    ):
        with pytest.raises(SystemExit) as stop:
            check(voc, *arguments)
        assert stop.value.code == 2
        assert part in capsys.readouterr().err
    assert there.read_text() == "mine"
    check(voc, "--output", there, "--overwrite")
    assert json.loads(there.read_text())["train"]["images"] == 3
