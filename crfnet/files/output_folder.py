"""Folders that crfnet writes: a list of the files that it wrote there, which alone it removes, and a lock.

Both lie in the folder ``.crfnet`` inside: ``files`` holds a line of JSON for each file, its path in the
folder, written before the file is; ``lock`` is empty, and locked by the processes that work there. The
operating system takes the lock from a process that ends, however it ended.
"""

import errno
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from crfnet.errors import InputError, require

__all__ = [
    "RECORD",
    "check_inputs",
    "lock_folder",
    "record_file",
    "recorded_files",
    "recording",
    "remove_recorded_files",
]

RECORD = ".crfnet"
_LOCKS = ("lock", "preparing")
_WAIT = 60.0  #: seconds to wait for a lock that is held for moments

_recorded: dict[Path, set[str]] = {}  # what this process knows to be on the list of each folder it writes
_locked: set[Path] = set()  # by this process, alone


@contextmanager
def lock_folder(
    folder: Path, *, shared: bool = False, name: Literal["lock", "preparing"] = "lock", wait: bool = False
) -> Iterator[None]:
    """Lock a folder, made when missing, against other processes; again in the same process does nothing.

    Args:
        folder: that is written.
        shared: with others that share it; those who remove files need it alone.
        name: of the lock, where a folder has several.
        wait: up to a minute for its release.

    Raises:
        InputError: another process holds it.
    """
    from filelock import ReadWriteLock, Timeout

    place = folder.resolve() / RECORD / name
    if place in _locked:
        yield
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = ReadWriteLock(place, timeout=_WAIT if wait else 0, is_singleton=False)
        lock.acquire_read() if shared else lock.acquire_write()
    except Timeout as error:
        raise InputError(
            f"{folder}: another crfnet process works in it; wait for its end, or give another --output"
        ) from error
    except sqlite3.Error as error:
        raise OSError(errno.ENOLCK, f"cannot be locked ({error})", str(place)) from error
    if not shared:
        _locked.add(place)
    try:
        yield
    finally:
        _locked.discard(place)
        lock.release()


@contextmanager
def recording(folder: Path) -> Iterator[None]:
    """Within, what `record_file` is told of in the folder and below is on the folder's list."""
    place = folder.resolve()
    if place in _recorded:
        yield
        return
    path = place / RECORD / "files"
    if path.is_file() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        with path.open("ab") as stream:
            stream.write(b"\n")  # a kill cut the last line off
    _recorded[place] = set(_lines(path))
    try:
        yield
    finally:
        del _recorded[place]


def record_file(path: Path) -> None:
    """Put a file that is about to be written on the list of the innermost folder of `recording` around it.

    The list itself, when it is begun, goes on that of the next folder around.
    """
    place = path.parent.resolve() / path.name
    folder = next((parent for parent in place.parents if parent in _recorded), None)
    if folder is not None and place.parent.name == RECORD and place.parent.parent == folder:
        folder = next((parent for parent in folder.parents if parent in _recorded), None)
    if folder is None:
        return
    name = place.relative_to(folder).as_posix()
    if name in _recorded[folder]:
        return
    known = folder / RECORD / "files"
    if not known.exists():
        known.parent.mkdir(parents=True, exist_ok=True)
        record_file(known)
    with known.open("ab", buffering=0) as stream:
        stream.write(f"{json.dumps(name)}\n".encode())
    _recorded[folder].add(name)


def recorded_files(folder: Path) -> list[Path]:
    """Those files on the list of a folder that are there; none outside of it, whatever the list says."""
    place = folder.resolve()
    paths = [folder / name for name in dict.fromkeys(_lines(place / RECORD / "files"))]
    return [path for path in paths if path.is_file() and path.parent.resolve().is_relative_to(place)]


def remove_recorded_files(folder: Path) -> None:
    """Remove the files on the folder's list, those on the lists of folders in it, and folders then empty."""
    above: set[Path] = set()
    for path in recorded_files(folder):
        above |= set(path.relative_to(folder).parents[:-1])
        if path.parent.name == RECORD:  # the list of a folder within
            with lock_folder(path.parent.parent):
                remove_recorded_files(path.parent.parent)
                for name in _LOCKS:
                    (path.parent / name).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    for relative in sorted(above, key=lambda each: len(each.parts), reverse=True):
        inside = folder / relative
        if inside.is_dir() and not inside.is_symlink() and not any(inside.iterdir()):
            inside.rmdir()
    (folder / RECORD / "files").unlink(missing_ok=True)
    if folder.resolve() in _recorded:
        _recorded[folder.resolve()] = set()


def check_inputs(folder: Path, inputs: Mapping[str, Path]) -> None:
    """Refuse to remove what is read.

    Args:
        folder: of which `remove_recorded_files` is asked.
        inputs: files and folders that are read, by the names of their options or keys.

    Raises:
        InputError: an input is one of the files, or a folder inside that holds any.
    """
    doomed = {path.resolve() for path in _removable(folder)}
    for name, path in inputs.items():
        place = path.resolve()
        inside = place.is_relative_to(folder.resolve())
        lost = place in doomed or (inside and any(file.is_relative_to(place) for file in doomed))
        require(name, str(path), not lost, f"outside of what is removed from {folder}")


def _removable(folder: Path) -> Iterator[Path]:
    for path in recorded_files(folder):
        yield path
        if path.parent.name == RECORD:
            yield from _removable(path.parent.parent)


def _lines(path: Path) -> Iterable[str]:
    """The names on a list; what is no such line is skipped."""
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        try:
            name = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(name, str) and name and "\0" not in name:
            yield name
