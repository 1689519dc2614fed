"""Several processes at one command: the files of one, one voice, one exit status; killed and begun again."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml

from crfnet.cli.main import main
from tests.multiprocess import ended, run, said, start
from tests.test_cli import CONFIG, label_folders

TIMES = ("second", "memory", "load")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with ``run.yaml``, a network ``unary.pt`` and a CRF ``best.yaml``."""
    root = tmp_path_factory.mktemp("trained")
    (root / "run.yaml").write_text(yaml.safe_dump(CONFIG))
    run(1, root / "said", ["train", root / "run.yaml", "--output", root / "out"])
    shutil.copy(root / "out/unary/train/checkpoint.pt", root / "unary.pt")
    (root / "best.yaml").write_text(
        "crf: {w1: 5, theta_alpha: 20, theta_beta: 10, iterations: 2, permutohedral: {rows: 16}}"
    )
    return root


@pytest.fixture(scope="module")
def whole(trained) -> Path:
    """What one process writes that nobody disturbs."""
    run(1, trained / "said", scores(trained, trained / "whole"), evaluation(trained, trained / "whole"))
    return trained / "whole"


def scores(trained: Path, output: Path) -> list[object]:
    return ["scores", trained / "run.yaml", "--checkpoint", trained / "unary.pt", "--output", output]


def evaluation(trained: Path, output: Path, *more: object) -> list[object]:
    source = ["--checkpoint", trained / "unary.pt", "--crf", trained / "best.yaml"]
    return ["evaluate", trained / "run.yaml", *source, "--output", output, *more]


def files(folder: Path) -> dict[str, object]:
    """What ended in a folder, without what tells of times, paths and machines."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "scores.csv":
            found[name] = [
                line for line in path.read_text().splitlines() if not any(t in line for t in TIMES)
            ]
        elif path.parent.name == "costs":
            continue
        elif path.suffix in (".npz", ".csv", ".png") or path.name in ("scores.yaml", "best.yaml"):
            found[name] = path.read_bytes()
    return found


def test_two_processes_end_in_the_files_of_one(trained, whole, tmp_path):
    run(2, tmp_path / "said", scores(trained, tmp_path / "out"), evaluation(trained, tmp_path / "out"))
    assert files(tmp_path / "out") == files(whole)
    assert {"scores/val_00004.npz", "evaluation/posthoc/evaluation.npz"} <= set(files(whole))
    assert (tmp_path / "said/0.out").read_text().count("report: ") == 1
    assert "unary: " in (tmp_path / "said/0.err").read_text()  # the bar
    assert (tmp_path / "said/1.out").read_text() == (tmp_path / "said/1.err").read_text() == ""


def test_two_processes_score_two_folders(tmp_path):
    command = ["evaluate", *label_folders(tmp_path), "--evaluation.draws", "20", "--output"]
    for ranks in (1, 2):
        run(ranks, tmp_path / "said", [*command, tmp_path / str(ranks)])
    assert files(tmp_path / "1") == files(tmp_path / "2")
    assert (tmp_path / "2/per_image.csv").read_text().count("\n") == 4


def test_compare_gives_the_same_numbers_in_two_processes(trained, tmp_path):
    """One process does all of it; two search, score and report again, with the same checkpoints."""
    out = tmp_path / "out"
    command = ["compare", trained / "run.yaml", "--output", out, "--joint.batch_size", "2"]
    run(1, tmp_path / "said", command)
    one = files(out)
    for arm in out.iterdir():
        for stage in ("search", "predictions"):
            shutil.rmtree(arm / stage, ignore_errors=True)
    run(2, tmp_path / "said", [*command, "--resume"])
    two = files(out)
    tables = {name for name in one if name.endswith("table.csv")}  # with seconds
    assert len(tables) == 2
    assert {name: one[name] for name in one.keys() - tables} == {
        name: two[name] for name in two.keys() - tables
    }


def test_what_one_process_cannot_use_ends_both(tmp_path):
    folders = label_folders(tmp_path)
    (tmp_path / "predictions/im1.png").write_bytes(b"no picture")  # the only image of rank 1
    processes = start(2, tmp_path / "said", ["evaluate", *folders, "--output", tmp_path / "out"])
    assert ended(processes) == [2, 2]
    (line,) = said(tmp_path / "said")
    assert "predictions/im1.png: " in line
    assert not (tmp_path / "out").exists()


def fail_alone() -> None:
    """Rank 1 refuses what the other accepts, which is soon waiting for it."""
    from crfnet.cli import scores
    from crfnet.distributed import all_gather, rank
    from crfnet.errors import InputError

    def command(*_: object) -> str:
        if rank() == 1:
            raise InputError("root: is not there on this machine")
        return str(all_gather(rank()))

    scores.run = command


def test_a_process_that_fails_alone_tells_the_other(trained, tmp_path):
    command = ["scores", trained / "run.yaml", "--checkpoint", "x.pt"]
    assert ended(start(2, tmp_path, command, patch=fail_alone)) == [2, 2]
    assert said(tmp_path) == ["crfnet: root: is not there on this machine"]
    assert "Traceback" not in (tmp_path / "0.err").read_text()


def slow() -> None:
    """A fifth of a second between two label maps."""
    import crfnet.pipeline.evaluate_arm

    write = crfnet.pipeline.evaluate_arm.write_label_png

    def slowly(*arguments: object) -> None:
        time.sleep(0.2)
        write(*arguments)  # type: ignore[arg-type]

    crfnet.pipeline.evaluate_arm.write_label_png = slowly


def wait_for(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 300
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_among_two_goes_on_alone(trained, whole, tmp_path):
    """Rank 1 is killed among the images of the second arm; then one process ends the work."""
    out = tmp_path / "evaluation"
    processes = start(2, tmp_path / "killed", evaluation(trained, tmp_path), patch=slow)
    wait_for(out / "posthoc", "*.png")
    os.kill(processes[1].pid, signal.SIGKILL)  # type: ignore[arg-type]
    assert ended(processes) == [1, -signal.SIGKILL]
    assert (out / "unary/stage.json").exists()
    assert not (out / "posthoc/stage.json").exists()
    run(1, tmp_path / "said", evaluation(trained, tmp_path, "--resume"))
    assert files(out) == files(whole / "evaluation")


def kill_and_go_on(command: list[object], out: Path, whole: Path, kills: int) -> None:
    """SIGKILL within the time that the whole command takes, start and end included; then to the end."""
    place, draw, met = out.parent / "said", random.Random(3), 0
    started = time.monotonic()
    run(1, place, command)
    longest = time.monotonic() - started
    for _ in range(kills):
        if files(out) == files(whole):
            shutil.rmtree(out)  # the next kill meets a new run
        (process,) = start(1, place, command)
        time.sleep(draw.uniform(0, longest))
        process.kill()
        met += ended([process]) == [-signal.SIGKILL]
    run(1, place, command)
    assert files(out) == files(whole)
    assert not list(out.rglob(".*.tmp"))
    assert met > 0


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_scores_killed_at_any_moment(trained, whole, tmp_path, kills):
    kill_and_go_on(scores(trained, tmp_path), tmp_path / "scores", whole / "scores", kills)


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_evaluate_killed_at_any_moment(trained, whole, tmp_path, kills):
    command = evaluation(trained, tmp_path, "--resume")
    kill_and_go_on(command, tmp_path / "evaluation", whole / "evaluation", kills)


@pytest.mark.parametrize("name", ["scores.yaml", "val_00001.npz"])
def test_what_a_kill_left_half_written(trained, whole, tmp_path, name):
    """In the first file, before the folder has any other; or in a later one."""
    out = tmp_path / "scores"
    out.mkdir()
    if name != "scores.yaml":
        shutil.copy(whole / "scores/scores.yaml", out)
    (process,) = start(1, tmp_path / "said", ["config"])
    assert ended([process]) == [0]
    (out / f".{name}.{process.pid}.tmp").write_text("half")
    (out / f".{name}.{os.getpid()}.tmp").write_text("of a process that lives")
    if name == "scores.yaml":
        (out / f".{name}.{os.getpid()}.tmp").unlink()
    run(1, tmp_path / "said", scores(trained, tmp_path))
    assert files(out) == files(whole / "scores")
    assert len(list(out.glob(".*.tmp"))) == (name != "scores.yaml")


def test_terminated_alone_goes_on_among_two(trained, whole, tmp_path):
    out = tmp_path / "evaluation"
    (process,) = start(1, tmp_path / "said", evaluation(trained, tmp_path), patch=slow)
    wait_for(out / "unary", "*.png")
    process.terminate()
    assert ended([process]) == [143]
    (line,) = said(tmp_path / "said")
    assert "terminated" in line

    another = [*evaluation(trained, tmp_path)[:4], "--output", tmp_path, "--resume"]
    assert ended(start(1, tmp_path / "said", another)) == [2]
    assert "--resume needs the same command" in said(tmp_path / "said")[0]
    run(2, tmp_path / "said", evaluation(trained, tmp_path, "--resume"))
    assert files(out) == files(whole / "evaluation")


def test_sigterm_to_all_is_one_line(trained, tmp_path):
    processes = start(2, tmp_path / "said", evaluation(trained, tmp_path), patch=slow)
    wait_for(tmp_path / "evaluation/unary", "*.png")
    for process in processes:
        process.terminate()
    assert ended(processes) == [143, 143]
    assert len(said(tmp_path / "said")) == 1


@pytest.mark.parametrize("command", ["search", "predict", "demo", "report", "config", "import", "explore"])
def test_what_runs_in_one_process_refuses_several(command, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        with pytest.raises(SystemExit) as stop:
            main([command, "anything"])
        assert stop.value.code == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == (rank == 0)
        assert all(line.startswith(f"crfnet: {command}: 2 processes were started") for line in lines)
