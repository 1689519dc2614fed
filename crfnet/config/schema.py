"""What a file may say for a configuration with variants, and the configuration that it stands for."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from crfnet.config.variants import declared, name_of
from crfnet.errors import InputError, require

__all__ = ["build", "homes", "override", "schema", "why_gone"]

_T = TypeVar("_T")


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

    for field in declared(kind):
        value = getattr(default, field.name)
        if field.table is not None:
            add(field.name, Literal[tuple(field.table)], name_of(field.table, value))
            for name, each in field.table.items():
                if dataclasses.fields(each):
                    own = schema(each, value if type(value) is each else None)
                    add(name, own, dataclasses.field(default_factory=own))
        elif field.is_section:
            inner = schema(field.hint, value)
            add(field.name, inner, dataclasses.field(default_factory=inner))
        else:
            add(field.name, field.plain_hint, _unshared(value))
    result = dataclasses.make_dataclass(kind.__name__, made.values(), frozen=True)
    result.__doc__, result.__module__ = kind.__doc__, kind.__module__
    return result


def _unshared(value: Any) -> Any:
    """A default as dataclasses take it: a mapping is made anew each time."""
    return dataclasses.field(default_factory=value.copy) if isinstance(value, dict) else value


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
    left = dict(given)
    values: dict[str, Any] = {name: getattr(default, name) for name in _names(kind)}
    for field in declared(kind):
        old = values[field.name]
        if field.table is not None:
            values[field.name] = _variant(field.name, field.table, left, place, old)
        elif field.name in left:
            value = left.pop(field.name)
            inner = f"{place}{field.name}."
            values[field.name] = build(field.hint, value, inner, old) if field.is_section else value
            if field.of_sections is not None:
                values[field.name] = {
                    name: build(field.of_sections, each, f"{inner}{name}.") for name, each in value.items()
                }
    for name in left:
        raise InputError(f"unknown key {place}{name}")
    _refuse_sections(kind, given, place, values)
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(_placed(str(error), place)) from error


def override(kind: type[Any], given: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says, changed on the command line: another choice drops the section of the file's one."""
    merged, sections = dict(given), {}
    for field in declared(kind):
        if field.is_section:
            sections[field.name] = field.hint
        choice = field.choice or ""
        if choice in changes and changes[choice] not in field.names:
            merged.pop(field.name, None)
        for name in field.table or ():
            if changes.get(field.name, name) != name:
                merged.pop(name, None)
    for name, value in changes.items():
        old = merged.get(name)
        if not (isinstance(old, Mapping) and isinstance(value, Mapping)):
            merged[name] = value
        else:
            merged[name] = override(sections[name], old, value) if name in sections else {**old, **value}
    return merged


def homes(kind: type[Any], key: str) -> list[str]:
    """Where a parameter of a variant belongs that stands beside the choice instead, as ``crf.window``.

    Args:
        kind: the dataclass of the whole file.
        key: what the file has; it may be ``name_key`` for the key of a section.

    Returns:
        The keys that take it, none for a key that no variant has.
    """
    *path, last = key.split(".")
    owner = _section(kind, path)
    inside: dict[str, type[Any]] = {}
    for field in declared(owner) if owner else ():
        inside |= {field.name: field.hint} if field.choice is not None else dict(field.table or {})
    return [
        ".".join((*path, name, own))
        for name, each in inside.items()
        for own in _names(each)
        if last in (own, f"{name}_{own}")
    ]


def why_gone(kind: type[Any], key: str) -> str:
    """What a section says of a key that earlier versions had, in its class attribute ``gone``; else nothing.

    Args:
        kind: the dataclass of the whole file.
        key: what the file has.
    """
    *path, last = key.split(".")
    return str(getattr(_section(kind, path), "gone", {}).get(last, ""))


def _section(kind: type[Any], path: Sequence[str]) -> type[Any] | None:
    """The dataclass of a section; None where there is no such one."""
    for name in path:
        inner = [field.hint for field in declared(kind) if field.name == name and field.is_section]
        if not inner:
            return None
        kind = inner[0]
    return kind


def _names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _variant(
    axis: str, table: Mapping[str, type[Any]], left: dict[str, Any], place: str, default: Any
) -> Any:
    """The chosen variant; its name and its section are taken out of ``left``."""
    chosen = axis in left or any(name in left for name in table)
    if not chosen:
        return default
    name = left.pop(axis, name_of(table, default))
    require(place + axis, name, name in table, f"one of {', '.join(table)}")
    for other in table:
        if other != name and other in left:
            raise InputError(_unchosen(f"{place}{other}", left[other], f"{place}{axis} is {name}"))
    start = default if type(default) is table[name] else None
    return build(table[name], left.pop(name, {}), f"{place}{name}.", start)


def _refuse_sections(
    kind: type[Any], given: Mapping[str, Any], place: str, values: Mapping[str, Any]
) -> None:
    """Refuse a section that no choice asks for."""
    for field in declared(kind):
        if field.choice is not None and field.name in given and not field.applies(values):
            choice = f"{place}{field.choice} is {values[field.choice]}"
            raise InputError(_unchosen(place + field.name, given[field.name], choice))


def _unchosen(key: str, content: Any, choice: str) -> str:
    key = ".".join([key, *list(content)[:1]]) if isinstance(content, Mapping) else key
    return f"{key} is given, but {choice}, which has no such key"


def _placed(message: str, place: str) -> str:
    """A message about a key with the section in front, unless it says that already."""
    parts = place.split(".")[:-1]
    for number in range(len(parts)):
        inside = ".".join(parts[number:])
        if message.startswith((f"{inside}.", f"{inside}:")):
            return ".".join((*parts[:number], message))
    return place + message
