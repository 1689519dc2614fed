"""Where a search ended at the edge of what it tried: better values may lie beyond."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crfnet.errors import InputError
from crfnet.files import read_yaml, regular
from crfnet.report.arms import ArmResult
from crfnet.search.grid import AXES
from crfnet.search.result_files import BEST_FILE, TABLE_FILE

__all__ = ["Edge", "arms_at_edges", "search_edges"]

#: Searched parameters, with the section of a config that says which values are tried.
_SECTIONS = dict.fromkeys(AXES, "search") | dict.fromkeys(("sigma_s", "sigma_r"), "domain_transform_search")


class Edge(NamedTuple):
    """A parameter whose chosen value is the last of those that were tried.

    Attributes:
        section: of the configuration, in which its values stand.
        name: of the parameter.
        value: that was chosen.
        largest: whether it is the largest or the smallest one.
    """

    section: str
    name: str
    value: float
    largest: bool

    @property
    def beyond(self) -> str:
        """An option with values to try next: this one and two further ones."""
        steps = (1, 2, 4) if self.largest else (0.25, 0.5, 1)
        values = [self.value * step for step in steps]
        if self.name == "iterations":
            values = sorted({max(1, round(value)) for value in values})
        return f'--{self.section}.{self.name} "[{",".join(f"{value:g}" for value in values)}]"'


def arms_at_edges(arms: Sequence[ArmResult]) -> dict[tuple[Edge, ...], list[str]]:
    """The arms whose search, of any seed, ended at an edge, by where it did; each search counts once."""
    searches: dict[Path, str] = {}
    for arm in arms:
        for each in arm.seeds:
            if each.search_folder is not None:
                searches.setdefault(each.search_folder, arm.name)
    edges: dict[str, list[Edge]] = {}
    for folder, name in searches.items():
        edges.setdefault(name, []).extend(search_edges(folder))
    users: dict[tuple[Edge, ...], list[str]] = {}
    for name, found in edges.items():
        if found:
            users.setdefault(tuple(sorted(set(found), key=_order)), []).append(name)
    return users


def search_edges(folder: Path) -> list[Edge]:
    """What the files of a search say; nothing where they are missing or of another kind.

    A parameter with one value was not searched; a weight of 0 and one iteration have nothing below them.
    """
    try:
        chosen = dict(_numbers(read_yaml(folder / BEST_FILE)))
        with regular(folder / TABLE_FILE).open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        tried = {name: {float(row[name]) for row in rows} for name in _SECTIONS if rows and name in rows[0]}
    except (InputError, OSError, ValueError, TypeError, csv.Error):
        return []
    found = []
    for name, values in tried.items():
        if len(values) < 2 or name not in chosen:
            continue
        least = 1 if name == "iterations" else 0  # there is nothing below
        for edge, largest in ((max(values), True), (min(values), False)):
            if (largest or edge > least) and math.isclose(chosen[name], edge, rel_tol=1e-6):
                found.append(Edge(_SECTIONS[name], name, chosen[name], largest))
    return found


def _numbers(content: Any) -> Iterator[tuple[str, float]]:
    """The numbers of a mapping, and of those inside it."""
    if not isinstance(content, Mapping):
        return
    for name, value in content.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield name, float(value)
        else:
            yield from _numbers(value)


def _order(edge: Edge) -> int:
    return [*_SECTIONS].index(edge.name)
