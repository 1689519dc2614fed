"""How a run stands, and what a full disk or a folder that cannot be written does to it."""

import errno
import json
import math
import os
import resource
import subprocess
import sys
import time

import pytest
import torch

from crfnet.checkpoints import checkpoint as checkpoints
from crfnet.checkpoints.checkpoint import read_checkpoint
from crfnet.errors import InputError
from crfnet.segmenter import Segmenter
from crfnet.training import TrainingDivergedError, TrainingFailedError, train
from crfnet.training.run_logger import RunLogger
from tests.training.conftest import (
    TinyDataset,
    TinyNetwork,
    assert_same,
    tiny_config,
    tiny_segmenter,
    weights,
)
from tests.training.processes import begin, ended, run
from tests.training.test_loop import Breaks


def state_of(folder):
    return json.loads((folder / "state.json").read_text())


def hidden(folder):
    return [path for path in folder.rglob("*") if path.name.startswith(".") and path.name != ".crfnet"]


def test_running_then_finished(tmp_path):
    seen = []

    class Watching(TinyDataset):
        def __getitem__(self, index):
            seen.append(state_of(tmp_path))
            return super().__getitem__(index)

    train(tiny_segmenter(), Watching(), tiny_config(checkpoint_every=4), tmp_path, seed=0)
    assert {each["state"] for each in seen} == {"running"}
    assert [each["step"] for each in seen] == [0] * 8 + [4] * 8 + [8] * 4
    done = state_of(tmp_path)
    assert (done["state"], done["step"], done["message"], done["pid"]) == ("finished", 10, "", os.getpid())
    assert 0 <= time.time() - done["time"] < 60


def test_diverged(tmp_path):
    with pytest.raises(TrainingDivergedError) as caught:
        train(Segmenter(Breaks(7, math.nan)), TinyDataset(), tiny_config(), tmp_path, seed=0)
    state = state_of(tmp_path)
    assert (state["state"], state["step"], state["message"]) == ("diverged", 7, str(caught.value))


def test_failed_with_what_went_wrong(tmp_path):
    class Bug(TinyNetwork):
        def forward(self, image):
            raise ZeroDivisionError("by 0\nand more")

    with pytest.raises(ZeroDivisionError):
        train(Segmenter(Bug()), TinyDataset(), tiny_config(), tmp_path, seed=0)
    state = state_of(tmp_path)
    assert (state["state"], state["message"]) == ("failed", "ZeroDivisionError: by 0")


class Gone(TinyDataset):
    def __getitem__(self, index):
        if self.asked == 4:
            raise InputError("b.png: no such file")
        return super().__getitem__(index)


def train_gone(folder, workers: int) -> None:
    train(tiny_segmenter(), Gone(), tiny_config(workers=workers), folder, seed=0)


def test_an_image_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(TrainingFailedError, match=r"^b\.png: no such file$"):
        train_gone(tmp_path, 0)
    assert state_of(tmp_path)["state"] == "failed"


def test_an_image_that_a_worker_misses_is_one_line_and_ends_the_process(tmp_path):
    assert ended(begin(1, tmp_path, train_gone, tmp_path / "run", 1), 60) == [1]
    assert (tmp_path / "0.txt").read_text().endswith("TrainingFailedError: b.png: no such file\n")
    assert state_of(tmp_path / "run")["message"] == "b.png: no such file"


def full(error: int):
    return OSError(error, os.strerror(error))


@pytest.mark.parametrize("place", ["checkpoint", "log"])
def test_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch, place):
    """From the second checkpoint, or the seventh line, on."""
    calls = []

    def failing(real, allowed):
        def call(*arguments, **keywords):
            calls.append(1)
            if len(calls) > allowed:
                raise full(errno.ENOSPC)
            return real(*arguments, **keywords)

        return call

    if place == "checkpoint":
        monkeypatch.setattr(checkpoints.torch, "save", failing(torch.save, 1))
    else:
        monkeypatch.setattr(RunLogger, "log_step", failing(RunLogger.log_step, 6))
    config = tiny_config(checkpoint_every=3)
    with pytest.raises(TrainingFailedError) as caught:
        train(tiny_segmenter(), TinyDataset(), config, tmp_path, seed=0)
    line = str(caught.value)
    assert "\n" not in line
    assert "No space left on device; the last good one is" in line
    assert line.startswith(f"training failed after iteration {6 if place == 'checkpoint' else 7}: {tmp_path}")
    assert state_of(tmp_path)["message"] == line
    assert not hidden(tmp_path)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == (3 if place == "checkpoint" else 6)
    monkeypatch.undo()
    resumed, whole = tiny_segmenter(), tiny_segmenter()
    train(resumed, TinyDataset(), config, tmp_path, seed=0, resume=True)
    train(whole, TinyDataset(), config, tmp_path / "whole", seed=0)
    assert_same(weights(resumed), weights(whole))


class Large(TinyNetwork):
    """A checkpoint of a third of a megabyte."""

    def __init__(self) -> None:
        super().__init__()
        self.more = torch.nn.Parameter(torch.zeros(40_000))

    def forward(self, image):
        return super().forward(image) + self.more.mean()

    def parameter_groups(self):
        groups = super().parameter_groups()
        return {**groups, "backbone_bias": [*groups["backbone_bias"], self.more]}


def outgrow(folder, limit: int, iterations: int) -> None:
    """Trains until no file may be longer than ``limit`` bytes, or there is no room; a checkpoint a step."""
    sys.dont_write_bytecode = True  # or Python would cut it off, too, for everybody after it
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    config = tiny_config(iterations=iterations, checkpoint_every=1)
    with pytest.raises(TrainingFailedError, match=r"File too large|No space left on device") as caught:
        train(Segmenter(Large()), TinyDataset(), config, folder, seed=0, resume=True)
    assert "\n" not in str(caught.value)


def test_a_file_that_may_not_grow(tmp_path):
    run(1, tmp_path, outgrow, tmp_path / "run", 100_000, 4)
    assert "checkpoint.pt: File too large; there is no" in state_of(tmp_path / "run")["message"]
    assert not (tmp_path / "run/checkpoint.pt").exists()
    assert not hidden(tmp_path)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_full(small_disk, tmp_path):
    """Two checkpoints fit beside one another, the log and the curves of 1000 steps do not."""
    (small_disk / "ballast").write_bytes(bytes(300_000))
    run(1, tmp_path, outgrow, small_disk / "run", 10**9, 1000)
    assert not hidden(small_disk)
    step = read_checkpoint(small_disk / "run/checkpoint.pt")["step"]
    lines = (small_disk / "run/log.jsonl").read_text().splitlines()
    assert 0 < step <= len(lines) < 1000
    assert state_of(small_disk / "run")["state"] in ("failed", "running")  # where it does not fit either


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(TrainingFailedError, match=f"{tmp_path}/run.*; there is no checkpoint yet") as caught:
        train(tiny_segmenter(), TinyDataset(), tiny_config(), tmp_path / "run", seed=0)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run").read_text() == "mine"


def test_a_folder_that_is_read_only(small_disk):
    folder = small_disk / "run"
    train(tiny_segmenter(), TinyDataset(), tiny_config(iterations=2), folder, seed=0)
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(TrainingFailedError, match="Read-only file system; the last good one is"):
        train(tiny_segmenter(), TinyDataset(), tiny_config(iterations=2), folder, seed=0, resume=True)
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_what_a_kill_left_is_removed(tmp_path):
    for name in (".checkpoint.pt.tmp", ".state.json.17.tmp"):
        (tmp_path / name).write_text("half")
    train(tiny_segmenter(), TinyDataset(), tiny_config(iterations=1), tmp_path, seed=0)
    assert not hidden(tmp_path)
