"""``crfnet train`` as a program: its exit status, its one line, and what it leaves."""

import json
import time
from pathlib import Path

import pytest
import torch
import yaml

from crfnet.checkpoints.checkpoint import read_checkpoint
from crfnet.cli.main import main
from tests.multiprocess import ended, said, start
from tests.test_cli import CONFIG


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "run.yaml"
    train = {**CONFIG["train"], "iterations": 5000, "validate_every": 2, "validate_images": 1}
    path.write_text(yaml.safe_dump({**CONFIG, "train": train, "device": "cpu"}))
    return path


def begun(folder, lines: int) -> None:
    deadline = time.monotonic() + 120
    log = folder / "log.jsonl"
    while not log.exists() or log.read_text().count("\n") < lines:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("ranks", [1, 2])
def test_sigterm_ends_behind_a_step_with_a_checkpoint(config, tmp_path, ranks):
    run = tmp_path / "out/unary/train"
    processes = start(ranks, tmp_path / "said", ["train", config, "--output", tmp_path / "out"])
    begun(run, 3)
    for process in processes:
        process.terminate()
    assert ended(processes, 60) == [143] * ranks
    state = json.loads((run / "state.json").read_text())
    assert state["state"] == "interrupted"
    # The line of a step whose validation was due is written with it, by the run that goes on.
    pending = bool(read_checkpoint(run / "checkpoint.pt")["pending_validation"])
    assert steps(run) == list(range(1, state["step"] + 1 - pending))
    assert said(tmp_path / "said") == [f"crfnet: {state['message']}"]
    assert "--resume" in state["message"]
    assert {path.name for path in run.iterdir()} == {
        ".crfnet",
        "best.pt",
        "checkpoint.pt",
        "config.yaml",
        "digests.json",
        "log.jsonl",
        "run.json",
        "state.json",
        "tensorboard",
    }

    # The same command goes on; killed again, it leaves what says so.
    resume = ["train", config, "--output", tmp_path / "out", "--resume"]
    processes = start(ranks, tmp_path / "again", resume)
    begun(run, state["step"] + 2)
    for process in processes:
        process.kill()
    ended(processes, 60)
    assert json.loads((run / "state.json").read_text())["state"] == "running"
    assert steps(run) == list(range(1, len(steps(run)) + 1))
    assert len(steps(run)) >= state["step"] + 2


@pytest.mark.parametrize("stage", ["unary", "joint"])
def test_a_run_killed_before_its_first_checkpoint_needs_its_start_again(config, tmp_path, stage, capsys):
    out, short = tmp_path / "out", ["--train.iterations", "2", "--joint.iterations", "2"]
    main(["train", str(config), "--output", str(tmp_path / "start"), *short])
    start = ["--checkpoint", str(tmp_path / "start/unary/train/checkpoint.pt")]
    command = ["train", str(config), "--output", str(out), "--stage", stage, *short]
    main([*command, *start])
    finished = read_checkpoint(out / stage / "train/checkpoint.pt")["model"]
    (out / stage / "train/checkpoint.pt").unlink()
    with pytest.raises(SystemExit) as stop:
        main([*command, "--resume"])
    assert stop.value.code == 2
    assert "--checkpoint" in capsys.readouterr().err
    main([*command, *start, "--resume"])
    main([*command, "--resume"])  # which has its own now
    again = read_checkpoint(out / stage / "train/checkpoint.pt")["model"]
    assert all(torch.equal(again[name], value) for name, value in finished.items())


def test_what_ends_training_is_one_line_from_all_processes(config, tmp_path):
    command = ["train", config, "--output", tmp_path / "out"]
    assert ended(start(2, tmp_path / "share", [*command, "--train.batch_size", 3])) == [2, 2]
    (line,) = said(tmp_path / "share")
    assert line == ("crfnet: batch_size is 3, must be a multiple of 2: 2 processes, accumulate 1")
    assert not (tmp_path / "out").exists()

    assert ended(start(2, tmp_path / "diverged", [*command, "--train.lr", "1e30"])) == [1, 1]
    (line,) = said(tmp_path / "diverged")
    assert line.startswith("crfnet: training diverged: ")
    assert "Traceback" not in "".join(path.read_text() for path in (tmp_path / "diverged").glob("*.err"))


def test_a_folder_that_cannot_be_written_is_one_line(config, tmp_path):
    (tmp_path / "out").write_text("mine")
    processes = start(1, tmp_path / "said", ["train", config, "--output", tmp_path / "out"])
    assert ended(processes) == [2]
    (line,) = said(tmp_path / "said")
    assert str(tmp_path / "out") in line
