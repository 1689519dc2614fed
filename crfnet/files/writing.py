"""Write files whole or not at all: text, JSON, CSV; refuse early what cannot be written."""

import csv
import io
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from crfnet.errors import InputError, printable
from crfnet.files.output_folder import record_file

__all__ = [
    "check_writable",
    "csv_text",
    "leftovers",
    "write_atomically",
    "write_csv",
    "write_json",
    "write_yaml_text",
]


#: How a formula may begin in a spreadsheet; blanks before it are passed over.
_FORMULAS = ("=", "+", "-", "@", "\t", "\n", " ", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def check_writable(path: Path, *, file: bool = False) -> None:
    """Refuse a place that cannot be written, before any work; changes nothing, and sees no full disk.

    Args:
        path: a folder to write into, there already or to be made.
        file: it is a file, to be written by `write_atomically`.

    Raises:
        InputError: a file where a folder must be, or a folder where a file must; a link to nothing; a name
            that no file can have; no permission, or a disk that is read only.
    """
    folder = path.absolute()
    try:
        if file:
            if _is_folder(folder):
                raise InputError(f"{path} is a folder, must be a file")
            folder = folder.parent
        while (usable := _is_folder(folder)) is None:
            folder = folder.parent
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    if not usable:
        raise InputError(f"{folder} is a file, must be a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path}: cannot be written: no permission to write into {folder}")


def _is_folder(path: Path) -> bool | None:
    """Whether a folder is there; None where nothing is."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise
        return None


def write_atomically(path: Path, data: bytes | Callable[[IO[bytes]], object]) -> None:
    """Write ``data`` to ``path`` through a temporary file in the same folder, which is made when missing.

    It goes on the list of the folder of `recording` that it lies in.

    Args:
        path: of the file.
        data: its content, or what writes it into a stream.

    Raises:
        OSError: the disk is full or not writable; it names ``path``, where all is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        record_file(path)
        with temporary.open("wb") as stream:
            data(stream) if callable(data) else stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write readable JSON through `write_atomically`; raises what that raises."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def write_yaml_text(path: Path, text: str, head: Iterable[str] = ()) -> None:
    """Write YAML below comments through `write_atomically`; raises what that raises.

    Args:
        path: of the file.
        text: the YAML.
        head: lines that say where it comes from; what would end one within it becomes a space.
    """
    comments = "".join(f"# {' '.join(line.split())}\n" for line in head)
    write_atomically(path, (comments + text).encode())


def write_csv(path: Path, header: Iterable[object], rows: Iterable[Iterable[object]]) -> None:
    """Write `csv_text` through `write_atomically`; raises what that raises."""
    write_atomically(path, csv_text(header, rows).encode())


def csv_text(header: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """Return a table as CSV: a line for the header and one for each row, commas between cells.

    A text that a spreadsheet would compute, since it begins like a formula, gets an apostrophe before it;
    what ends a line for some programs and not for others is escaped.
    """
    stream = io.StringIO()
    table = ([_no_formula(cell) for cell in row] for row in (header, *rows))
    csv.writer(stream, lineterminator="\n").writerows(table)
    return stream.getvalue()


def _no_formula(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    cell = printable(cell)
    if not cell.startswith(_FORMULAS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def leftovers(folder: Path) -> list[Path]:
    """List what `write_atomically` left half-written, in `folder` and below, where its process was killed.

    None where no /proc says which processes live.
    """
    if not Path("/proc/self").exists():
        return []
    pids = ((path, path.name.split(".")[-2]) for path in folder.rglob(".*.tmp"))
    return [path for path, pid in pids if pid.isdecimal() and not Path("/proc", pid).exists()]
