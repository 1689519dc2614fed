"""Checkpoints are whole or not there, and what does not fit is told in one line."""

import os
import random

import numpy as np
import pytest
import torch
from torch.optim import SGD

from crfnet.checkpoints import checkpoint as module
from crfnet.checkpoints.checkpoint import (
    Checkpoint,
    load_model,
    random_state,
    read_checkpoint,
    restore,
    save_checkpoint,
    set_random_state,
)
from crfnet.errors import InputError
from crfnet.segmenter import Segmenter
from tests.training.conftest import TinyNetwork, assert_same, tiny_segmenter, weights

CPU = torch.device("cpu")


def a_checkpoint(model: Segmenter, step: int = 7) -> Checkpoint:
    return Checkpoint(
        step=step,
        seconds=1.5,
        settings={"lr": 0.1, "augment.crop": [4, 4]},
        model=model.state_dict(),
        optimizer=SGD(model.parameters()).state_dict(),
        random={"0": random_state(CPU)},
    )


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, a_checkpoint(tiny_segmenter(crf=True)))
    return path


def test_read_gives_what_was_saved(path):
    read = read_checkpoint(path)
    assert (read["step"], read["seconds"], read["settings"]) == (7, 1.5, {"lr": 0.1, "augment.crop": [4, 4]})
    assert_same(read["model"], tiny_segmenter(crf=True).state_dict())


def test_no_code_is_run_from_a_file(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    torch.save({**a_checkpoint(tiny_segmenter()), "more": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match=r"evil\.pt: damaged, or no checkpoint"):
        read_checkpoint(tmp_path / "evil.pt")


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.pt: no such checkpoint"):
        read_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_told_in_one_line(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"checkpoint\.pt: damaged, or no checkpoint") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_another_kind_of_file(tmp_path):
    (tmp_path / "text.pt").write_text("hello\n")
    torch.save(tiny_segmenter().state_dict(), tmp_path / "state.pt")
    with pytest.raises(InputError, match=r"text\.pt: damaged, or no checkpoint"):
        read_checkpoint(tmp_path / "text.pt")
    with pytest.raises(InputError, match=r"state\.pt: no checkpoint of a training run"):
        read_checkpoint(tmp_path / "state.pt")


def test_failed_write_keeps_the_old_file(path, monkeypatch):
    def fails(_, stream):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(module.torch, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, a_checkpoint(tiny_segmenter(), step=8))
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]
    assert read_checkpoint(path)["step"] == 7


def test_file_is_on_disk_before_it_gets_its_name(path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(read_checkpoint(path)["step"]))
    save_checkpoint(path, a_checkpoint(tiny_segmenter(crf=True), step=8))
    assert seen == [7]
    assert read_checkpoint(path)["step"] == 8


def test_load_model(path):
    model = tiny_segmenter(crf=True, w1=9.0, theta_alpha=12.0)
    with torch.no_grad():
        model.network.body.weight.zero_()
    load_model(model, path)
    assert_same(weights(model), tiny_segmenter(crf=True).state_dict())


def test_other_shape_is_named_and_nothing_is_loaded(path):
    model = Segmenter(TinyNetwork(num_classes=5), tiny_segmenter(crf=True).crf)
    before = weights(model)
    with pytest.raises(
        InputError,
        match=r"of another model: network\.head\.weight is \[3, 4, 1, 1\] in the file and \[5, 4, 1, 1\]",
    ):
        load_model(model, path)
    assert_same(weights(model), before)


def test_other_names_are_named_with_the_number_of_others(path):
    with pytest.raises(InputError, match=r"it has crf\.\S+, which the model lacks; .*\(and 2 more differ"):
        load_model(tiny_segmenter(), path)
    model = Segmenter(torch.nn.Conv2d(3, 3, 1))
    with pytest.raises(InputError, match=r"it lacks network\.weight; it lacks network\.bias; it has"):
        load_model(model, path)


def test_network_only_keeps_the_crf_of_the_model(tmp_path):
    alone = tiny_segmenter()
    with torch.no_grad():
        alone.network.body.weight.fill_(3)
    save_checkpoint(tmp_path / "alone.pt", a_checkpoint(alone))
    joint = tiny_segmenter(crf=True, w1=9.0)
    with pytest.raises(InputError, match=r"it lacks crf\."):
        load_model(joint, tmp_path / "alone.pt")
    load_model(joint, tmp_path / "alone.pt", network_only=True)
    assert torch.equal(joint.network.body.weight, alone.network.body.weight)
    assert joint.crf.parameters_by_name()["w1"] == pytest.approx(9)


def test_network_only_leaves_the_crf_of_the_file(path):
    model = tiny_segmenter()
    load_model(model, path, network_only=True)
    assert_same(weights(model), tiny_segmenter().state_dict())


def test_other_trained_parameters_are_refused(path):
    model = tiny_segmenter(crf=True)
    optimizer = SGD(model.network.parameters())
    with pytest.raises(InputError, match="another set of parameters was trained"):
        restore(path, read_checkpoint(path), model, optimizer)


def test_what_was_begun_on_a_cpu_goes_on_on_a_gpu(path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: state.clone())  # None has no clone
    torch.manual_seed(3)
    state = random_state(CPU)
    expected = float(torch.rand(()))
    set_random_state(state, torch.device("cuda"))
    assert float(torch.rand(())) == expected


def test_every_random_generator_goes_on(path):
    model = tiny_segmenter(crf=True)
    random.seed(3), np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    save_checkpoint(path, a_checkpoint(model))
    expected = random.random(), np.random.rand(), float(torch.rand(()))  # noqa: NPY002
    random.seed(4), np.random.seed(4), torch.manual_seed(4)  # noqa: NPY002
    set_random_state(read_checkpoint(path)["random"]["0"], CPU)
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected  # noqa: NPY002
