"""Where nothing can be written: status 2 before the work, status 1 in its middle, as a full disk is."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from crfnet.score_cache import ScoreFolder
from tests.fuzz.fixture_tree import FixtureTree, remove
from tests.fuzz.harness import accepted, refused

#: What is written, by the option or key that says where.
WRITERS = {
    "train": lambda fixtures: ["train", fixtures.config],
    "scores": lambda fixtures: ["scores", fixtures.config, "--checkpoint", fixtures.root / "checkpoint.pt"],
    "search": lambda fixtures: ["search", fixtures.config, "--scores", fixtures.root / "scores"],
    "evaluate": lambda fixtures: [
        "evaluate", fixtures.config, "--predictions", fixtures.root / "predictions",
    ],
    "predict": lambda fixtures: [
        "predict", fixtures.config, "--checkpoint", fixtures.root / "checkpoint.pt", "--split", "val",
    ],
    "import": lambda fixtures: ["import", fixtures.root / "checkpoint.pt"],
    "convert-scores": lambda fixtures: ["convert-scores", fixtures.root / "foreign/npy"],
    "data": lambda fixtures: ["data", "check", fixtures.config, "--workers", 0],
    "compare": lambda fixtures: ["compare", fixtures.config],
    "demo": lambda fixtures: ["demo"],
    "report": lambda fixtures: ["report", fixtures.root / "evaluation"],
    "folders": lambda fixtures: [
        "evaluate", "--predictions", fixtures.root / "predictions", "--labels", fixtures.root / "predictions",
        "--num-classes", 21,
    ],
}  # fmt: skip
#: Those for which a disk is filled by hand; a process of its own takes seconds.
FULL = ("search", "evaluate", "predict", "import", "convert-scores", "data")
OPTIONS = {"import": "--out", "convert-scores": "--to"}


def told_where(fixtures: FixtureTree, name: str, place: Path) -> list[object]:
    return [
        *WRITERS[name](fixtures),
        OPTIONS.get(name, "--output"),
        place / "w.pt" if name == "import" else place,
    ]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("obstacle", ["file", "file above", "long", "loop", "link", "locked"])
def test_no_place_to_write(fixtures, name, obstacle, monkeypatch):
    """One line that names the place, and no work before it."""
    fixtures.out.mkdir()
    (fixtures.out / "file").write_text("years of work")
    (fixtures.out / "loop").symlink_to("loop")
    (fixtures.out / "link").symlink_to("nothing")
    (fixtures.out / "locked").mkdir()  # also to root, who may write everywhere but on a read-only disk
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path) and access(path, mode))
    place = {
        "file": fixtures.out / "file",
        "file above": fixtures.out / "file/below",
        "long": fixtures.out / ("x" * 300),
        "loop": fixtures.out / "loop/below",
        "link": fixtures.out / "link",
        "locked": fixtures.out / "locked/below",
    }[obstacle]
    refused(fixtures, told_where(fixtures, name, place), "out/file", "out/xxx", f"out/{obstacle}")
    assert (fixtures.out / "file").read_text() == "years of work"


@pytest.mark.parametrize("name", ["scores", *(pytest.param(name, marks=pytest.mark.slow) for name in FULL)])
def test_a_full_disk(fixtures, name, tmp_path):
    """The disk is full after so many bytes of a file: one line, and what is there is whole."""
    limits = {"scores": 300, "search": 20_000, "evaluate": 3000, "predict": 700, "import": 50_000}
    command = told_where(fixtures, name, tmp_path / "written")
    done = subprocess.run(
        # -B: Python would cut off the bytecode that it writes, too, and everybody after it would read that.
        [sys.executable, "-B", "-m", "crfnet", *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limits.get(name, 300),) * 2),
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("crfnet: ")]
    early = name == "evaluate"  # which tries its report before the work
    assert done.returncode == (2 if early else 1), done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "large" in lines[0] or "full" in lines[0], lines[0]
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("stage.json"))
    goes_on(fixtures, name, tmp_path / "written")


def goes_on(fixtures: FixtureTree, name: str, place: Path) -> None:
    """With room again, the same command does the rest."""
    more = {"search": ["--resume"], "evaluate": ["--overwrite"]}.get(name, [])
    accepted(fixtures, [*told_where(fixtures, name, place), *more])
    if name in ("scores", "convert-scores"):
        folder = ScoreFolder(place / "scores" if name == "scores" else place)
        assert all(folder.stored_logits(image_id).isfinite().all() for image_id in ("a", "b", "c"))


def test_images_behind_options_are_images(fixtures):
    root = fixtures.root
    command = ["predict", fixtures.config, "--checkpoint", root / "checkpoint.pt"]
    images = [root / "voc/JPEGImages/a.jpg", root / "voc/JPEGImages/b.png"]
    accepted(fixtures, [*command, *images])
    assert (fixtures.out / "predictions/b.png").is_file()
    remove(fixtures.out)
    assert "--nothing" in refused(fixtures, [*command, images[0], "--nothing"], "--nothing")
    assert "unrecognized" in refused(fixtures, ["report", root / "evaluation", "--more", "x"], "--more")
