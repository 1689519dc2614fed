"""Refuse what is no file before it is opened: a FIFO or a device would keep its reader waiting for ever."""

import errno
import stat
from pathlib import Path

__all__ = ["NO_REGULAR_FILE", "regular"]

NO_REGULAR_FILE = "no regular file"


def regular(path: Path) -> Path:
    """Return the path of a file that can be read to its end; of a folder too, which opening refuses.

    Raises:
        OSError: it leads to a FIFO, a socket or a device (``strerror`` says so), or nowhere.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, NO_REGULAR_FILE, str(path))
    return path
