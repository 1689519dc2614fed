"""Files: written whole or not at all, and read without trust, whatever lies there."""

from crfnet.files.arrays import read_arrays
from crfnet.files.error_text import one_line
from crfnet.files.images import IMAGE_FORMATS, open_image, read_indices, upright
from crfnet.files.output_folder import (
    RECORD,
    check_inputs,
    lock_folder,
    record_file,
    recorded_files,
    recording,
    remove_recorded_files,
)
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
    "IMAGE_FORMATS",
    "RECORD",
    "check_inputs",
    "check_writable",
    "csv_text",
    "leftovers",
    "lock_folder",
    "one_line",
    "open_image",
    "read_arrays",
    "read_indices",
    "read_yaml",
    "record_file",
    "recorded_files",
    "recording",
    "remove_recorded_files",
    "upright",
    "write_atomically",
    "write_csv",
    "write_json",
]
