"""Killed at any moment and resumed: the weights and the log of a run that nobody disturbed."""

import json
import os
import random
import signal
import threading
import time

import pytest
import torch

from crfnet.checkpoints.checkpoint import read_checkpoint
from crfnet.training import TrainingInterrupted, train
from crfnet.training.stop_signals import StopRequest, stop_requests
from tests.training.conftest import TinyDataset, assert_same, tiny_config, tiny_segmenter, weights
from tests.training.processes import begin, ended, run

STEPS = 40


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def state_of(folder):
    return json.loads((folder / "state.json").read_text())


def train_long(folder, pause: float) -> None:
    """Everything that is drawn, written and read again; ``pause`` seconds an image."""

    class Slow(TinyDataset):
        def __getitem__(self, index):
            time.sleep(pause)
            return super().__getitem__(index)

    config = tiny_config(
        iterations=STEPS, checkpoint_every=3, validate_every=5, picture_every=7, loss="image"
    )
    model, images = tiny_segmenter(crf=True), TinyDataset()
    train(model, Slow(), config, folder, seed=5, resume=True, validation=images)


def seconds_of_a_run(folder) -> float:
    started = time.monotonic()
    run(1, folder, train_long, folder, 0.0)
    return time.monotonic() - started


def kill_and_go_on(tmp_path, kills: int) -> None:
    """Kills within the time that a whole run takes, start and end included."""
    run(1, tmp_path, train_long, tmp_path / "warm", 0.0)  # the server of processes imports for the first
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    longest = seconds_of_a_run(whole)
    draw = random.Random(kills)
    steps = []
    for _ in range(kills):
        (process,) = begin(1, tmp_path, train_long, parts, 0.0)
        time.sleep(draw.uniform(0, longest))
        process.kill()
        assert ended([process]) in ([-signal.SIGKILL], [0])
        steps.append(
            read_checkpoint(parts / "checkpoint.pt")["step"]
            if parts.joinpath("checkpoint.pt").exists()
            else 0
        )
        if steps[-1] == STEPS:  # finished: the next kill meets a new run
            assert_like(parts, whole)
            parts.rename(tmp_path / f"finished{len(steps)}")
    run(1, tmp_path, train_long, parts, 0.0)
    assert_like(parts, whole)
    assert steps, "no kill met a run that had begun"


def assert_like(parts, whole) -> None:
    for name in ("checkpoint.pt", "best.pt"):
        found, expected = (read_checkpoint(folder / name) for folder in (parts, whole))
        assert_same(found["model"], expected["model"])
        assert found["step"] == expected["step"]
    assert [line["step"] for line in log_of(parts)] == list(range(1, STEPS + 1))
    assert log_of(parts) == log_of(whole)
    assert [path.name for path in parts.glob(".*")] == [".crfnet"]
    assert state_of(parts)["state"] == "finished"


def test_three_kills(tmp_path):
    kill_and_go_on(tmp_path, 3)


@pytest.mark.slow
def test_twenty_kills(tmp_path):
    kill_and_go_on(tmp_path, 20)


def begun(folder) -> None:
    deadline = time.monotonic() + 60
    while not (folder / "log.jsonl").exists() or len(log_of(folder)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_behind_the_step_with_a_checkpoint(tmp_path, number):
    class Asks(TinyDataset):
        """The signal comes while the third batch is read."""

        def __getitem__(self, index):
            if self.asked == 5:
                os.kill(os.getpid(), number)
            return super().__getitem__(index)

    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    config = tiny_config()
    message = f"interrupted by {number.name} after iteration 3 of 10, with a checkpoint; .* --resume goes on"
    with pytest.raises(TrainingInterrupted, match=message) as caught:
        train(tiny_segmenter(), Asks(), config, tmp_path / "parts", seed=0)
    assert caught.value.status == 128 + number
    assert isinstance(caught.value, KeyboardInterrupt)
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
    assert read_checkpoint(tmp_path / "parts/checkpoint.pt")["step"] == 3
    state = state_of(tmp_path / "parts")
    assert (state["state"], state["step"], state["message"]) == ("interrupted", 3, str(caught.value))
    assert state["pid"] == os.getpid()

    resumed, whole = tiny_segmenter(), tiny_segmenter()
    train(resumed, TinyDataset(), config, tmp_path / "parts", seed=0, resume=True)
    train(whole, TinyDataset(), config, tmp_path / "whole", seed=0)
    assert_same(weights(resumed), weights(whole))
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")


def test_a_signal_in_the_last_step_is_too_late(tmp_path):
    class Asks(TinyDataset):
        def __getitem__(self, index):
            if self.asked == 19:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__getitem__(index)

    train(tiny_segmenter(), Asks(), tiny_config(), tmp_path, seed=0)
    assert state_of(tmp_path)["state"] == "finished"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_second_signal_kills_at_once(tmp_path, workers):
    (process,) = begin(1, tmp_path, train_stuck, tmp_path / "run", workers)
    begun(tmp_path / "run")
    process.terminate()
    time.sleep(0.3)
    assert process.is_alive()  # it waits for the end of a step that does not come
    process.terminate()
    assert ended([process], 20) == [-signal.SIGTERM]
    assert state_of(tmp_path / "run")["state"] == "running"


def train_stuck(folder, workers: int) -> None:
    class Stuck(TinyDataset):
        def __getitem__(self, index):
            if (folder / "log.jsonl").exists() and len(log_of(folder)) >= 2:
                time.sleep(5 if workers else 60)
            return super().__getitem__(index)

    train(tiny_segmenter(), Stuck(), tiny_config(workers=workers), folder, seed=0)


def train_with_workers(folder) -> None:
    class Slow(TinyDataset):
        def __getitem__(self, index):
            time.sleep(0.02)
            return super().__getitem__(index)

    os.setpgrp()
    train(tiny_segmenter(), Slow(), tiny_config(iterations=500, workers=2), folder, seed=0)


def test_ctrl_c_in_the_terminal_reaches_the_workers_too(tmp_path):
    (process,) = begin(1, tmp_path, train_with_workers, tmp_path / "run")
    begun(tmp_path / "run")
    os.killpg(process.pid, signal.SIGINT)
    assert ended([process], 30) == [1]
    assert state_of(tmp_path / "run")["state"] == "interrupted"
    said = (tmp_path / "0.txt").read_text()
    assert said.count("Traceback") == said.count("TrainingInterrupted: ") == 1


def test_torchrun_passes_on_what_the_terminal_has_sent(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with stop_requests() as request:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert request.signal == signal.SIGTERM


def test_no_signals_outside_the_main_thread(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with stop_requests() as request:
            seen.append((isinstance(request, StopRequest), signal.getsignal(signal.SIGTERM) is before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(True, True)]


def test_twice_the_same_with_any_number_of_workers(tmp_path):
    found = []
    for name, workers in (("a", 0), ("b", 0), ("c", 2)):
        model = tiny_segmenter(crf=True)
        config = tiny_config(iterations=6, workers=workers, loss="image")
        train(model, TinyDataset(), config, tmp_path / name, seed=5)
        found.append(weights(model))
        torch.manual_seed(workers + 17)
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])
