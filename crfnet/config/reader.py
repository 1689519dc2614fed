"""A YAML file and options of the command line -> a frozen dataclass, or one line that names the wrong key."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from crfnet.config.content import check_content, check_key, check_rows, check_size, is_section
from crfnet.config.schema import build, homes, override, schema, why_gone
from crfnet.config.variants import ROWS, declared
from crfnet.errors import InputError
from crfnet.files import one_line, read_yaml

__all__ = ["parser", "read_config"]

_T = TypeVar("_T")
_IN_WORDS: dict[Any, str] = {
    ROWS: "names with their sections",
    int: "integer",
    float: "number",
    bool: "true or false",
    str: "text",
    Path: "path",
    type(None): "null",
}
_QUOTE = "in quotes where YAML would read a number, or yes, no, on, off, null as something else"
_ARTICLES = {"integer": "an ", "number": "a ", "path": "a "}


def parser(kind: type[Any], prog: str) -> ArgumentParser:
    """The parser of a configuration, whose help is the documentation of every key."""
    return _parser(schema(kind), prog)


def _parser(shape: type[Any], prog: str) -> ArgumentParser:
    made = ArgumentParser(
        prog=prog,
        exit_on_error=False,
        allow_abbrev=False,  # a mistyped key is unknown, on the command line as in a file
        description="Every key of a config file.",
    )
    made.add_argument("--config", action="config", help="the YAML file")
    made.add_class_arguments(shape, None)
    return made


def read_config(kind: type[_T], path: Path | None, overrides: Sequence[str] = (), *, prog: str = "") -> _T:
    """The configuration in the YAML file at ``path``, changed by ``overrides``.

    Args:
        kind: a dataclass whose fields all have defaults.
        path: None for the defaults.
        overrides: ``--section.key value ...``.
        prog: see `parser`.

    Raises:
        InputError: the file cannot be read; an unknown key, a wrong type or a value that is not allowed.
    """
    place = str(path) if path is not None else "command line"
    shape = schema(kind)
    reader = _parser(shape, prog)
    if path is not None:
        if not path.is_file():
            raise InputError(f"{path}: no such config file")
        if not isinstance(content := read_yaml(path), dict):
            raise InputError(f"{path}: holds {content!r:.60}, must be sections and keys of a config")
    try:
        given: dict[str, Any] = {}
        if path is not None:
            check_content(content, shape)
            given = _given(lambda: reader.parse_string(_text(path), defaults=False), shape)
            _read_rows(kind, given)
        config = build(kind, given)  # the file must be right by itself
        _check_options(overrides, shape)
        if not overrides:
            return config
        changes = _given(lambda: reader.parse_args(overrides, defaults=False), shape)
        _read_rows(kind, changes)
        return build(kind, override(kind, given, changes))
    except ArgumentError as error:
        raise InputError(f"{place}: {_explained(str(error), kind, shape)}") from error
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def _check_options(arguments: Sequence[str], shape: type[Any]) -> None:
    """Refuse an option that would have a file read; that is the one argument CONFIG."""
    for number, argument in enumerate(arguments):
        name, sign, value = argument.partition("=")
        key = name.removeprefix("--")
        if name == "--config":
            raise InputError("--config is no key, must be left out: the file stands behind the command")
        value = value if sign else next(iter(arguments[number + 1 : number + 2]), "")
        if name != key:
            check_key(key, key)
        if name != key and "class_path" in value:
            raise InputError(
                f"{key} is {value!r:.60}, must be keys with their values, none of them class_path"
            )
        if name != key and is_section(shape, key) and not value.lstrip().startswith("{"):
            raise InputError(f"{key} is {value!r:.60}, must be keys with their values")


def _text(path: Path) -> str:
    """The file, in UTF-8 whatever the locale says; read and checked before."""
    return path.read_text(encoding="utf-8-sig")


def _given(parse: Callable[[], Namespace], shape: type[Any]) -> dict[str, Any]:
    """What is given and nothing else, so that a section of a variant that is not chosen is seen."""
    try:
        given = parse()
    except (ArgumentError, InputError):
        raise
    except Exception as error:  # its YAML reader raises what int(), recursion and regular expressions do
        raise InputError(f"a value cannot be read ({one_line(error)})") from error
    given.pop("config", None)
    _refuse_null(given, shape)
    return dict(given.as_dict())


def _read_rows(kind: type[Any], given: dict[str, Any]) -> None:
    """Read mappings of names to sections, as ``own_arms``, in place."""
    for field in declared(kind):
        if field.of_sections is None or field.name not in given:
            continue
        check_rows(given[field.name], field.name)
        for name, row in given[field.name].items():
            place, shape = f"{field.name}.{name}", schema(field.of_sections)
            reader = _parser(shape, "")
            if "config" in row:
                raise InputError(_unknown("config", field.of_sections, shape, f"{place}."))
            try:
                given[field.name][name] = _given(lambda: reader.parse_object(row, defaults=False), shape)  # noqa: B023
            except ArgumentError as error:
                raise InputError(_explained(str(error), field.of_sections, shape, f"{place}.")) from error
            except InputError as error:
                raise InputError(f"{place}.{error}") from error


def _refuse_null(given: Namespace, kind: type[Any], prefix: str = "") -> None:
    """Jsonargparse takes null for every key, whatever its type, and a number for a section."""
    hints = get_type_hints(kind)
    for name, value in vars(given).items():
        hint = hints[name]
        check_size(value, prefix + name)
        if value is None and type(None) not in get_args(hint):
            raise InputError(f"{prefix}{name} is null, must be left out for its default")
        if value is not None and dataclasses.is_dataclass(hint):
            if not isinstance(value, Namespace):
                raise InputError(f"{prefix}{name} is {value!r:.60}, must be keys with their values")
            _refuse_null(value, hint, f"{prefix}{name}.")  # type: ignore[arg-type]


def _explained(message: str, kind: type[Any], shape: type[Any], place: str = "") -> str:
    """Jsonargparse's message in our words; ``place`` is what all keys are in, as ``own_arms.x.``."""
    message = re.sub(r"\S{120,}", lambda long: f"{long[0][:100]}...", " ".join(message.split()))
    message = message.replace("<class '", "").replace("'>", "")
    if wrong := re.fullmatch(r'Parser key "([\w.]+)": .*(?:Got|Given) value: (.*)', message):
        key, value = wrong.groups()
        hint = _hint(shape, key)
        return f"{place}{key} is {value}, must be {_in_words(hint)}{_quoting(hint, value)}"
    unknown = re.search(r"(?:Option '|unrecognized arguments: (?:--)?)([\w.-]+)", message)
    inside = re.search(r"Group '([\w.-]+)' does not accept option '([\w.-]+)'", message)
    if unknown is None and inside is None:
        return message
    return _unknown(".".join((unknown or inside).groups()), kind, shape, place)  # type: ignore[union-attr]


def _unknown(key: str, kind: type[Any], shape: type[Any], place: str = "") -> str:
    """Where an unknown key belongs, why there is none any more, or which are known."""
    if places := homes(kind, key):
        return f"{key} has moved: write {' or '.join(places)}"
    if reason := why_gone(kind, key):
        return f"{key} is gone: {reason}"
    known = _known_keys(shape)
    while key.rpartition(".")[0] not in ("", *known):
        key = key.rpartition(".")[0]  # of a section that does not exist, the section is what is wrong
    section, dot, last = key.rpartition(".")
    siblings = [name for name in known if name.rpartition(".")[0] == section]
    near = difflib.get_close_matches(last, [name.rpartition(".")[2] for name in siblings], n=1)
    meant = f"; did you mean {place}{section}{dot}{near[0]}?" if near else ""
    return f"unknown key {place}{key}{meant} (known: {', '.join(siblings)})"


def _hint(kind: Any, key: str) -> Any:
    for name in key.split("."):
        kind = get_type_hints(kind).get(name, object)
    return kind


def _in_words(hint: Any) -> str:
    """A type as a person would say it."""
    inside = get_args(hint)
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(str(each) or "''" for each in inside)
    if get_origin(hint) is tuple:
        number = "" if ... in inside else f"{len(inside)} "
        return f"a list of {number}{_IN_WORDS.get(inside[0], 'value')}s"
    if inside and hint != ROWS:  # of a mapping, or of a union
        return (": " if get_origin(hint) is dict else " or ").join(map(_in_words, inside))
    return _ARTICLES.get(_IN_WORDS.get(hint, ""), "") + _IN_WORDS.get(hint, str(hint))


def _quoting(hint: Any, value: str) -> str:
    """What to do about texts that YAML takes for something else, such as the name no or 0."""
    inside = get_args(hint)
    texts = hint != ROWS and (str in inside or any(str in get_args(each) for each in inside))
    return "" if not texts or "'" in value.partition(": ")[2] else f" ({_QUOTE})"


def _known_keys(kind: type[Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, hint in get_type_hints(kind).items():
        keys.append(prefix + name)
        if dataclasses.is_dataclass(hint):
            keys += _known_keys(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
    return keys
