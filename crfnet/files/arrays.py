"""Read .npy and .npz files without trust: no pickle, no more memory than the file can fill."""

import math
import struct
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from crfnet.files.error_text import one_line
from crfnet.files.regular import regular

__all__ = ["read_arrays"]

#: A .npz member that unpacks to more bytes than the one, and to more than the other times its packed size, is
#: a bomb: deflate reaches 1032 on zeros, scores and counts 1 to 30.
_MAX_UNPACKED_BYTES, _MAX_COMPRESSION = 2**28, 100
_MAX_TOTAL_BYTES = 2**30  #: of all members together, in the same way


def read_arrays(path: Path, names: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Read the arrays in a .npz file by name, those of `names` or all; that of a .npy file has the name ''.

    No pickle is read, and no memory taken before the file is known to hold as many numbers as it claims.

    Raises:
        ValueError: missing, damaged or something else; one line that does not name the file.
    """
    try:
        if not zipfile.is_zipfile(regular(path)):
            with path.open("rb") as stream:
                return {"": _read_array(stream, path.stat().st_size)}
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            there = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            missing = [name for name in names if name not in there]
            if missing:
                raise ValueError(f"it holds {', '.join(there) or 'nothing'}, but no {missing[0]}")
            wanted = [there[name] for name in names or there]
            if sum(info.file_size for info in wanted) > max(_MAX_TOTAL_BYTES, _MAX_COMPRESSION * size):
                raise ValueError(f"its arrays would unpack {size} bytes to more than {_MAX_TOTAL_BYTES}")
            return {name: _member(archive, there[name]) for name in names or there}
    except OSError as error:
        raise ValueError(error.strerror or one_line(error)) from error
    except Exception as error:  # damaged archives and headers raise a dozen different ones
        raise ValueError(one_line(error)) from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    if info.file_size > max(_MAX_UNPACKED_BYTES, _MAX_COMPRESSION * info.compress_size):
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
    # Numbers of no bytes, as texts of no letters, fill none, however many there are said to be.
    claimed, there = math.prod(shape) * max(1, dtype.itemsize), size - stream.tell()
    if min(shape, default=0) < 0 or claimed > there:
        raise ValueError(f"it claims the shape {shape} of {dtype}, {claimed} bytes, and holds {there}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream.seek(0)
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
