"""The rows of settings.yaml: what each changes, and with what it is compared."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from crfnet.config.variants import check_choices
from crfnet.errors import InputError, require
from crfnet.files import read_yaml


@dataclass(frozen=True)
class Row:
    """One way to have a CRF behind the network.

    Attributes:
        name: of the row.
        changes: keys of the configuration, and what they become.
        crf: whether there is one.
        start: the CRF's numbers at first: searched, or those of the config.
        train: whether it is trained then; without, it is tested as it starts.
        network: frozen, or trained with the CRF.
        of: the row whose trained CRF is tested, under other changes; this row trains nothing then.
        against: the row that it is compared with; empty for none.
        images: how many of the reported images are tested, evenly among all; 0 for all.
        paper: what CRF-as-RNN's section 7.1 says of the same difference, in points.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    crf: bool = True
    start: Literal["searched", "config"] = "searched"
    train: bool = True
    network: Literal["frozen", "trained"] = "frozen"
    of: str = ""
    against: str = ""
    images: int = 0
    paper: str = ""

    @property
    def trains(self) -> bool:
        return self.crf and self.train and not self.of

    def words(self) -> list[str]:
        """The changes as options of a command."""
        return words(self.changes)


def words(changes: Mapping[str, Any]) -> list[str]:
    plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in changes.items()}
    return [word for key, value in plain.items() for word in (f"--{key}", value)]


def read_settings(path: Path) -> tuple[list[str], list[Row]]:
    """The options that all rows share, and the rows.

    Raises:
        InputError: the file cannot be read as such; a row that is compared with, or of, none that is there.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or not {"rows"} <= content.keys() <= {"shared", "rows"}:
        raise InputError(f"{path}: must hold rows, and may hold shared, which they have in common")
    shared = words(content.get("shared") or {})
    try:
        rows = [Row(name, **(row or {})) for name, row in content["rows"].items()]
    except (AttributeError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as rows ({error})") from error
    _check(path, rows)
    return shared, rows


def _check(path: Path, rows: Sequence[Row]) -> None:
    names = {row.name for row in rows}
    for place_in_file, row in enumerate(rows):
        place, before = f"{path}: {row.name}: ", [each.name for each in rows[:place_in_file] if each.trains]
        check_choices(row, place)
        mapping = isinstance(row.changes, dict) and isinstance(row.images, int)
        require(f"{place}changes", row.changes, mapping, "keys of the configuration with their values")
        others = "the name of another row, or nothing"
        require(f"{place}against", row.against, row.against in names - {row.name} | {""}, others)
        require(f"{place}of", row.of, row.of in {*before, ""}, "a row above that trains its CRF, or nothing")
        require(f"{place}images", row.images, row.images >= 0, ">= 0")


def with_needed(rows: Sequence[Row], only: str) -> list[Row]:
    """Those whose name holds a text, with all that they are made of and compared with."""
    needed = {row.name for row in rows if only in row.name}
    while (
        others := {name for row in rows if row.name in needed for name in (row.of, row.against)}
        - needed
        - {""}
    ):
        needed |= others
    return [row for row in rows if row.name in needed]
