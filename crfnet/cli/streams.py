"""The standard streams as a shell may leave them: closed, or of an encoding without our characters."""

import os
import sys

__all__ = ["prepare_streams"]


def prepare_streams() -> None:
    """Open what is closed of stdin, stdout and stderr, and have what their encoding lacks escaped.

    A closed one would be the number of the next file that is opened, into which a library's messages went.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", errors="replace", closefd=False))
        elif hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
