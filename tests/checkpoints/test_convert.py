"""From a public file to a checkpoint that commands take; our own in both formats; what fits only partly."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from crfnet.checkpoints.checkpoint import checkpoint_crf, load_model, read_checkpoint
from crfnet.checkpoints.convert import (
    Converted,
    convert_file,
    fitted,
    public_segmenter,
    write_converted,
)
from crfnet.checkpoints.data_section import data_section
from crfnet.checkpoints.layouts.layout import Imported
from crfnet.crf.crfasrnn import NAMES
from crfnet.crf.layer import DenseCRF
from crfnet.data import classes_of
from crfnet.errors import InputError
from crfnet.files.weight_files import read_safetensors
from crfnet.models import DeepLabV1Config, ModelConfig
from crfnet.pipeline.run_config import load_run
from crfnet.segmenter import build_segmenter
from tests.checkpoints.test_layouts import converted
from tests.models import twins
from tests.tolerances import assert_close

PLAIN = ModelConfig(variant="deeplab_v1", backbone="vgg16", width=0.125)


def _narrow(state: dict[str, Tensor], *, num_classes: int | None, **_: object) -> Imported:
    return converted(state).with_classes(num_classes or twins.CLASSES)


@pytest.fixture
def narrow_kazuto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in kazuto1011's layout, an eighth as wide as his; the width is no part of the layout."""
    torch.save(twins.kazuto_state(), tmp_path / "kazuto.pth")
    monkeypatch.setattr("crfnet.checkpoints.convert.import_state", _narrow)
    return tmp_path / "kazuto.pth"


@torch.no_grad()
def test_a_public_file_becomes_a_checkpoint_with_its_config(narrow_kazuto: Path, tmp_path: Path) -> None:
    made = convert_file(narrow_kazuto)
    assert "kazuto1011" in made.what
    assert "5 classes" in made.what
    files = write_converted(made, tmp_path / "new/v2.pt")
    assert [file.name for file in files] == ["v2.pt", "v2.yaml"]
    assert len(classes_of(load_run(files[1]).data).names) == twins.CLASSES  # so that commands find as many
    model = build_segmenter(load_run(files[1]).model, twins.CLASSES)
    load_model(model.eval(), files[0])
    image = torch.randint(0, 256, (1, 3, 49, 65), dtype=torch.uint8)
    expected = twins.kazuto(torch.load(narrow_kazuto), image, multi_scale=True)
    assert_close(model(image), expected, "layer", torch.float32)
    assert checkpoint_crf(files[0]) is None


@torch.no_grad()
def test_a_public_file_is_a_model_in_one_call(narrow_kazuto: Path, tmp_path: Path) -> None:
    image = torch.randint(0, 256, (1, 3, 49, 65), dtype=torch.uint8)
    expected = twins.kazuto(torch.load(narrow_kazuto), image, multi_scale=True)
    assert_close(public_segmenter(narrow_kazuto)(image), expected, "layer", torch.float32)
    with pytest.raises(InputError, match="not a public network"):
        public_segmenter(write_converted(convert_file(narrow_kazuto), tmp_path / "a.pt")[0])


def test_other_classes_start_with_new_classifiers_in_a_whole_checkpoint(
    narrow_kazuto: Path, tmp_path: Path
) -> None:
    made = convert_file(narrow_kazuto, num_classes=7)
    assert any("classifier of 5 classes: a new one of 7" in note for note in made.notes)
    model = build_segmenter(made.config, 7)
    load_model(model, write_converted(made, tmp_path / "seven.pt")[0])
    assert model.network.head.branches[0].fc8.weight.std() < 0.02  # as new ones start
    kept = torch.load(narrow_kazuto)["base.layer1.conv1.conv.weight"]
    assert torch.equal(model.network.backbone.conv1.weight, kept)


def test_our_own_go_from_checkpoint_to_safetensors_and_back(narrow_kazuto: Path, tmp_path: Path) -> None:
    first = write_converted(convert_file(narrow_kazuto), tmp_path / "a.pt")[0]
    again = convert_file(first)
    assert again.what.startswith("crfnet, 326 entries")
    (tensors,) = write_converted(again, tmp_path / "b.safetensors")
    assert read_safetensors(tensors)[1]["format"] == "crfnet"
    (back,) = write_converted(convert_file(tensors), tmp_path / "c.pt")
    one, other = read_checkpoint(first)["model"], read_checkpoint(back)["model"]
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_msc_begins_from_a_plain_network(tmp_path: Path) -> None:
    plain = build_segmenter(PLAIN, 3)
    made = Converted("plain", plain.state_dict())
    msc = fitted(made, dataclasses.replace(PLAIN, variant=DeepLabV1Config(multi_scale_features=True)), 3)
    assert any("new, started at random: network.msc.0.conv.weight" in note for note in msc.notes)
    assert not any("skipped" in note for note in msc.notes)
    model = build_segmenter(msc.config, 3)
    load_model(model, write_converted(msc, tmp_path / "msc.pt")[0])
    assert torch.equal(model.network.head.fc6.weight, plain.network.head.fc6.weight)


def test_what_does_not_fit_is_named() -> None:
    made = Converted("plain", build_segmenter(PLAIN, 3).state_dict())
    other = fitted(made, PLAIN, 5)
    assert "skipped: network.head.fc8.weight, network.head.fc8.bias" in other.notes
    assert other.model["network.head.fc8.weight"].shape[0] == 5
    with pytest.raises(InputError, match="none of its weights fits a deeplab_v2 on resnet18"):
        fitted(made, ModelConfig(backbone="resnet18", width=0.125), 3)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_network_for_images_of_other_channels(channels: int, tmp_path: Path) -> None:
    made = Converted("plain", build_segmenter(PLAIN, 3).state_dict())
    other = fitted(made, PLAIN, 3, channels)
    model = build_segmenter(PLAIN, 3, channels=channels)
    load_model(model, write_converted(other, tmp_path / "other.pt")[0])
    (first,) = (layer for layer in model.modules() if getattr(layer, "in_channels", 0) == channels)
    name = next(key for key, layer in model.named_modules() if layer is first)
    rgb = made.model[f"{name}.weight"]
    expected = rgb.sum(1, keepdim=True) if channels == 1 else rgb[:, [0, 1, 2, 0]] * 3 / 4
    torch.testing.assert_close(first.weight.detach(), expected)


def test_the_layer_of_crf_as_rnn_is_found_in_its_network(tmp_path: Path) -> None:
    matrices = {f"crfrnn.{name}": torch.randn(4, 4) for name in NAMES}
    torch.save({"conv1_1.weight": torch.zeros(2), **matrices}, tmp_path / "crfrnn.pth")
    made = convert_file(tmp_path / "crfrnn.pth")
    assert "4 classes" in made.what
    assert any("skipped: 1 weights" in note for note in made.notes)
    (path,) = write_converted(made, tmp_path / "crf.pt")
    config = checkpoint_crf(path)
    assert config is not None
    layer = DenseCRF(4, config)
    layer.load_state_dict({k.removeprefix("crf."): v for k, v in read_checkpoint(path)["model"].items()})
    assert torch.equal(layer.compatibility.mu, -matrices["crfrnn.compatibility_matrix"])
    # What the CRF is built from stays with it in safetensors.
    (tensors,) = write_converted(convert_file(path), tmp_path / "crf.safetensors")
    (back,) = write_converted(convert_file(tensors), tmp_path / "back.pt")
    assert checkpoint_crf(back) == config


def test_the_data_set_follows_from_the_number_of_classes(tmp_path: Path) -> None:
    """Each public one has another number; the toy set has those of nobody's checkpoint."""
    for count, name in {
        21: "voc",
        19: "cityscapes",
        60: "context",
        59: "context59",
        7: "person_part",
    }.items():
        assert data_section(count) == {"name": name}
    for count in (6, 182):  # toy's number, COCO-Stuff's
        assert data_section(count)["name"] == "folders"
        assert len(data_section(count)["classes"]) == count
    plain = build_segmenter(PLAIN, 3)
    own = {"name": "folders", "classes": ["ground", "house", "tree"]}
    made = Converted("x", plain.state_dict(), PLAIN, settings={"num_classes": 3}, data=own)
    run = load_run(write_converted(made, tmp_path / "own.pt")[1])
    assert run.data.classes == ("ground", "house", "tree")


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a.bin: must end in .pt, .pth, .safetensors"):
        write_converted(Converted("x", {}), tmp_path / "a.bin")
