"""What a YAML file may hold before jsonargparse sees it, which takes a text for the name of another file."""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from crfnet.config.variants import ROWS
from crfnet.errors import InputError
from crfnet.files import MAX_BITS

__all__ = ["check_content", "check_key", "check_rows", "check_size", "is_section"]


def check_content(content: Mapping[Any, Any], shape: type[Any], prefix: str = "") -> None:
    """Refuse the names of other files where a section is to be.

    Args:
        content: of the file, or of one section.
        shape: the dataclass of what it may hold.
        prefix: the section, as ``crf.``.

    Raises:
        InputError: names the key.
    """
    if not prefix and "config" in content:
        raise InputError("unknown key config: a file holds the sections themselves, and names no other file")
    for name, value in content.items():
        key = f"{prefix}{name}"
        check_key(name, key)
        if value is None or not isinstance(name, str):
            continue
        if _holds_sections(shape, name):
            check_rows(value, key)
        if not is_section(shape, name):
            continue
        if not isinstance(value, Mapping):
            raise InputError(f"{key} is {value!r:.60}, must be keys with their values")
        check_content(value, _of(shape, name), f"{key}.")


def check_key(name: object, key: str) -> None:
    """Refuse names that mean something to jsonargparse: for ``class_path`` it would import a module.

    Raises:
        InputError: names the key.
    """
    parts = str(name).split(".")
    if any(part in ("class_path", "init_args") or part.startswith("__") for part in parts):
        raise InputError(f"unknown key {key}")


def check_rows(value: object, key: str) -> None:
    """Refuse what is no mapping of names to sections, as ``own_arms``.

    Raises:
        InputError: names the key.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{key} is {value!r:.60}, must be names with their sections")
    for name, row in value.items():
        if not isinstance(name, str):
            raise InputError(f"a name in {key} is {name!r:.60}, must be text (in quotes)")
        if not isinstance(row, Mapping) or not all(isinstance(each, str) for each in row):
            raise InputError(f"{key}.{name} is {row!r:.60}, must be keys with their values")
        for each in row:
            check_key(each, f"{key}.{name}.{each}")


def check_size(value: Any, place: str) -> None:
    """Refuse an option's value that is or holds a whole number of very many digits, which cannot be shown."""
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise InputError(
            f"{place} is a whole number of {value.bit_length()} bits, must be one of fewer digits"
        )
    if isinstance(value, Mapping):
        for name, each in value.items():
            check_size(name, f"a key in {place}")
            check_size(each, f"{place}.{name}")
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            check_size(each, place)


def is_section(shape: type[Any], key: str) -> bool:
    """Whether a key, as ``train.augment``, is that of a section."""
    return dataclasses.is_dataclass(_of(shape, key))


def _holds_sections(shape: Any, name: str) -> bool:
    """Whether a key is that of a mapping of names to sections."""
    return get_type_hints(shape).get(name) == ROWS


def _of(shape: Any, key: str) -> Any:
    for name in key.split("."):
        shape = get_type_hints(shape).get(name) if dataclasses.is_dataclass(shape) else None
    return shape
