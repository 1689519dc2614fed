"""Surroundings that are not as they should be: of a whole command each, and how it ended."""

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import yaml
from PIL import Image

from tests.tries.another_user import run_as_nobody
from tests.tries.place import COMMANDS, ROOT, SECONDS, TINY, Place, ending

__all__ = ["surroundings"]

_SEARCH = "search tiny.yaml --scores base/scores --output {out}"


def surroundings(place: Place) -> Iterator[tuple[str, Callable[[], str]]]:
    """Everything else that is tried, by name."""
    evaluate, train, compare = (COMMANDS[name][0] for name in ("evaluate", "train", "compare"))

    def once(words: str, shell: str = "", **environment: str) -> Callable[[], str]:
        return lambda: ending(place.run(words.format(out=place.out()), shell, **environment))

    for limit in (1, 4, 16, 64):
        three = f"{_SEARCH} --search.workers 3"
        yield f"ulimit -u {limit}: search, 3 workers", partial(few_processes, place, three, limit)
        two = f"{train} --train.workers 2"
        yield f"ulimit -u {limit}: train, 2 workers", partial(few_processes, place, two, limit)
    yield "HOME that cannot be written: evaluate", partial(no_home, place, evaluate)
    yield "HOME unset: train", once(train, shell="unset HOME;")
    yield "TMPDIR that is missing: evaluate", once(evaluate, TMPDIR="/nowhere")
    yield "TMPDIR that is missing: compare", once(compare, TMPDIR="/nowhere")
    yield "package in a read-only folder, no HOME: evaluate", partial(read_only, place, evaluate)
    for words in ("--device cuda", "--train.precision float16", "--train.sync_batch_norm true"):
        yield (
            f"a GPU's config on a CPU machine: train {words}",
            once(f"{train} {words}", CUDA_VISIBLE_DEVICES=""),
        )
    yield (
        "a GPU's config on a CPU machine: compare --joint.precision float16",
        once(f"{compare} --joint.precision float16", CUDA_VISIBLE_DEVICES=""),
    )
    yield "storage locked by another process: search", partial(locked, place)
    yield "two searches racing in one folder", partial(racing, place, _SEARCH + " --resume", 2)
    yield "four train --overwrite in one folder", partial(overwriting, place, train)
    yield "four predict --overwrite in one folder", partial(overwriting, place, COMMANDS["predict"][0])
    yield "val = train: compare", partial(same_split, place, "compare")
    yield "val = train: train, validated", partial(same_split, place, "train --train.validate_every 3")
    yield "duplicate ids in a list: train", partial(duplicates, place)
    yield "one class: train", partial(one_class, place)


def few_processes(place: Place, words: str, limit: int) -> str:
    """So many processes and threads."""
    cache = str(place.folder / "numba")
    words = words.format(out=place.out())
    return ending(run_as_nobody(place, words, f"ulimit -u {limit};", NUMBA_CACHE_DIR=cache))


def no_home(place: Place, words: str) -> str:
    """Nowhere to keep compiled code."""
    return ending(
        run_as_nobody(place, words.format(out=place.out()), NUMBA_CACHE_DIR="", HOME="/proc/nothing")
    )


def read_only(place: Place, words: str) -> str:
    """A copy of the package in which nothing can be written."""
    copy = place.folder / "installed"
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "crfnet", copy / "crfnet", dirs_exist_ok=True, ignore=without)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    words = words.format(out=place.out())
    return ending(run_as_nobody(place, words, package=copy, NUMBA_CACHE_DIR="", HOME="/proc/nothing"))


def locked(place: Place) -> str:
    """Another program holds SQLite's lock for longer than anybody waits."""
    base = sqlite3.connect(place.folder / "locked.db")
    base.execute("CREATE TABLE a (b)")
    base.commit()
    base.execute("BEGIN EXCLUSIVE")
    begun = time.monotonic()
    done = place.run(f"{_SEARCH.format(out=place.out())} --search.storage sqlite:///locked.db")
    base.close()
    return f"{ending(done)} (after {time.monotonic() - begun:.0f} s)"


def racing(place: Place, words: str, number: int) -> str:
    """All at once in one folder, as several machines would."""
    words = words.format(out=place.out()) if "{out}" in words else words
    running = [place.start(words) for _ in range(number)]
    ends = []
    for each in running:
        out, err = each.communicate(timeout=SECONDS)
        ends.append(ending(subprocess.CompletedProcess(words, each.returncode, out, err)))
    return " and ".join(sorted(ends))


def overwriting(place: Place, words: str) -> str:
    """A result that is there, replaced by several at once; then one more must find all in order."""
    out = place.out()
    words = words.format(out=out)
    begun = ending(place.run(words))
    ends = racing(place, f"{words} --overwrite", 4)
    return f"{begun}; {ends}; then {ending(place.run(f'{words} --overwrite'))}"


def _folders(place: Place, name: str, classes: list[str], train: str, val: str) -> str:
    data = place.folder / name
    for kind in ("images", "masks"):
        (data / kind).mkdir(parents=True, exist_ok=True)
        for image in "abcd":
            pixels = np.random.default_rng(ord(image)).integers(0, len(classes), (32, 40), dtype=np.uint8)
            Image.fromarray(pixels).save(data / kind / f"{image}.png")
    (data / "train.txt").write_text(train)
    (data / "val.txt").write_text(val)
    config = TINY | {"data": {"name": "folders", "root": str(data), "classes": classes}}
    (place.folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return f"{name}.yaml"


def same_split(place: Place, words: str) -> str:
    """Three of four images are trained on, too."""
    config = _folders(place, "same", ["x", "y"], "a\nb\nc\n", "a\nb\nc\nd\n")
    command, *more = words.split()
    done = place.run(" ".join([command, config, *more, f"--output {place.out()}"]))
    warned = [line for line in done.stderr.splitlines() if "trained on" in line and "%|" not in line]
    return f"{ending(done)}; said: {warned[:1]}"


def duplicates(place: Place) -> str:
    """An id twice."""
    config = _folders(place, "twice", ["x", "y"], "a\nb\na\n", "c\nd\n")
    return ending(place.run(f"train {config} --output {place.out()}"))


def one_class(place: Place) -> str:
    """Nothing to be told apart."""
    config = _folders(place, "one", ["x"], "a\nb\n", "c\nd\n")
    return ending(place.run(f"train {config} --output {place.out()}"))
