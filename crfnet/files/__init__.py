"""Files: written whole or not at all, and read without trust, whatever lies there."""

from crfnet.files.arrays import read_arrays
from crfnet.files.error_text import one_line
from crfnet.files.images import open_image, read_indices, upright
from crfnet.files.writing import (
    check_writable,
    csv_text,
    leftovers,
    write_atomically,
    write_csv,
    write_json,
)
from crfnet.files.yaml_files import read_yaml

__all__ = [
    "check_writable",
    "csv_text",
    "leftovers",
    "one_line",
    "open_image",
    "read_arrays",
    "read_indices",
    "read_yaml",
    "upright",
    "write_atomically",
    "write_csv",
    "write_json",
]
