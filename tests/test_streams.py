"""Standard streams that are closed or ASCII; configs that name files or classes, or numbers without end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crfnet.cli import config
from crfnet.cli.main import main
from crfnet.errors import InputError
from crfnet.pipeline.run_config import load_run

ROOT = Path(__file__).parents[1]


def crfnet(tail: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = f"{sys.executable} -m crfnet {tail}"
    return subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("tail", "status"),
    [("config no.yaml 2>&-", 2), ("config a.yaml 1>&-", 0), ("config a.yaml 0<&- 1>&- 2>&-", 0)],
)
def test_closed_streams(tmp_path, tail, status):
    (tmp_path / "a.yaml").write_text("title: a\n")
    done = crfnet(tail, tmp_path)
    assert done.returncode == status
    assert not done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


def test_ascii_stdout(tmp_path):
    (tmp_path / "a.yaml").write_text("title: \u2212 \u00e4\n", encoding="utf-8")
    done = crfnet("config a.yaml", tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert r"\u2212" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("config: other.yaml\n", "unknown key config"),
        ("__path__: other.yaml\n", "unknown key __path__"),
        ("train: other.yaml\n", "train is 'other.yaml', must be keys"),
        ("model: {deeplab_v2: other.yaml}\n", r"model\.deeplab_v2 is 'other.yaml', must be keys"),
        ("crf: {iterations: 1000000000}\n", "iterations is 1000000000, must be >= 0, at most"),
        ("crf: {theta_beta: 1.0e-40}\n", r"theta_beta is 1e-40, must be > 0, from 1e-06"),
        ("crf: {theta_gamma: 1.0e+300}\n", r"theta_gamma is 1e\+300, must be > 0"),
        ("train: {iterations: 10000000000}\n", "must be at most 1000000000"),
        ("search: {w1: [1.0, 2000000.0]}\n", r"search\.w1 is .*, must be numbers > 0, from 1e-06 to 1e\+06"),
        ("search: {rounds: 1000}\n", r"search\.rounds is 1000, must be at most 20"),
    ],
)
def test_refused_in_a_file(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    Path("other.yaml").write_text("seed: 7\nlr: 0.5\n")
    Path("a.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        load_run(Path("a.yaml"))


@pytest.mark.parametrize(
    "words", [["--config", "other.yaml"], ["--train", "other.yaml"], ["--train=other.yaml"]]
)
def test_refused_as_an_option(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    Path("other.yaml").write_text("seed: 7\nlr: 0.5\n")
    with pytest.raises(InputError, match=r"keys|no key"):
        load_run(None, words)
    assert load_run(None, ["--train", "{lr: 0.5}"]).train.lr == 0.5


@pytest.mark.parametrize(
    "text",
    [
        "class_path: evil.Evil",
        "crf: {class_path: evil.Evil}",
        "crf.class_path: evil.Evil",
        "crf: {mean_field: {class_path: evil.Evil, init_args: {}}}",
        "train: {augment: {class_path: evil.Evil}}",
        "own_arms: {a: {class_path: evil.Evil}}",
    ],
)
def test_no_config_names_a_class_to_import(text, tmp_path, monkeypatch):
    """Jsonargparse would import the module, whose code runs then; it may lie beside the config."""
    (tmp_path / "evil.py").write_text("import pathlib\npathlib.Path('ran').touch()\nclass Evil: pass\n")
    (tmp_path / "a.yaml").write_text(f"{text}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"unknown key .*class_path"):
        load_run(Path("a.yaml"))
    section, _, value = text.partition(": ")
    with pytest.raises(InputError, match="class_path"):
        load_run(None, [f"--{section}", value])
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), BlockingIOError(11, "Resource temporarily unavailable")]
)
def test_a_limit_of_processes_is_one_line(error, tmp_path, monkeypatch, capsys):
    def limited(*_: object) -> str:
        raise error

    monkeypatch.setattr(config, "run", limited)
    with pytest.raises(SystemExit) as stop:
        main(["config"])
    assert stop.value.code == 1
    line = capsys.readouterr().err
    assert line.startswith("crfnet: no more processes or threads can be started")
    assert line.count("\n") == 1


@pytest.mark.parametrize(("given", "found"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_torch_sleep_while_they_wait_unless_told_otherwise(given, found):
    program = (
        "import os, sys; import crfnet.cli.main as cli;"
        "cli._run = lambda words: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules);"
        "cli.main([])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [found, "False"]
