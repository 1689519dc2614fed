import pytest

from crfnet.data import DATASETS, DataConfig, classes_of, load_dataset
from crfnet.data.classes import KNOWN


@pytest.mark.parametrize("name", KNOWN)
def test_every_data_set_has_names_and_as_many_colors(name):
    names, colors = classes_of(DataConfig(name=name))
    assert len(names) == len(colors) == len(set(names)) == len(set(colors))
    assert (len(names), names[0]) in {(21, "background"), (11, "Sky"), (19, "road"), (60, "background"),
                                      (59, "aeroplane"), (7, "background"), (6, "ground")}  # fmt: skip


def test_none_is_left_out():
    assert {*KNOWN, "folders"} == set(DATASETS)


def test_of_the_toy_set_they_are_its_own():
    dataset = load_dataset(DataConfig(name="toy"), "val")
    assert classes_of(DataConfig(name="toy")) == (dataset.classes, dataset.palette)


def test_of_folders_they_are_the_configs():
    names, colors = classes_of(DataConfig(name="folders", classes=("road", "tree")))
    assert names == ("road", "tree")
    assert len(colors) == 2
