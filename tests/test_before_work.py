"""What a late stage of a comparison would refuse is refused when it starts; errors of ours are one line."""

import dataclasses
import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from crfnet.crf import DenseCRF
from crfnet.data import load_dataset
from crfnet.errors import InputError, is_out_of_memory, is_refusal, require
from crfnet.labels import write_label_png
from crfnet.models import build_network
from crfnet.pipeline.build import build_run_segmenter
from crfnet.pipeline.run_config import load_run
from crfnet.training import rehearse_step
from crfnet.training.train_step import TrainStep
from tests.models.configs import model_config
from tests.multiprocess import ended, said, start
from tests.test_cli import CONFIG, config, refused, voc_folder

__all__ = ["config", "refused"]

POOLED = ["--model.variant", "deeplab_v3"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--joint.loss", "stride", "--joint.unary_loss", "0"], "joint.loss is 'stride', must be image"),
        (POOLED, "joint.batch_size is 1, which leaves 1 image for each process and part"),
        (["--joint.class_weights", "[1, 2]"], "joint.class_weights is [1.0, 2.0], must be balanced or 6"),
        (["--joint.validate_every", "1", "--joint.early_stop", "1"], "joint.early_stop is 1, must be 0"),
        (["--search.storage", "sqlite:////nowhere/of/that/name.db"], "/nowhere/of/that/name.db"),
        (["--search.storage", "nonsense"], "not a database URL"),
        (["--crf.filter", "exact", "--crf.exact.eps", "2"], "crf.exact"),
    ],
)
def test_compare_refuses_late_stages_at_once(arguments, part, config, tmp_path, refused):
    assert part in refused("compare", config, *arguments)
    assert not (tmp_path / "out").exists()


def test_compare_refuses_images_that_no_trimap_is_in(config, tmp_path, refused):
    """The masks have no void: the search's criterion would be undefined, after the first training."""
    root = voc_folder(tmp_path / "voc")
    data = ["--data.name", "voc", "--data.root", root, "--search.images", "1"]
    line = refused("compare", config, *data, "--search.criterion", "trimap")
    assert "search.criterion is 'trimap', but no pixel of the images is inside it" in line
    assert not (tmp_path / "out").exists()


def test_compare_tries_a_step_of_every_training(config, tmp_path, refused, monkeypatch):
    """The joint stage's comes after hours of the first one and a search."""
    tried = []

    def backward(self: DenseCRF, *arguments: object) -> None:
        tried.append(arguments)
        raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(DenseCRF, "forward", backward)
    line = refused("compare", config)
    assert "joint.batch_size leaves 1 image for a step on cpu, which must fit into its memory" in line
    assert tried
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
    ],
)
def test_whatever_says_that_memory_ran_out(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("a shape"), RuntimeError("a\nout of memory"), OSError("a disk")]
)
def test_other_errors_are_no_lack_of_memory(error):
    assert not is_out_of_memory(error)


def test_a_step_is_tried_and_forgotten(config, monkeypatch):
    """Of two images on a CPU; what it draws at random, nothing else misses."""
    run = load_run(config)
    train_set = load_dataset(run.data, "train")
    model = build_run_segmenter(run, train_set.num_classes, None, run.crf)
    before = {name: value.clone() for name, value in model.named_parameters()}
    state = torch.random.get_rng_state()
    steps = []
    monkeypatch.setattr(TrainStep, "__call__", recorded(TrainStep.__call__, steps))
    several = dataclasses.replace(run.joint, batch_size=6, accumulate=2, crf_warmup=1, workers=1)
    rehearse_step(model, train_set, several, seed=0)
    assert steps == [(2, 3, 32, 40)]
    assert torch.equal(torch.random.get_rng_state(), state)
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert {"crf", "network"} <= {name.partition(".")[0] for name in changed}  # and its backward pass works


def recorded(call, steps):
    """A method that notes the shape of its images as well."""

    def also(self, step, batch, stop):
        steps.append(tuple(batch.image.shape))
        return call(self, step, batch, stop)

    return also


@pytest.mark.parametrize("command", ["compare", "evaluate"])
def test_the_report_is_tried_before_the_work(command, config, tmp_path, refused, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crfnet.pipeline.rehearse_report.write_report", full)
    (tmp_path / "predictions").mkdir()
    val = load_dataset(load_run(config).data, "val")
    for sample in val:
        write_label_png(tmp_path / f"predictions/{sample.id}.png", sample.labels % 255, val.palette)
    more = ["--predictions", tmp_path / "predictions"] if command == "evaluate" else []
    line = refused(command, config, *more)
    assert "the report of toy cannot be written (No space left on device)" in line
    assert not (tmp_path / "out").exists()


def test_compare_refuses_late_stages_in_two_processes(config, tmp_path):
    command = ["compare", config, *POOLED, "--train.batch_size", "4", "--joint.batch_size", "2"]
    assert ended(start(2, tmp_path / "said", command)) == [2, 2]
    (line,) = said(tmp_path / "said")
    assert line.startswith("crfnet: joint.batch_size is 2, which leaves 1 image for each process")
    assert not (tmp_path / "out").exists()


def test_a_value_error_of_ours_is_one_line(config, refused):
    one = {"name": "folders", "root": str(config.parent), "classes": ["alone"]}
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(content | {"data": one}))
    (config.parent / "images/train").mkdir(parents=True)
    (config.parent / "masks/train").mkdir(parents=True)
    (config.parent / "images/train/a.png").write_bytes(b"")
    assert "num_classes" in refused("train", config)


def test_which_errors_are_ours():
    def caught(work) -> bool:
        with pytest.raises(Exception) as found:  # noqa: PT011 - any, that is what is told apart
            work()
        return is_refusal(found.value)

    assert caught(lambda: require("a", 1, False, "2"))
    assert caught(lambda: build_network(model_config(), 1))
    assert not caught(lambda: int("x"))
    assert not caught(lambda: Path("\0").exists() or open("\0"))  # noqa: SIM115, PTH123
    assert not caught(lambda: {}["x"])
    assert is_refusal(InputError("x"))


def test_names_that_only_a_mapping_can_hide(tmp_path):
    """YAML reads ``no`` as a boolean in a key, too; without the tests' type checks, as users run it."""
    path = tmp_path / "run.yaml"
    path.write_text("data: {name: folders, colors: {no: [0, 0, 0], yes: [1, 1, 1]}}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "crfnet", "data", "check", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "put names in quotes" in ended.stderr
    assert ended.stderr.count("\n") == 1


assert CONFIG["joint"]["batch_size"] == 1  # what the second case above needs
