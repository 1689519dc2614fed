"""Configurations in which one of several variants is chosen, each with parameters of its own.

A field made by `variant` holds an instance of one class of a table:
``filter: GaussianFilter | str = variant(FILTERS, "permutohedral")``; a name makes an instance with defaults.
In a file and on the command line it is a name and, beside it, a section of that name with the parameters of
the class: ``{filter: local, local: {window: 5}}``. A field made by `section` is one that may only be given
where another field has a certain value. `crfnet.config.schema` reads them.
"""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from crfnet.errors import require

__all__ = [
    "ROWS",
    "Declared",
    "check_choices",
    "declared",
    "free",
    "free_keys",
    "name_of",
    "section",
    "to_plain",
    "variant",
]

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


#: The type of a mapping of names to sections, as ``own_arms``, for jsonargparse: for values of a dataclass it
#: would import whatever module a ``class_path`` names.
ROWS = dict[str, dict[str, Any]]


class Declared(NamedTuple):
    """A field of a configuration.

    Attributes:
        name: of the field.
        hint: its type.
        table: of a `variant`; None for other fields.
        choice: of a `section`, the field that it hangs on; None for other fields.
        names: of a `section`, the values of ``choice`` for which it matters.
        free: whether it changes no result.
    """

    name: str
    hint: Any
    table: Mapping[str, type[Any]] | None
    choice: str | None
    names: Collection[str]
    free: bool

    @property
    def is_section(self) -> bool:
        """It is a configuration itself."""
        return isinstance(self.hint, type) and dataclasses.is_dataclass(self.hint)

    @property
    def plain_hint(self) -> Any:
        """Its type as jsonargparse is to know it: `ROWS` for a mapping of names to sections."""
        return self.hint if self.of_sections is None else ROWS

    @property
    def of_sections(self) -> type[Any] | None:
        """The dataclass of its values, where it is a mapping of names to such; else None."""
        if get_origin(self.hint) is not dict:
            return None
        kind: type[Any] = get_args(self.hint)[1]
        return kind if hasattr(kind, "__dataclass_fields__") else None

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Whether it matters in a configuration with those values."""
        return self.choice is None or values[self.choice] in self.names


def declared(kind: type[Any]) -> list[Declared]:
    """The fields of a dataclass."""
    hints = get_type_hints(kind)
    return [
        Declared(
            field.name,
            hints[field.name],
            field.metadata.get(_TABLE),
            field.metadata.get(_CHOICE, (None, ()))[0],
            field.metadata.get(_CHOICE, (None, ()))[1],
            field.metadata.get(_FREE, False),
        )
        for field in dataclasses.fields(kind)
    ]


def name_of(table: Mapping[str, type[Any]], value: object) -> str:
    """The name in ``table`` of a value's class; its own name where the class is not in it."""
    return next((name for name, kind in table.items() if type(value) is kind), type(value).__name__)


def check_choices(config: Any, place: str) -> None:
    """Make instances of variants that are given by name, and refuse what is none of the choices.

    For ``__post_init__`` of a frozen dataclass. Fields of the type ``Literal`` are checked as well.

    Raises:
        InputError: a field holds something else; the line begins with ``place``, as ``crf.``.
    """
    for field in declared(type(config)):
        value, table = getattr(config, field.name), field.table
        if table is not None and isinstance(value, str):
            require(place + field.name, value, value in table, f"one of {', '.join(table)}")
            object.__setattr__(config, field.name, table[value]())
        elif table is not None:
            allowed = f"one of {', '.join(table)}, or an instance of one"
            require(place + field.name, value, isinstance(value, field.hint), allowed)
        elif get_origin(field.hint) is Literal:
            choices = get_args(field.hint)
            require(place + field.name, value, value in choices, f"one of {', '.join(map(str, choices))}")


def to_plain(value: Any) -> Any:
    """A configuration as YAML can hold it: mappings, lists, text; of variants the chosen one alone."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain: dict[str, Any] = {}
        for field in declared(type(value)):
            item = getattr(value, field.name)
            if field.table is not None:
                plain[field.name] = name = name_of(field.table, item)
                if own := to_plain(item):
                    plain[name] = own
            elif field.applies(vars(value)):
                plain[field.name] = to_plain(item)
        return plain
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def free_keys(kind: type[Any], prefix: str = "") -> set[str]:
    """The keys that `free` declares, ``section.key``, in a dataclass and all that it holds."""
    keys: set[str] = set()
    for field in declared(kind):
        if field.free:
            keys.add(prefix + field.name)
        elif field.is_section:
            keys |= free_keys(field.hint, f"{prefix}{field.name}.")
    return keys
