"""Kills, limits and bad surroundings of whole commands: a script, and a line for each thing that was tried.

``python -m tests.tries --kills 20`` kills every command so often with each signal, ``--only HOME`` tries what
has that in its name. tests/README.md has what came of it.
"""

import argparse
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
TINY = {
    "device": "cpu",
    "data": {"name": "toy", "toy": {"size": [32, 40], "train": 4, "val": 4}},
    "model": {"backbone": "resnet18", "deeplab_v2": {"head": "large_fov"}, "width": 0.0625},
    "train": {"iterations": 6, "batch_size": 2, "augment": {"crop": [32, 40]}, "checkpoint_every": 2,
              "picture_every": 0},
    "joint": {"iterations": 4, "batch_size": 2, "augment": {"crop": [32, 40]}, "checkpoint_every": 2,
              "picture_every": 0},
    "crf": {"iterations": 2, "train_iterations": 2},
    "search": {"images": 2, "w1": [3, 4], "theta_alpha": [20], "theta_beta": [5], "rounds": 1,
               "iterations": 2},
    "evaluation": {"draws": 5, "max_width": 2},
    "pictures": 1,
}  # fmt: skip
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SECONDS = 300  #: that any command here may take


class Place:
    """A folder with a trained network, scores and a search; `run` runs a command in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
        for words in (
            "train tiny.yaml --output base",
            "scores tiny.yaml --checkpoint base/unary/train/checkpoint.pt --output base",
            "search tiny.yaml --scores base/scores --output base",
        ):
            done = self.run(words)
            assert done.returncode == 0, f"{words}: {done.stderr[-2000:]}"

    def out(self) -> Path:
        """A new output folder."""
        self.number += 1
        return self.folder / f"out{self.number}"

    def start(self, words: str, **environment: str) -> subprocess.Popen[str]:
        """A command that runs."""
        return subprocess.Popen(
            [sys.executable, "-m", "crfnet", *words.split()],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, words: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """A command that is run to its end, behind words of the shell such as ``ulimit -u 50;``."""
        command = f"{shell} exec {sys.executable} -m crfnet {words}"
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )


#: Commands with what to say when they go on; ``{out}`` is their output folder.
COMMANDS = {
    "train": ("train tiny.yaml --output {out}", " --resume"),
    "compare": ("compare tiny.yaml --output {out}", " --resume"),
    "scores": ("scores tiny.yaml --checkpoint base/unary/train/checkpoint.pt --output {out}", ""),
    "evaluate": (
        "evaluate tiny.yaml --scores base/scores --crf base/search/best.yaml --output {out}",
        " --resume",
    ),
    "predict": (
        "predict tiny.yaml --checkpoint base/unary/train/checkpoint.pt --split val --output {out}",
        " --overwrite",
    ),
    "import": ("import base/unary/train/checkpoint.pt --out {out}/w.safetensors", ""),
}


def ending(done: subprocess.CompletedProcess[str]) -> str:
    """The exit status, and the last line where it is not 0."""
    lines = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.strip()]
    if "Traceback" in done.stderr:
        return f"TRACEBACK {lines[-1]:.150}"
    return f"{done.returncode}" + (f" {lines[-1]:.180}" if done.returncode and lines else "")


def kills(place: Place, name: str, number: signal.Signals, count: int) -> str:
    """Kill a command so often at random moments, each time anew, and let it go on to its end."""
    words, more = COMMANDS[name]
    begun = time.monotonic()
    whole = place.run(words.format(out=place.out()))
    seconds, found = time.monotonic() - begun, Counter[str]()
    if whole.returncode:
        return f"without a kill: {ending(whole)}"
    for _ in range(count):
        out = place.out()
        running = place.start(words.format(out=out))
        time.sleep(random.uniform(0.1, 1.0) * seconds)
        running.send_signal(number)
        try:
            _, err = running.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            running.kill()
            return "still there after a minute"
        if "Traceback" in err and number != signal.SIGKILL and "crfnet: " not in err:
            found["traceback at " + err.strip().splitlines()[-1][:80]] += 1
        again = place.run(words.format(out=out) + (more if out.exists() and any(out.iterdir()) else ""))
        left = [*out.rglob("*.tmp")]
        found[
            "went on to the end" if again.returncode == 0 and not left else f"{ending(again)} {left[:1]}"
        ] += 1
        shutil.rmtree(out, ignore_errors=True)
    return ", ".join(f"{number} x {what}" for what, number in found.items())


def surroundings(place: Place) -> Iterator[tuple[str, Callable[[], str]]]:
    """Everything else that is tried, by name."""
    evaluate, _ = COMMANDS["evaluate"]
    train, _ = COMMANDS["train"]

    def once(words: str, shell: str = "", **environment: str) -> Callable[[], str]:
        return lambda: ending(place.run(words.format(out=place.out()), shell, **environment))

    yield "ulimit -u 1 (as another user): search, 2 workers", lambda: few_processes(place)
    yield "HOME that cannot be written: evaluate", once(evaluate, HOME="/proc/nothing")
    yield "HOME unset: train", once(train, shell="unset HOME;")
    yield "TMPDIR that is missing: evaluate", once(evaluate, TMPDIR="/nowhere")
    yield "TMPDIR that is missing: compare", once(COMMANDS["compare"][0], TMPDIR="/nowhere")
    yield "package in a read-only folder, no cache: evaluate", lambda: read_only(place, evaluate)
    yield "a GPU's config on a CPU machine: train", once(train + " --device cuda", CUDA_VISIBLE_DEVICES="")
    yield "storage locked by another process: search", lambda: locked(place)
    yield "two searches racing in one folder", lambda: racing(place)
    yield "val = train: compare", lambda: same_split(place)
    yield "duplicate ids in a list: train", lambda: duplicates(place)
    yield "one class: train", lambda: one_class(place)


def few_processes(place: Place) -> str:
    """Root has no limit of processes: as nobody, where that is possible."""
    words = f"search tiny.yaml --scores base/scores --search.workers 3 --output {place.out()}"
    if os.getuid() == 0 and shutil.which("setpriv"):
        place.folder.chmod(0o777)
        environment = {"HOME": str(place.folder), "NUMBA_CACHE_DIR": str(place.folder / "numba")}
        command = f"ulimit -u 1; exec {sys.executable} -m crfnet {words}"
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bash", "-c", command],
            cwd=place.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True, text=True, check=False, timeout=SECONDS,
        )  # fmt: skip
        return ending(done)
    return ending(place.run(words, "ulimit -u 1;"))


def read_only(place: Place, words: str) -> str:
    """A copy of the package in which nothing can be written, as nobody."""
    copy = place.folder / "installed"
    shutil.copytree(
        ROOT / "crfnet", copy / "crfnet", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    for path in copy.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    copy.chmod(0o555)
    place.folder.chmod(0o777)
    command = ["bash", "-c", f"exec {sys.executable} -m crfnet {words.format(out=place.out())}"]
    if os.getuid() == 0 and shutil.which("setpriv"):
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        command, cwd=place.folder, env={**environment, "PYTHONPATH": str(copy), "HOME": "/proc/nothing"},
        capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    return ending(done)


def locked(place: Place) -> str:
    """Another program holds SQLite's lock for longer than anybody waits."""
    base = sqlite3.connect(place.folder / "locked.db")
    base.execute("CREATE TABLE a (b)")
    base.commit()
    base.execute("BEGIN EXCLUSIVE")
    words = (
        f"search tiny.yaml --scores base/scores --search.storage sqlite:///locked.db --output {place.out()}"
    )
    begun = time.monotonic()
    done = place.run(words)
    base.close()
    return f"{ending(done)} (after {time.monotonic() - begun:.0f} s)"


def racing(place: Place) -> str:
    """Both with --resume, as two machines would: they share the work."""
    words = f"search tiny.yaml --scores base/scores --resume --output {place.out()}"
    both = [place.start(words) for _ in range(2)]
    ends = []
    for each in both:
        out, err = each.communicate(timeout=SECONDS)
        ends.append(ending(subprocess.CompletedProcess(words, each.returncode, out, err)))
    return " and ".join(ends)


def _folders(place: Place, name: str, classes: list[str], train: str, val: str) -> str:
    import numpy as np
    from PIL import Image

    data = place.folder / name
    for kind in ("images", "masks"):
        (data / kind).mkdir(parents=True)
        for image in "abcd":
            pixels = np.random.default_rng(ord(image)).integers(0, len(classes), (32, 40), dtype=np.uint8)
            Image.fromarray(pixels).save(data / kind / f"{image}.png")
    (data / "train.txt").write_text(train)
    (data / "val.txt").write_text(val)
    config = TINY | {"data": {"name": "folders", "root": str(data), "classes": classes}}
    (place.folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return f"{name}.yaml"


def same_split(place: Place) -> str:
    config = _folders(place, "same", ["x", "y"], "a\nb\nc\nd\n", "a\nb\nc\nd\n")
    done = place.run(f"compare {config} --output {place.out()}")
    warned = [
        line for line in done.stderr.splitlines() if "train" in line and "val" in line and "%|" not in line
    ]
    return f"{ending(done)}; said: {warned[:1]}"


def duplicates(place: Place) -> str:
    config = _folders(place, "twice", ["x", "y"], "a\nb\na\n", "c\nd\n")
    return ending(place.run(f"train {config} --output {place.out()}"))


def one_class(place: Place) -> str:
    config = _folders(place, "one", ["x"], "a\nb\n", "c\nd\n")
    return ending(place.run(f"train {config} --output {place.out()}"))


def main() -> None:
    """Try everything, or what has a word in its name, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tries-") as folder:
        place = Place(Path(folder))
        tries: dict[str, Callable[[], str]] = {
            f"{number.name} x {options.kills}: {name}": lambda name=name, number=number: kills(
                place, name, number, options.kills
            )
            for name in COMMANDS
            for number in SIGNALS
        }
        tries = dict(surroundings(place)) | tries
        for name, attempt in tries.items():
            if options.only in name:
                try:
                    said = attempt()
                except subprocess.TimeoutExpired:
                    said = f"NO END within {SECONDS} s"
                sys.stdout.write(f"| {name} | {said.replace(folder, '')} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
