"""Ids that no file can have, refused before anything is read; ids with spaces, taken everywhere."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crfnet.data import DataConfig, load_dataset
from crfnet.errors import InputError
from crfnet.pipeline.evaluate_split import read_ids


def folder_of(root: Path, *names: bytes) -> DataConfig:
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
            for name in names:
                Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / kind / split / "x.png")
                (root / kind / split / "x.png").rename(
                    root / kind / split / (name + b".png").decode(errors="surrogateescape")
                )
    return DataConfig(name="folders", root=root, classes=("a", "b"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (b"a" * 240, "240 bytes, must be at most 200"),
        (b"\xff\xfe", "no text in UTF-8"),
        (b"a\nb", "holds a folder, an end of a line"),
        (b" a", "a space at an end"),
    ],
)
def test_refused(tmp_path, name, said):
    with pytest.raises(InputError, match=said):
        load_dataset(folder_of(tmp_path, name), "train")


def test_a_dot_at_the_front(tmp_path):
    config = folder_of(tmp_path, b"a")
    (tmp_path / "train.txt").write_text(".a\n")
    for kind in ("images", "masks"):
        (tmp_path / kind / "train/a.png").rename(tmp_path / kind / ".a.png")
        (tmp_path / kind / "train").rmdir()
    with pytest.raises(InputError, match="begins with a dot"):
        load_dataset(config, "train")


def test_spaces_in_a_list(tmp_path):
    config = folder_of(tmp_path, b"my photo", b"b")
    for kind in ("images", "masks"):
        for name in ("my photo", "b"):
            (tmp_path / kind / f"train/{name}.png").rename(tmp_path / kind / f"{name}.png")
        (tmp_path / kind / "train").rmdir()
    (tmp_path / "train.txt").write_text("my photo.png\nb\n")
    assert load_dataset(config, "train").ids == ("my photo", "b")


def test_spaces_within(tmp_path):
    """As `--exclude` reads images.txt, which a search wrote."""
    dataset = load_dataset(folder_of(tmp_path, b"my photo", b"b"), "val")
    (tmp_path / "images.txt").write_text("my photo\n")
    assert read_ids(dataset, tmp_path / "images.txt") == {"my photo"}
    (tmp_path / "images.txt").write_text("my photo\nb\n\n")
    assert read_ids(dataset, tmp_path / "images.txt") == {"my photo", "b"}
