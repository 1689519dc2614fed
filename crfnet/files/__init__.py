"""Files: written whole or not at all, and read without trust, whatever lies there."""

from crfnet.files.arrays import read_arrays
from crfnet.files.error_text import one_line, why
from crfnet.files.images import (
    IMAGE_FORMATS,
    MASK_FORMATS,
    is_turned,
    open_image,
    read_indices,
    shown_size,
    upright,
)
from crfnet.files.output_folder import (
    RECORD,
    check_inputs,
    lock_folder,
    record_file,
    recorded_files,
    recording,
    remove_recorded_files,
)
from crfnet.files.regular import regular
from crfnet.files.typed import check_fields, check_type
from crfnet.files.writing import (
    check_writable,
    csv_text,
    leftovers,
    write_atomically,
    write_csv,
    write_json,
    write_yaml_text,
)
from crfnet.files.yaml_files import MAX_BITS, read_yaml

__all__ = [
    "IMAGE_FORMATS",
    "MASK_FORMATS",
    "shown_size",
    "MAX_BITS",
    "RECORD",
    "check_fields",
    "check_inputs",
    "check_type",
    "check_writable",
    "csv_text",
    "leftovers",
    "lock_folder",
    "one_line",
    "is_turned",
    "open_image",
    "read_arrays",
    "read_indices",
    "read_yaml",
    "record_file",
    "recorded_files",
    "recording",
    "regular",
    "remove_recorded_files",
    "upright",
    "why",
    "write_atomically",
    "write_csv",
    "write_json",
    "write_yaml_text",
]
