"""Configurations in which one of several variants is chosen, each with parameters of its own.

A field made by `variant` holds an instance of one class of a table:
``filter: GaussianFilter | str = variant(FILTERS, "permutohedral")``; a name makes an instance with defaults.
In a file and on the command line it is a name and, beside it, a section of that name with the parameters of
the class: ``{filter: local, local: {window: 5}}``. A field made by `section` is one that may only be given
where another field has a certain value.
"""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from crfnet.errors import InputError, require

__all__ = [
    "build",
    "check_choices",
    "free",
    "free_keys",
    "homes",
    "name_of",
    "schema",
    "section",
    "to_plain",
    "variant",
]

_T = TypeVar("_T")
_TABLE, _CHOICE, _FREE = "variants", "choice", "free"  # keys of a field's metadata


def variant(table: Mapping[str, type[Any]], default: str) -> Any:
    """Declare a field that holds an instance of a class in ``table``; see `check_choices` for names."""
    return dataclasses.field(default_factory=table[default], metadata={_TABLE: table})


def section(kind: type[Any], choice: str, names: Collection[str]) -> Any:
    """Declare a field, a dataclass ``kind``, that matters only where the field ``choice`` is in ``names``."""
    return dataclasses.field(default_factory=kind, metadata={_CHOICE: (choice, names)})


def free(default: Any) -> Any:
    """Declare a field that changes no result: it may differ where a run goes on, or between seeds."""
    return dataclasses.field(default=default, metadata={_FREE: True})


def name_of(table: Mapping[str, type[Any]], value: object) -> str:
    """The name in ``table`` of a value's class; its own name where the class is not in it."""
    return next((name for name, kind in table.items() if type(value) is kind), type(value).__name__)


def check_choices(config: Any, place: str) -> None:
    """Make instances of variants that are given by name, and refuse what is none of the choices.

    For ``__post_init__`` of a frozen dataclass. Fields of the type ``Literal`` are checked as well.

    Raises:
        InputError: a field holds something else; the line begins with ``place``, as ``crf.``.
    """
    for field, hint in _fields(type(config)):
        value, table = getattr(config, field.name), field.metadata.get(_TABLE)
        if table is not None and isinstance(value, str):
            require(place + field.name, value, value in table, f"one of {', '.join(table)}")
            object.__setattr__(config, field.name, table[value]())
        elif table is not None:
            allowed = f"one of {', '.join(table)}, or an instance of one"
            require(place + field.name, value, isinstance(value, hint), allowed)
        elif get_origin(hint) is Literal:
            allowed = f"one of {', '.join(map(str, get_args(hint)))}"
            require(place + field.name, value, value in get_args(hint), allowed)


def schema(kind: type[Any], default: Any = None) -> type[Any]:
    """A dataclass of what a file may hold for ``kind``: names for variants, and a section for each of them.

    Args:
        kind: a dataclass; those within are treated likewise.
        default: an instance with the defaults.
    """
    default = kind() if default is None else default
    made: dict[str, tuple[str, Any, Any]] = {}

    def add(name: str, hint: Any, value: Any) -> None:
        if name in made:
            raise TypeError(f"{kind.__name__}: {name} is the name of two fields or variants, must be of one")
        made[name] = (name, hint, value)

    for field, hint in _fields(kind):
        value, table = getattr(default, field.name), field.metadata.get(_TABLE)
        if table is not None:
            add(field.name, Literal[tuple(table)], name_of(table, value))
            for name, each in table.items():
                if dataclasses.fields(each):
                    own = schema(each, value if type(value) is each else None)
                    add(name, own, dataclasses.field(default_factory=own))
        elif dataclasses.is_dataclass(hint):
            inner = schema(hint, value)  # type: ignore[arg-type]
            add(field.name, inner, dataclasses.field(default_factory=inner))
        else:
            add(field.name, hint, value)
    result = dataclasses.make_dataclass(kind.__name__, made.values(), frozen=True)
    result.__doc__, result.__module__ = kind.__doc__, kind.__module__
    return result


def build(kind: type[_T], given: Mapping[str, Any], place: str = "", default: _T | None = None) -> _T:
    """The configuration that values of the types of its `schema` stand for.

    Args:
        kind: the dataclass to make.
        given: what a file says, in the form of `to_plain`; what is left out keeps its default.
        place: the section, as ``crf.``; empty for a whole file.
        default: an instance with the defaults.

    Raises:
        InputError: a section of a variant that is not chosen, or what ``kind`` itself refuses.
    """
    default = kind() if default is None else default
    left, values = dict(given), dict[str, Any]()
    for field, hint in _fields(kind):
        old, table = getattr(default, field.name), field.metadata.get(_TABLE)
        if table is not None:
            name = left.pop(field.name, name_of(table, old))
            require(place + field.name, name, name in table, f"one of {', '.join(table)}")
            start = old if type(old) is table[name] else None
            values[field.name] = build(table[name], left.pop(name, {}), f"{place}{name}.", start)
            for other in table:
                if other in left:
                    raise InputError(_unchosen(f"{place}{other}", left[other], place + field.name, name))
        elif field.name in left:
            value, key = left.pop(field.name), place + field.name
            values[field.name] = build(hint, value, f"{key}.", old) if _is_section(hint) else value
    for name in left:
        raise InputError(f"unknown key {place}{name}")
    _refuse_sections(kind, given, place, {**_plain_values(default), **values})
    try:
        return dataclasses.replace(default, **values)  # type: ignore[type-var]
    except InputError as error:
        raise InputError(_placed(str(error), place)) from error


def to_plain(value: Any) -> Any:
    """A configuration as YAML can hold it: mappings, lists, text; of variants the chosen one alone."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain: dict[str, Any] = {}
        for field in dataclasses.fields(value):
            item, table = getattr(value, field.name), field.metadata.get(_TABLE)
            if table is not None:
                plain[field.name] = name = name_of(table, item)
                if own := to_plain(item):
                    plain[name] = own
            elif _applies(field, vars(value)):
                plain[field.name] = to_plain(item)
        return plain
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def homes(kind: type[Any], key: str) -> list[str]:
    """Where a parameter of a variant belongs that stands beside the choice instead, as ``crf.window``.

    Args:
        kind: the dataclass of the whole file.
        key: what the file has; it may be ``name_key`` for the key of a section.

    Returns:
        The keys that take it, none for a key that no variant has.
    """
    *path, last = key.split(".")
    for name in path:
        kind = {field.name: hint for field, hint in _fields(kind)}.get(name, object)
        if not dataclasses.is_dataclass(kind):
            return []
    inside = {name: each for field, hint in _fields(kind) for name, each in _sections(field, hint).items()}
    return [
        ".".join((*path, name, own.name))
        for name, each in inside.items()
        for own in dataclasses.fields(each)
        if last in (own.name, f"{name}_{own.name}")
    ]


def free_keys(kind: type[Any], prefix: str = "") -> set[str]:
    """The keys that `free` declares, ``section.key``, in a dataclass and all that it holds."""
    keys: set[str] = set()
    for field, hint in _fields(kind):
        if field.metadata.get(_FREE):
            keys.add(prefix + field.name)
        elif _is_section(hint):
            keys |= free_keys(hint, f"{prefix}{field.name}.")
    return keys


def _fields(kind: type[Any]) -> list[tuple[dataclasses.Field[Any], Any]]:
    """The fields of a dataclass with their types."""
    hints = get_type_hints(kind)
    return [(field, hints[field.name]) for field in dataclasses.fields(kind)]


def _is_section(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _sections(field: dataclasses.Field[Any], hint: Any) -> dict[str, type[Any]]:
    """The sections that hang on a choice."""
    if _CHOICE in field.metadata:
        return {field.name: hint}
    return dict(field.metadata.get(_TABLE, {}))


def _applies(field: dataclasses.Field[Any], values: Mapping[str, Any]) -> bool:
    choice, names = field.metadata.get(_CHOICE, (None, ()))
    return choice is None or values[choice] in names


def _plain_values(config: Any) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def _refuse_sections(
    kind: type[Any], given: Mapping[str, Any], place: str, values: Mapping[str, Any]
) -> None:
    """Refuse a section that the file has and that no choice asks for."""
    for field in dataclasses.fields(kind):
        if field.name in given and not _applies(field, values):
            choice, _ = field.metadata[_CHOICE]
            raise InputError(_unchosen(place + field.name, given[field.name], place + choice, values[choice]))


def _unchosen(key: str, content: Any, choice: str, name: str) -> str:
    key = ".".join([key, *list(content)[:1]]) if isinstance(content, Mapping) else key
    return f"{key} is given, but {choice} is {name}, which has no such key"


def _placed(message: str, place: str) -> str:
    """A message about a key with the section in front, unless it says that already."""
    parts = place.split(".")[:-1]
    for number in range(len(parts)):
        if message.startswith((".".join(parts[number:]) + ".", ".".join(parts[number:]) + ":")):
            return ".".join((*parts[:number], message))
    return place + message
