"""A folder in which whole commands run as users run them: in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.tries.forked import Forked

__all__ = ["COMMANDS", "ROOT", "SECONDS", "TINY", "Place", "ending"]

ROOT = Path(__file__).parents[2]
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
SECONDS = 300  #: that any command here may take

_NETWORK = "--checkpoint base/unary/train/checkpoint.pt"
_BEST = "--crf base/search/best.yaml"
#: Commands with what to say when they go on; ``{out}`` is their output folder.
COMMANDS = {
    "train": ("train tiny.yaml --output {out}", "--resume"),
    "compare": ("compare tiny.yaml --output {out}", "--resume"),
    "scores": (f"scores tiny.yaml {_NETWORK} --output {{out}}", ""),
    "evaluate": (f"evaluate tiny.yaml --scores base/scores {_BEST} --output {{out}}", "--resume"),
    "predict": (f"predict tiny.yaml {_NETWORK} --split val --output {{out}}", "--overwrite"),
    "import": ("import base/unary/train/checkpoint.pt --out {out}/w.safetensors", "--overwrite"),
}


class Place:
    """A folder with a trained network, scores and a search; `run` runs a command in it.

    Args:
        folder: empty.
        fork: run commands in children of this process where that can be.
    """

    def __init__(self, folder: Path, *, fork: bool = False) -> None:
        self.folder, self.number, self._fork = folder, 0, fork
        (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
        for words in (
            "train tiny.yaml --output base",
            f"scores tiny.yaml {_NETWORK} --output base",
            "search tiny.yaml --scores base/scores --output base",
        ):
            done = self.run(words)
            assert done.returncode == 0, f"{words}: {done.stderr[-2000:]}"

    def out(self) -> Path:
        """A new output folder."""
        self.number += 1
        return self.folder / f"out{self.number}"

    def start(
        self, words: str, prefix: Sequence[str] = (), **environment: str
    ) -> "subprocess.Popen[str] | Forked":
        """A command that runs, behind the words of another program such as ``setpriv``."""
        if self._fork and not prefix and not environment:
            return Forked(words, self.folder)
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "crfnet", *words.split()],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, words: str, shell: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
        """A command that is run to its end, behind words of the shell such as ``unset HOME;``."""
        prefix = ["bash", "-c", f'{shell} exec "$@"', "bash"] if shell else ()
        running = self.start(words, prefix, **environment)
        out, err = running.communicate(timeout=SECONDS)
        return subprocess.CompletedProcess(words, running.returncode, out, err)


def ending(done: "subprocess.CompletedProcess[str]") -> str:
    """The exit status, and the last line where it is not 0."""
    lines = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.strip()]
    if "Traceback" in done.stderr:
        return f"TRACEBACK {lines[-1]:.150}"
    return f"{done.returncode}" + (f" {lines[-1]:.180}" if done.returncode and lines else "")
