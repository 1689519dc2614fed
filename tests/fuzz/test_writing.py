"""Where nothing can be written: status 2 before the work, status 1 in its middle, as a full disk is."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from crfnet.score_cache import ScoreFolder
from tests.fuzz.harness import accepted, refused
from tests.fuzz.world import World, remove

#: What is written, by the option or key that says where.
WRITERS = {
    "train": lambda world: ["train", world.config],
    "scores": lambda world: ["scores", world.config, "--checkpoint", world.root / "checkpoint.pt"],
    "search": lambda world: ["search", world.config, "--scores", world.root / "scores"],
    "evaluate": lambda world: ["evaluate", world.config, "--predictions", world.root / "predictions"],
    "predict": lambda world: [
        "predict", world.config, "--checkpoint", world.root / "checkpoint.pt", "--split", "val",
    ],
    "import": lambda world: ["import", world.root / "checkpoint.pt"],
    "convert-scores": lambda world: ["convert-scores", world.root / "foreign/npy"],
    "data": lambda world: ["data", "check", world.config, "--workers", 0],
    "compare": lambda world: ["compare", world.config],
    "demo": lambda world: ["demo"],
    "report": lambda world: ["report", world.root / "evaluation"],
    "folders": lambda world: [
        "evaluate", "--predictions", world.root / "predictions", "--labels", world.root / "predictions",
        "--num-classes", 21,
    ],
}  # fmt: skip
#: Those for which a disk is filled by hand; a process of its own takes seconds.
FULL = ("search", "evaluate", "predict", "import", "convert-scores", "data")
OPTIONS = {"import": "--out", "convert-scores": "--to"}


def told_where(world: World, name: str, place: Path) -> list[object]:
    return [
        *WRITERS[name](world),
        OPTIONS.get(name, "--output"),
        place / "w.pt" if name == "import" else place,
    ]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("obstacle", ["file", "file above", "long", "loop", "link", "locked"])
def test_no_place_to_write(world, name, obstacle, monkeypatch):
    """One line that names the place, and no work before it."""
    world.out.mkdir()
    (world.out / "file").write_text("years of work")
    (world.out / "loop").symlink_to("loop")
    (world.out / "link").symlink_to("nothing")
    (world.out / "locked").mkdir()  # also to root, who may write everywhere but on a read-only disk
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path) and access(path, mode))
    place = {
        "file": world.out / "file",
        "file above": world.out / "file/below",
        "long": world.out / ("x" * 300),
        "loop": world.out / "loop/below",
        "link": world.out / "link",
        "locked": world.out / "locked/below",
    }[obstacle]
    refused(world, told_where(world, name, place), "out/file", "out/xxx", f"out/{obstacle}")
    assert (world.out / "file").read_text() == "years of work"


@pytest.mark.parametrize("name", ["scores", *(pytest.param(name, marks=pytest.mark.slow) for name in FULL)])
def test_a_full_disk(world, name, tmp_path):
    """The disk is full after so many bytes of a file: one line, and what is there is whole."""
    limits = {"scores": 300, "search": 20_000, "evaluate": 3000, "predict": 700, "import": 50_000}
    command = told_where(world, name, tmp_path / "written")
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
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "large" in lines[0] or "full" in lines[0], lines[0]
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("stage.json"))
    goes_on(world, name, tmp_path / "written")


def goes_on(world: World, name: str, place: Path) -> None:
    """With room again, the same command does the rest."""
    more = {"search": ["--resume"], "evaluate": ["--overwrite"]}.get(name, [])
    accepted(world, [*told_where(world, name, place), *more])
    if name in ("scores", "convert-scores"):
        folder = ScoreFolder(place / "scores" if name == "scores" else place)
        assert all(folder.stored_logits(id_).isfinite().all() for id_ in ("a", "b", "c"))


def test_images_behind_options_are_images(world):
    root = world.root
    command = ["predict", world.config, "--checkpoint", root / "checkpoint.pt"]
    images = [root / "voc/JPEGImages/a.jpg", root / "voc/JPEGImages/b.png"]
    accepted(world, [*command, *images])
    assert (world.out / "predictions/b.png").is_file()
    remove(world.out)
    assert "--nothing" in refused(world, [*command, images[0], "--nothing"], "--nothing")
    assert "unrecognized" in refused(world, ["report", root / "evaluation", "--more", "x"], "--more")
