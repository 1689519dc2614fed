"""Weights as training scripts of others wrap them: dictionaries, prefixes, and both in every combination."""

import argparse
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from crfnet.checkpoints.convert import convert_file
from crfnet.cli.main import main
from crfnet.errors import InputError
from crfnet.files.weight_files import read_unwrapped, read_weights, write_safetensors
from crfnet.files.wrappers import KEYS, PREFIXES, unwrapped
from crfnet.models import ModelConfig
from crfnet.segmenter import build_segmenter
from tests.models import twins

WEIGHTS = {
    "layer1.conv.weight": torch.ones(2, 3),
    "layer1.conv.bias": torch.zeros(2),
    "fc.weight": torch.ones(1),
}


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in WEIGHTS.items()}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("outer", ["", *KEYS[:4], "ema"])
def test_dictionaries_in_dictionaries(key: str, outer: str) -> None:
    content = {key: dict(WEIGHTS), "epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}
    content = {outer: content, "args": None} if outer else content
    state, notes = unwrapped(content)
    assert state.keys() == WEIGHTS.keys()
    assert notes == (f"unwrapped: the weights were under {f'{outer} / ' if outer else ''}{key}",)


@pytest.mark.parametrize("inner", ["", *PREFIXES, "_orig_mod."])
@pytest.mark.parametrize("outer", ["", *PREFIXES, "_orig_mod."])
def test_prefixes_before_prefixes(outer: str, inner: str) -> None:
    state, notes = unwrapped({"state_dict": prefixed(outer + inner)})
    assert state.keys() == WEIGHTS.keys()
    stripped = [note for note in notes if note.startswith("stripped: ")]
    assert bool(stripped) == bool(outer + inner)
    assert all(prefix in stripped[0] for prefix in (outer, inner) if prefix)


def test_compiled_parts() -> None:
    """torch.compile of a module inside another."""
    state, notes = unwrapped({f"layer1._orig_mod.{k.partition('.')[2]}": v for k, v in WEIGHTS.items()})
    assert list(state) == ["layer1.conv.weight", "layer1.conv.bias", "layer1.weight"]
    assert notes == ("stripped: _orig_mod. from the names",)


def test_what_lies_beside_is_left_out() -> None:
    losses = {"criterion.weight": torch.ones(5), "metrics.iou": torch.ones(1)}
    state, notes = unwrapped({"state_dict": prefixed("model.") | losses | prefixed("ema_model.")})
    assert state.keys() == WEIGHTS.keys()
    assert notes[1:] == (
        "stripped: model. from the names",
        "left out: 1 entries under criterion",
        "left out: 3 entries under ema_model",
        "left out: 1 entries under metrics",
    )


def test_averages_of_torch() -> None:
    """Made by torch itself: AveragedModel, DataParallel, compile."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    averaged = torch.optim.swa_utils.AveragedModel(nn.DataParallel(network))
    wrapped = torch.compile(averaged)
    state, notes = unwrapped({"model_ema": wrapped.state_dict()})
    assert state.keys() == network.state_dict().keys()
    assert "left out: 1 entries under n_averaged" in notes


def test_model_before_average() -> None:
    content = {"ema": prefixed(""), "model": {name: 2 * value for name, value in WEIGHTS.items()}}
    assert torch.equal(unwrapped(content).state["fc.weight"], 2 * torch.ones(1))


@pytest.mark.parametrize(
    "names", [["model.a", "backbone.b"], ["base.a", "base.b"], ["network.a"], ["a", "b"]]
)
def test_other_names_stay(names: list[str]) -> None:
    assert list(unwrapped(dict.fromkeys(names, torch.ones(1))).state) == names


@pytest.mark.parametrize(
    ("wrapper", "prefix"),
    list(
        itertools.product(
            ("state_dict", "model", "ema", "model_state"), ("module.", "model.", "net.", "_orig_mod.module.")
        )
    ),
)
def test_a_public_file_in_any_wrapping(
    wrapper: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.checkpoints.test_convert import _narrow

    monkeypatch.setattr("crfnet.checkpoints.convert.import_state", _narrow)
    plain = twins.v3_state("classifier.")
    content = {
        wrapper: {prefix + name: value for name, value in plain.items()},
        "args": argparse.Namespace(lr=1),
    }
    torch.save(content, tmp_path / "wrapped.pth")
    torch.save(plain, tmp_path / "plain.pth")
    wrapped, expected = convert_file(tmp_path / "wrapped.pth"), convert_file(tmp_path / "plain.pth")
    assert wrapped.model.keys() == expected.model.keys()
    assert wrapped.config == expected.config
    assert [note for note in wrapped.notes if note not in expected.notes] == [
        f"unwrapped: the weights were under {wrapper}",
        f"stripped: {prefix.replace('mod.m', 'mod. and m')} from the names",
    ]


def test_our_own_behind_compile_and_safetensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = build_segmenter(ModelConfig(backbone="resnet18", width=0.125), 3)
    write_safetensors(
        tmp_path / "w.safetensors",
        {f"module.{k}": v for k, v in model.state_dict().items()},
        {"format": "pt"},
    )
    assert read_weights(tmp_path / "w.safetensors").keys() == model.state_dict().keys()
    main(["import", str(tmp_path / "w.safetensors")])
    assert "stripped: module. from the names" in capsys.readouterr().out


class Whole(nn.Module):
    """A network that is saved whole, which files of weights cannot be."""


def test_a_pickled_network_is_refused_by_its_class(tmp_path: Path) -> None:
    torch.save({"model": Whole()}, tmp_path / "whole.pth")
    with pytest.raises(
        InputError, match=r"objects of tests.checkpoints.test_wrappers.Whole, .* state_dict\(\)"
    ):
        read_unwrapped(tmp_path / "whole.pth")
