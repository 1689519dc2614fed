"""Values read from files of ours, compared with the types that they were declared with."""

import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

__all__ = ["check_fields", "check_type"]

_LARGEST = 10**18  #: of whole numbers; larger ones overflow where they become others
_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "nothing",
    dict: "a mapping",
}


def check_fields(content: Mapping[Any, Any], kind: type[Any]) -> None:
    """Refuse fields that are not of the types that a ``TypedDict`` or dataclass declares for them.

    Fields that are missing, or that it does not declare, are passed over.

    Raises:
        ValueError: one line that names the field.
    """
    for name, hint in get_type_hints(kind).items():
        if name in content:
            check_type(content[name], hint, name)


def check_type(value: Any, hint: Any, place: str) -> None:
    """Refuse a value of another type than ``hint``: a plain one, dict, list, tuple, union or Any.

    Raises:
        ValueError: one line that begins with ``place``.
    """
    origin, inside = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, types.UnionType):
        right = any(_is_plain(value, each) for each in inside)
    elif origin in (dict, list, tuple):
        right = isinstance(value, origin)
    else:
        right = hint is Any or _is_plain(value, hint)
    if not right:
        raise ValueError(f"{place} is {_shown(value)}, must be {_words(origin, inside)}")
    if inside and isinstance(value, dict):
        for name, each in value.items():
            check_type(name, inside[0], f"a name in {place}")
            check_type(each, inside[1], f"{place}.{name}")
    elif inside and isinstance(value, list | tuple):
        for number, each in enumerate(value):
            check_type(each, inside[0], f"{place}[{number}]")


def _is_plain(value: Any, kind: type[Any]) -> bool:
    if kind in (int, float) and isinstance(value, int):
        return type(value) is int and abs(value) < _LARGEST
    return isinstance(value, kind)


def _words(origin: Any, inside: tuple[Any, ...]) -> str:
    kinds = inside if origin in (Union, types.UnionType) else (origin,)
    return " or ".join(_WORDS.get(kind, f"a {kind.__name__}") for kind in kinds)


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= _LARGEST:
        return "a number of many digits"
    return f"{value!r:.60}" if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
