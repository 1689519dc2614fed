"""Runs a command on damaged files and judges how it ends: well, or in one clear line."""

import contextlib
import faulthandler
import io
import resource
import shlex
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from crfnet.cli.main import main
from crfnet.errors import InputError
from tests.fuzz.fixture_tree import FixtureTree

__all__ = ["Ending", "accepted", "guarded", "refused", "run"]

SECONDS = 10  #: of processor time that a command may take
MEMORY = 2**30  #: bytes that it may ask for beside what the process has


class TooLongError(BaseException):
    """Not to be caught by the command itself."""


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes:
        command: as one would type it.
        status: its exit status.
        out: what it wrote to stdout.
        lines: what it wrote to stderr, without progress bars.
    """

    command: str
    status: int
    out: str
    lines: list[str]

    @property
    def message(self) -> str:
        """The line that says what is wrong."""
        return self.lines[-1]


def run(
    fixtures: FixtureTree,
    arguments: Sequence[object],
    names: Sequence[str] = (),
    *,
    partial: bool = False,
    statuses: Sequence[int] = (2,),
) -> Ending:
    """Runs a command within limits of time and memory; fails unless it ends as every command should.

    Either with status 0; or with one of `statuses`, one line on stderr that names the file or key (one of
    `names`), and nothing written, unless `partial` files are kept to go on with. No traceback, no warning,
    and what the fixture tree holds stays as it is.
    """
    words = [str(argument) for argument in arguments]
    command = shlex.join(["crfnet", *words])
    there = _files(fixtures.out)
    out, err = io.StringIO(), io.StringIO()
    status: int | str | None = 0
    with _watched(fixtures, command), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as stop:
            status = stop.code
        except BaseException:
            raise AssertionError(f"{command}\n{traceback.format_exc()}") from None
    ending = Ending(command, status, out.getvalue(), _without_bars(err.getvalue()))
    if status != 0:
        _judge_refusal(ending, names, statuses)
        wrote = [path for path in _files(fixtures.out) if path not in there]
        assert partial or not wrote, f"{command}: refused, but wrote {wrote}"
    else:
        assert not ending.lines, f"{command}: {ending.lines}"
    return ending


def guarded(fixtures: FixtureTree, work: Callable[[], None]) -> str | None:
    """What an `InputError` of `work` says, which is judged as the line of a command; None without one."""
    with _watched(fixtures, "work"), contextlib.redirect_stderr(io.StringIO()):
        try:
            work()
        except InputError as error:
            line = str(error)
        else:
            return None
    _judge_refusal(Ending("work", 2, "", [f"crfnet: {each}" for each in line.split("\n")]), ())
    return line


def refused(
    fixtures: FixtureTree, arguments: Sequence[object], *names: str, statuses: Sequence[int] = (2,)
) -> str:
    """The one line of a command that must be refused."""
    ending = run(fixtures, arguments, names, statuses=statuses)
    assert ending.status != 0, f"{ending.command}: not refused\n{ending.out}"
    return ending.message


def accepted(fixtures: FixtureTree, arguments: Sequence[object]) -> str:
    """What a command that must succeed prints."""
    ending = run(fixtures, arguments)
    assert ending.status == 0, f"{ending.command}\n{ending.message}"
    return ending.out


def _judge_refusal(ending: Ending, names: Sequence[str], statuses: Sequence[int] = (2,)) -> None:
    told = f"{ending.command}: status {ending.status}, stderr {ending.lines}"
    assert ending.status in statuses, told
    assert len(ending.lines) == 1, told
    assert ending.message.startswith("crfnet: "), told
    assert "Unable to allocate" not in ending.message, told
    assert "allocate memory" not in ending.message, told
    assert len(ending.message) < 2000, told
    assert not names or any(name in ending.message for name in names), f"{told}: names none of {names}"


def _without_bars(text: str) -> list[str]:
    """The lines of `text` that are no states of a progress bar."""
    states = text.replace("\r", "\n").replace("\x1b[A", "").split("\n")
    return [line for line in states if line.strip() and "/s]" not in line and "%|" not in line]


def _changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@contextlib.contextmanager
def _watched(fixtures: FixtureTree, command: str) -> Iterator[None]:
    """Fails where what is done within is slow, warns, or changes the fixtures."""
    before, start = fixtures.now(), time.process_time()
    with warnings.catch_warnings(record=True) as warned, _limits():
        warnings.simplefilter("always")
        yield
    assert time.process_time() - start < SECONDS, f"{command}: too slow"
    assert fixtures.now() == before, f"{command}: changed {_changes(before, fixtures.now())}"
    told = [each for each in warned if each.category is not Image.DecompressionBombWarning]
    assert not told, f"{command}: {[str(each.message) for each in told]}"


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Ends what takes too long or too much memory."""

    def too_long(*_: object) -> None:
        raise TooLongError

    old = signal.signal(signal.SIGALRM, too_long)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    faulthandler.dump_traceback_later(
        12 * SECONDS, exit=True, file=sys.__stderr__
    )  # of C code, which no exception ends
    signal.alarm(6 * SECONDS)  # by the clock: the processor may be shared
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
        faulthandler.cancel_dump_traceback_later()
