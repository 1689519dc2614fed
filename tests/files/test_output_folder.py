"""What crfnet removes from folders, what it never removes, and who may write there at a time."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from crfnet.cli import COMMANDS
from crfnet.cli.main import main
from crfnet.cli.parser import Parser
from crfnet.cli.shared import _OUTPUTS
from crfnet.errors import InputError
from crfnet.files import (
    RECORD,
    lock_folder,
    record_file,
    recorded_files,
    recording,
    remove_recorded_files,
    write_atomically,
    writing,
)
from crfnet.pipeline.run_config import Run
from crfnet.pipeline.run_folder import open_run
from crfnet.score_cache import write_scores
from crfnet.score_cache.converters import convert_scores
from crfnet.search.result_files import OUTPUT_FILES
from crfnet.search.search import _existing_outputs as existing_outputs


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused; returns its one line."""

    def run(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        assert stop.value.code == 2
        (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("crfnet: ")]
        return line

    return run


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def everything(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and RECORD not in path.parts)
    return {path: path.read_bytes() for path in files}


def test_what_was_written_is_removed_and_nothing_else(tmp_path):
    run, outside = tmp_path / "run", tmp_path / "outside.txt"
    outside.write_text("mine")
    (run / "kept").mkdir(parents=True)
    for name in ("notes.txt", "kept/a.png", "b.png"):
        (run / name).write_text("mine")
    mine = everything(tmp_path)
    with recording(run):
        write_atomically(run / "report.md", b"ours")
        write_atomically(run / "kept/b.png", b"ours")
        write_atomically(run / "made/deep/c.png", b"ours")
        with recording(run / "inner"):
            write_atomically(run / "inner/d.png", b"ours")
        write_atomically(outside.with_name("elsewhere.txt"), b"of no folder")
    write_atomically(run / "later.txt", b"not while the folder was written")
    mine |= {run / "later.txt": b"not while the folder was written"}
    mine |= {tmp_path / "elsewhere.txt": b"of no folder"}
    names = {path.relative_to(run).as_posix() for path in recorded_files(run)}
    assert names == {"report.md", "kept/b.png", "made/deep/c.png", "inner/.crfnet/files"}
    remove_recorded_files(run)
    assert everything(tmp_path) == mine
    assert not (run / "made").exists()
    assert not (run / "inner").exists()
    assert recorded_files(run) == []


def test_a_list_leads_nowhere_else(tmp_path):
    """A folder of somebody else, whose list names files outside of it, also through a link."""
    precious = tmp_path / "precious/thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    run = tmp_path / "run"
    (run / RECORD).mkdir(parents=True)
    (run / "link").symlink_to(precious.parent)
    names = ["../precious/thesis.txt", str(precious), "link/thesis.txt", "a\0b", "", ["x"], 1]
    lines = [*map(json.dumps, names), "{", "\xff", "[" * 100_000]
    (run / RECORD / "files").write_text("\n".join(lines), encoding="latin-1")
    assert recorded_files(run) == []
    remove_recorded_files(run)
    assert precious.read_text() == "years of work"


def test_a_line_that_a_kill_cut_off_is_the_only_one_lost(tmp_path):
    (tmp_path / RECORD).mkdir()
    (tmp_path / RECORD / "files").write_text('"a"\n"b')
    (tmp_path / "a").touch()
    with recording(tmp_path):
        write_atomically(tmp_path / "c\n\N{SNOWMAN}", b"")
        record_file(tmp_path / "a")
    assert [path.name for path in recorded_files(tmp_path)] == ["a", "c\n\N{SNOWMAN}"]


HOLD = """
import os, sys, time
from pathlib import Path
from crfnet.files import lock_folder
with lock_folder(Path(sys.argv[1]), shared=sys.argv[2] == "shared"):
    if os.fork() == 0:
        time.sleep(60)  # a child that outlives it
        os._exit(0)
    print("locked", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path, how: str) -> Iterator[subprocess.Popen]:
    """A process that has locked a folder, and a child of it; both are killed at the end."""
    command = [sys.executable, "-c", HOLD, str(folder), how]
    pipes = {"stdout": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    with subprocess.Popen(command, start_new_session=True, **pipes) as other:
        assert other.stdout.readline() == "locked\n"
        try:
            yield other
        finally:
            os.killpg(other.pid, signal.SIGKILL)


@pytest.mark.parametrize("how", ["alone", "shared"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_living_process_and_of_a_dead_one(tmp_path, how, end):
    with holder(tmp_path / "run", how) as other:
        with (
            pytest.raises(InputError, match="another crfnet process works in it"),
            lock_folder(tmp_path / "run"),
        ):
            pass
        if how == "shared":
            with lock_folder(tmp_path / "run", shared=True):
                pass
        os.kill(other.pid, end)
        other.wait()
        with lock_folder(tmp_path / "run"):
            pass


def test_a_run_is_neither_joined_nor_overwritten(tmp_path):
    run = Run(output=tmp_path / "run")
    with open_run(run, resume=False, overwrite=False, command="one"):
        before = everything(tmp_path)
        code = f"""
from pathlib import Path
from crfnet.errors import InputError
from crfnet.files import writing
from crfnet.pipeline.run_folder import open_run
from crfnet.pipeline.run_config import Run
for resume, overwrite in ((True, False), (False, True)):
    try:
        with open_run(Run(output=Path({str(run.output)!r})), resume=resume, overwrite=overwrite, command=""):
            print("opened")
    except InputError as error:
        print(error)
"""
        said = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT
        ).stdout.splitlines()
        assert len(said) == 2
        assert all("another crfnet process works in it" in line for line in said)
        assert everything(tmp_path) == before
    with open_run(run, resume=True, overwrite=False, command="two") as facts:
        assert facts["command"] == "one"


def test_a_foreign_folder_is_not_made_ours(tmp_path):
    for there in ("thesis.txt", "run.json", "sub/run.json"):
        folder = tmp_path / there.replace("/", "_")
        (folder / there).parent.mkdir(parents=True)
        (folder / there).write_text("{}")
        for resume, overwrite in ((True, False), (False, True), (True, True)):
            with (
                pytest.raises(InputError, match="not made by crfnet"),
                open_run(Run(output=folder), resume=resume, overwrite=overwrite, command=""),
            ):
                pass
        assert [path.name for path in folder.rglob("*") if path.is_file()] == [Path(there).name]
        assert not (folder / RECORD).exists()


def test_a_run_that_is_overwritten_leaves_what_others_put_there(tmp_path):
    run = Run(output=tmp_path / "run")
    with open_run(run, resume=False, overwrite=False, command="one"):
        write_atomically(run.output / "unary/a.png", b"old")
    (run.output / "unary/mine.png").write_text("mine")
    write_scores(run.output / "scores", [("x", torch.zeros(2, 1, 1))], 2, False, "a test")
    with open_run(run, resume=False, overwrite=True, command="two") as facts:
        assert facts["command"] == "two"
        names = {path.relative_to(run.output).as_posix() for path in everything(run.output)}
        assert names == {"config.yaml", "run.json", "unary/mine.png", "scores/scores.yaml", "scores/x.npz"}


def test_scores_of_others_are_not_overwritten(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 2, 2), np.float32))
    about = {"num_classes": 3, "kind": "logits", "align_corners": False, "source": "mine"}
    (tmp_path / "scores.yaml").write_text(yaml.safe_dump(about))
    before = everything(tmp_path)
    with pytest.raises(InputError, match=r"scores\.yaml: not written by crfnet"):
        write_scores(tmp_path, [], 3, False, "other", overwrite=True)
    assert everything(tmp_path) == before


def test_scores_that_somebody_writes_are_not_overwritten(tmp_path):
    write_scores(tmp_path / "s", [("a", torch.zeros(2, 1, 1))], 2, False, "x")
    with holder(tmp_path / "s", "shared"):
        with pytest.raises(InputError, match="another crfnet process"):
            write_scores(tmp_path / "s", [], 2, False, "y", overwrite=True)
        write_scores(tmp_path / "s", [("b", torch.zeros(2, 1, 1))], 2, False, "x")
    assert {path.name for path in everything(tmp_path / "s")} == {"scores.yaml", "a.npz", "b.npz"}


def test_scores_are_not_converted_into_their_own_folder(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32))
    before = everything(tmp_path)
    for target in (tmp_path, tmp_path / "../" / tmp_path.name):
        for overwrite in (False, True):
            with pytest.raises(InputError, match="another folder"):
                convert_scores(tmp_path, target, overwrite=overwrite)
    assert everything(tmp_path) == before


WRITERS = {
    "train": ("train CONFIG", "unary/train"),
    "scores": ("scores CONFIG --checkpoint CKPT", "scores"),
    "search": ("search CONFIG --scores PATH", "search"),
    "evaluate": ("evaluate CONFIG --scores PATH", "evaluation"),
    "compare": ("compare CONFIG", ""),
    "convert-scores": ("convert-scores SRC --to OUTPUT", ""),
}


def path_options(command: str) -> list[str]:
    """Every option of a command that names what it reads: ``--crf``, ... or the metavar of a positional."""
    parser = Parser(prog="test")
    choices = parser.add_subparsers(dest="command")
    COMMANDS[command].add_parser(choices)
    actions = choices.choices[command]._actions
    read = [each for each in actions if each.type is Path and each.dest not in _OUTPUTS]
    return [each.option_strings[0] if each.option_strings else each.metavar for each in read]


CASES = [(command, option) for command in WRITERS for option in path_options(command)]
CASES.remove(("evaluate", "--labels"))  # of two folders, without CONFIG: below


@pytest.mark.parametrize(("command", "option"), CASES)
def test_what_a_command_reads_is_not_what_it_removes(command, option, tmp_path, refused):
    """Each file or folder that is read, of each command, lies where the command would remove it."""
    line, below = WRITERS[command]
    output = tmp_path / "out"
    folder = output / below
    with recording(folder):
        for name in ("run.json", "scores.yaml", "best.yaml", "input/a.png", "input.yaml"):
            write_atomically(folder / name, b"title: read")
    config = tmp_path / "run.yaml"
    config.write_text(f"output: {output}\n")
    words = line.replace("CONFIG", str(config)).replace("OUTPUT", str(output)).split()
    files = ("CONFIG", "--crf", "--checkpoint", "--exclude")
    given = folder / ("input.yaml" if option in files else "input")
    if option.startswith("--"):
        if option in ("--predictions", "--checkpoint") and command == "evaluate":
            words = [word for word in words if word not in ("--scores", "PATH")]
        if option in words:
            del words[words.index(option) : words.index(option) + 2]
        words += [option, str(given)]
    else:
        words[1] = str(given)
    words = [*words, "--overwrite"]
    if command != "convert-scores":
        words += ["--output", str(output)]
    before = everything(tmp_path)
    said = refused(*[tmp_path / word if word in ("CKPT", "PATH", "SRC") else word for word in words])
    assert "outside of what is removed from" in said
    assert str(given) in said
    assert everything(tmp_path) == before


@pytest.mark.parametrize("inside", ["--predictions", "--labels"])
def test_label_maps_in_the_folder_of_their_evaluation(inside, tmp_path, refused):
    out = tmp_path / "out"
    with recording(out):
        for name in ("run.json", "maps/a.png"):
            write_atomically(out / name, b"{}")
    folders = {"--predictions": tmp_path / "p", "--labels": tmp_path / "l", inside: out / "maps"}
    given = [each for pair in folders.items() for each in pair]
    said = refused("evaluate", *given, "--num-classes", "2", "--output", out, "--overwrite")
    assert f"{inside} is '{out}/maps', must be outside of what is removed" in said
    assert (out / "maps/a.png").exists()


def test_data_inside_the_output_folder(tmp_path, refused):
    """A path of the configuration: the data set in the folder of a run that wrote it."""
    with recording(tmp_path / "out"):
        write_atomically(tmp_path / "out/run.json", b"{}")
        write_atomically(tmp_path / "out/data/train.txt", b"a")
    (tmp_path / "run.yaml").write_text(
        f"output: {tmp_path}/out\ndata: {{name: voc, root: {tmp_path}/out/data}}"
    )
    assert "data.root" in refused("compare", tmp_path / "run.yaml", "--overwrite")
    assert (tmp_path / "out/data/train.txt").read_text() == "a"


def test_single_files_are_not_replaced_by_what_is_made_of_them(tmp_path, refused):
    weights, config = tmp_path / "w.pt", tmp_path / "w.yaml"
    weights.write_bytes(b"weights")
    config.write_text("title: mine\n")
    before = everything(tmp_path)
    assert "is read" in refused("import", weights, "--out", weights, "--overwrite")
    assert "is read" in refused(
        "import", tmp_path / "x.pt", "--config", config, "--out", weights, "--overwrite"
    )
    assert "not written by crfnet import" in refused(
        "import", tmp_path / "x.pt", "--out", weights, "--overwrite"
    )
    assert "is read" in refused("data", "check", config, "--output", config, "--overwrite")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("there", ["q.png", "q_overlay.png"])
def test_predict_leaves_pictures_that_it_did_not_write(there, tmp_path, refused, monkeypatch):
    photo = tmp_path / "q.png"
    Image.new("RGB", (8, 8)).save(photo)
    mine = tmp_path / "out/predictions" / there
    mine.parent.mkdir(parents=True)
    mine.write_text("drawn by hand")
    (tmp_path / "run.yaml").write_text(f"output: {tmp_path}/out\n")
    command = ["predict", tmp_path / "run.yaml", "--checkpoint", "none.pt", photo]
    assert "exists already" in refused(*command)
    assert "not written by crfnet" in refused(*command, "--overwrite")
    assert mine.read_text() == "drawn by hand"


def test_predict_does_not_write_over_what_it_reads_or_wrote(tmp_path, refused):
    """An image among the predictions; and two images whose files would have one name."""
    for name in ("q", "q_overlay"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    inside = tmp_path / "out/predictions/p.png"
    inside.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(inside)
    before = everything(tmp_path)
    (tmp_path / "run.yaml").write_text(f"output: {tmp_path}/out\n")
    command = ["predict", tmp_path / "run.yaml", "--checkpoint", "none.pt", "--overwrite"]
    said = refused(*command, tmp_path / "q.png", tmp_path / "q_overlay.png")
    assert "q_overlay.png, and replace each other" in said
    assert "is read" in refused(*command, inside)
    assert everything(tmp_path).items() >= before.items()


def test_two_prepare_one_score_folder(tmp_path):
    """Many processes at the same moment, as those of two searches at one storage."""
    code = f"""
import sys, time, torch
from pathlib import Path
from crfnet.score_cache import write_scores
time.sleep(max(0, float(sys.argv[1]) - time.time()))
write_scores(Path({str(tmp_path / "s")!r}), [("a", torch.zeros(2, 1, 1))], 2, False, "x")
"""
    at = str(time.time() + 12)
    command = [sys.executable, "-c", code, at]
    several = [subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE) for _ in range(4)]
    assert [(each.communicate()[1], each.returncode) for each in several] == [(b"", 0)] * 4


@pytest.mark.parametrize("writes", range(7))
def test_a_kill_while_a_run_begins_leaves_a_folder_that_goes_on(writes, tmp_path, monkeypatch):
    """After any number of its first writes: to the list of files, and of files."""
    run = Run(output=tmp_path / "run")
    done = []

    def killed(*_):
        done.append(1)
        if len(done) > writes:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        for name in ("record_file", "os.fsync"):
            real = writing.record_file if name == "record_file" else os.fsync
            target = (writing, "record_file") if name == "record_file" else (writing.os, "fsync")
            patch.setattr(*target, lambda *given, real=real: (killed(), real(*given)))
        with pytest.raises(KeyboardInterrupt), open_run(run, **BEGIN, digests={"images": "1"}):
            raise KeyboardInterrupt
    with open_run(run, **(BEGIN | {"resume": True}), digests={"images": "1"}):
        pass
    assert {path.name for path in everything(run.output)} == {"run.json", "config.yaml", "digests.json"}


BEGIN = {"resume": False, "overwrite": False, "command": "one"}


@pytest.mark.parametrize("name", OUTPUT_FILES)
def test_a_search_leaves_the_files_of_others(name, tmp_path):
    (tmp_path / name).write_text("mine")
    for storage in (True, False):
        with pytest.raises(InputError, match=f"{name}: not written by crfnet"):
            existing_outputs(tmp_path, storage, resume=False, overwrite=True)
    if name != "study.db":  # from elsewhere, it may be resumed
        with pytest.raises(InputError, match=f"{name}: not written by crfnet"):
            existing_outputs(tmp_path, False, resume=True, overwrite=False)
