"""Random kills: a command that was killed, run again, must leave what one that nothing disturbed leaves."""

import csv
import hashlib
import json
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from crfnet.checkpoints.checkpoint import read_checkpoint
from crfnet.files import RECORD
from crfnet.pipeline.digests import state_digest
from tests.tries.place import COMMANDS, Place, ending

__all__ = ["SIGNALS", "kills", "results"]

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
#: What a command may end with that a signal ended: before Python or crfnet listens, and after.
_STATUSES = {
    signal.SIGKILL: (-signal.SIGKILL,),
    signal.SIGTERM: (-signal.SIGTERM, 128 + signal.SIGTERM),
    signal.SIGINT: (-signal.SIGINT, 128 + signal.SIGINT),
}
#: Files that hold times, memory or the words of the command.
_VARY = ("run.json", "stage.json", "state.json", "report.md", "report.html", "study.db")
_TIMED = ("table.csv", "scores.csv")


def results(folder: Path) -> dict[str, str]:
    """A digest of every file below a folder by its name, of what does not depend on time in it."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not {RECORD, "tensorboard", "costs"} & set(name.parts):
            found[str(name)] = _digest(path)
    return found


def _digest(path: Path) -> str:
    if path.name in _VARY:
        return "there"
    if path.suffix == ".pt":
        return state_digest(read_checkpoint(path)["model"])
    if path.name in _TIMED:
        with path.open(newline="") as rows:
            return repr(
                [_timeless(row) for row in csv.DictReader(rows) if not _is_time(row.get("metric", ""))]
            )
    content = path.read_bytes()
    if path.name == "log.jsonl":
        content = repr([_timeless(json.loads(line)) for line in content.splitlines()]).encode()
    if path.name == "report.json":
        content = repr(_timeless(json.loads(content))).encode()
    return hashlib.sha256(content).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(each) for key, each in value.items() if not _is_time(key)}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def _is_time(key: str) -> bool:
    return key == "facts" or any(word in key for word in ("seconds", "memory", "load"))


def kills(place: Place, name: str, number: signal.Signals, count: int) -> str:
    """Kill a command so often at random moments, each time anew, and let it go on to its end."""
    words, more = COMMANDS[name]
    out = place.folder / "killed"
    shutil.rmtree(out, ignore_errors=True)
    whole, seconds = _timed(place, words.format(out=out))
    if whole.returncode:
        return f"without a kill: {ending(whole)}"
    wanted, found = results(out), Counter[str]()
    for _ in range(count):
        shutil.rmtree(out)
        running = place.start(words.format(out=out))
        time.sleep(random.uniform(0.02, 1.0) * seconds)
        running.send_signal(number)
        try:
            _, err = running.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGKILL)
            return "STILL THERE after 100 seconds"
        found[_judged(running.returncode, err, number)] += 1
        again = place.run(f"{words.format(out=out)} {more if out.exists() else ''}")
        found[_compared(again, out, wanted)] += 1
    return ", ".join(f"{number} x {what}" for what, number in sorted(found.items()) if what)


def _timed(place: Place, words: str) -> tuple["subprocess.CompletedProcess[str]", float]:
    begun = time.monotonic()
    return place.run(words), time.monotonic() - begun


def _judged(status: int, err: str, number: signal.Signals) -> str:
    """What is wrong about how a command ended by a signal; nothing where all is well."""
    if "Traceback" in err:
        return f"TRACEBACK {err.strip().splitlines()[-1]:.150}"
    if status == 0:
        return "too late"
    return "" if status in _STATUSES[number] else f"STATUS {status} {err.strip()[-200:]}"


def _compared(again: "subprocess.CompletedProcess[str]", out: Path, wanted: dict[str, str]) -> str:
    if again.returncode:
        return f"NOT RUN AGAIN: {ending(again)}"
    if left := [*out.rglob("*.tmp")]:
        return f"HALF A FILE: {left[0].name}"
    have = results(out)
    other = sorted(name for name in have.keys() | wanted if have.get(name) != wanted.get(name))
    return f"OTHER RESULT: {', '.join(other[:5])}" if other else "same result"
