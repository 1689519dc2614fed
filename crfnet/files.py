"""Files: written whole or not at all, and read without trust, whatever lies there."""

import csv
import io
import json
import math
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from crfnet.errors import InputError

__all__ = [
    "check_writable",
    "csv_text",
    "leftovers",
    "one_line",
    "opened_picture",
    "read_arrays",
    "read_indices",
    "read_yaml",
    "write_atomically",
    "write_csv",
    "write_json",
]

#: A .npz member that unpacks to more bytes than the one, and to more than the other times its packed size, is
#: a bomb: deflate reaches 1032 on zeros, scores and counts 1 to 30.
_MUCH, _RATIO = 2**28, 100
_NODES = 10_000  #: of a YAML file with every alias written out


def check_writable(path: Path, *, file: bool = False) -> None:
    """Refuses a place that cannot be written, before any work; changes nothing, and sees no full disk.

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
                raise InputError(f"{path}: is a folder; the output must be a file")
            folder = folder.parent
        while (usable := _is_folder(folder)) is None:
            folder = folder.parent
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    if not usable:
        raise InputError(f"{folder}: is a file; the output must be a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path}: cannot be written: no permission to write into {folder}")


def _is_folder(path: Path) -> bool | None:
    """None where nothing is."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise
        return None


def write_atomically(path: Path, data: bytes | Callable[[IO[bytes]], object]) -> None:
    """Write ``data`` to ``path`` through a temporary file in the same folder, which is made when missing.

    Args:
        path: of the file.
        data: its content, or what writes it into a stream.

    Raises:
        OSError: the disk is full or not writable; it names ``path``, where all is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
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
    """`write_atomically` of readable JSON; raises as that."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def csv_text(header: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A table as CSV: a line for the header and for each row."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    return stream.getvalue()


def write_csv(path: Path, header: Iterable[object], rows: Iterable[Iterable[object]]) -> None:
    """`write_atomically` of `csv_text`; raises as that."""
    write_atomically(path, csv_text(header, rows).encode())


def leftovers(folder: Path) -> list[Path]:
    """What `write_atomically` left half-written, in `folder` and below, where its process was killed.

    None where no /proc says which processes live.
    """
    if not Path("/proc/self").exists():
        return []
    pids = ((path, path.name.split(".")[-2]) for path in folder.rglob(".*.tmp"))
    return [path for path, pid in pids if pid.isdecimal() and not Path("/proc", pid).exists()]


def one_line(error: BaseException) -> str:
    """What an error says, for messages of one line; its kind where it says nothing."""
    words = " ".join(str(error).split())
    return (words if len(words) <= 200 else f"{words[:197]}...") or type(error).__name__


@contextmanager
def opened_picture(path: Path) -> Iterator[Image.Image]:
    """The picture at `path`; what goes wrong within is told of the file.

    Raises:
        InputError: missing, damaged, or of more pixels than anyone photographs (Pillow's limit, 179 million).
    """
    try:
        with Image.open(path) as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # Pillow's readers raise whatever the broken bytes lead them to
        raise InputError(f"{path}: cannot be read as an image ({one_line(error)})") from error


def read_indices(path: Path) -> NDArray[np.uint8]:
    """The stored numbers of a palette or 8-bit gray image, never through its colors.

    Returns:
        (h, w).

    Raises:
        InputError: The file is broken or of another kind.
    """
    with opened_picture(path) as file:
        # Gray of 1, 2 or 4 bits would be stretched to 0..255 by the reader; its raw mode says so.
        tiles = getattr(file, "tile", None)
        mode, raw = file.mode, tiles[0][3] if tiles else file.mode
        values: NDArray[np.uint8] = np.array(file)
    if mode != "P" and (mode, raw) != ("L", "L"):
        kind = raw if isinstance(raw, str) else mode
        raise InputError(f"{path}: mask of mode {kind}; allowed are palette images (P) and 8-bit gray (L)")
    return values


def read_arrays(path: Path, names: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """The arrays in a .npz file by name, those of `names` or all; that of a .npy file has the name ''.

    No pickle is read, and no memory taken before the file is known to hold as many numbers as it claims.

    Raises:
        ValueError: missing, damaged or something else; one line that does not name the file.
    """
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as stream:
                return {"": _read_array(stream, path.stat().st_size)}
        with zipfile.ZipFile(path) as archive:
            there = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            missing = [name for name in names if name not in there]
            if missing:
                raise ValueError(f"it holds {', '.join(there) or 'nothing'}, but no {missing[0]}")
            return {name: _member(archive, there[name]) for name in names or there}
    except OSError as error:
        raise ValueError(error.strerror or one_line(error)) from error
    except Exception as error:  # damaged archives and headers raise a dozen different ones
        raise ValueError(one_line(error)) from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    if info.file_size > max(_MUCH, _RATIO * info.compress_size):
        raise ValueError(f"{info.filename} would unpack {info.compress_size} bytes to {info.file_size}")
    with archive.open(info) as stream:
        return _read_array(stream, info.file_size)


def _read_array(stream: IO[bytes], size: int) -> NDArray[Any]:
    """One array of a file of `size` bytes."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"a .npy file of version {version[0]}.{version[1]}; 1.0 and 2.0 are read")
    if version == (2, 0) and struct.unpack("<I", stream.read(4))[0] > size:
        raise ValueError("the header is longer than the file")
    stream.seek(len(np.lib.format.magic(*version)))
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote: they take longer
        shape, _, dtype = readers[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    claimed, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if min(shape, default=0) < 0 or claimed > there:
        raise ValueError(f"it claims the shape {shape} of {dtype}, {claimed} bytes, and holds {there}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream.seek(0)
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def read_yaml(path: Path) -> Any:
    """What a YAML file holds: plain values, no key twice.

    Raises:
        InputError: it is missing, no text in UTF-8 or no YAML; has a key twice; or aliases that stand for
            more than any configuration holds.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
        if _nodes(content, {}) > _NODES:
            raise ValueError(f"more than {_NODES} values, aliases written out")
    except OSError as error:
        raise InputError(f"{path}: cannot be read as YAML ({error.strerror})") from error
    except RecursionError as error:
        raise InputError(f"{path}: cannot be read as YAML (nested too deeply)") from error
    except Exception as error:  # constructors raise what int(), float() and datetime do
        raise InputError(f"{path}: cannot be read as YAML ({one_line(error)})") from error
    return content


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which the last would be taken silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            line = node.start_mark.line + 1
            raise yaml.constructor.ConstructorError(
                None, None, f"key {twice} twice in the mapping of line {line}"
            )
        return super().construct_mapping(node, deep=deep)


def _nodes(value: Any, known: dict[int, int]) -> int:
    """How many values `value` stands for; a mapping within itself is nested too deeply."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        inside = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_nodes(each, known) for each in inside)
    return known[id(value)]
