"""Every field of the files that crfnet writes and reads again, and what else may stand there.

The fields are those in files that it wrote, so that a new one is tried without a word here; of values, those
of other types and out of every range.
"""

import copy
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from torch import Tensor

__all__ = ["Field", "columns", "dumped", "fields", "loaded", "set_column", "with_value", "wrong_values"]

_HUGE = 10**5000
#: Instead of a plain value, whatever it is.
_PLAIN: tuple[Any, ...] = (
    None, True, 0, -1, 10**19, _HUGE, -_HUGE, 0.5, 1e300, float("nan"), float("inf"), "", "x", "a\x1bb",
    "\ud800", "x" * 3000, [], [[]], {}, {"x": 1}, {1: 2},
)  # fmt: skip
#: Cells of a database: as they are stored, of whichever type the column is.
_CELLS = (None, -1, 2**62, 1e308, "", "x", "\x1b", "{}", "[]", "9" * 5000, "null", b"\xff\xfe", "x" * 3000)


class Field(NamedTuple):
    """A place in a file: keys and positions from the top, or table and column."""

    place: tuple[Any, ...]

    def __str__(self) -> str:
        return ".".join(map(str, self.place))


def loaded(path: Path) -> Any:
    """The content of a file of ours, as a tree of plain values, arrays and tensors."""
    readers: dict[str, Callable[[Path], Any]] = {
        ".pt": lambda path: torch.load(path, weights_only=True),
        ".npz": lambda path: dict(np.load(path)),
        ".yaml": lambda path: yaml.safe_load(path.read_text()),
        ".json": lambda path: json.loads(path.read_text()),
        ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
    }
    return readers.get(path.suffix, lambda path: path.read_text().splitlines())(path)


def dumped(path: Path, tree: Any) -> None:
    """Write a tree that need not be one of ours.

    Raises:
        ValueError: such a file cannot even be written.
    """
    if path.suffix == ".pt":
        torch.save(tree, path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: np.asarray(value) for name, value in tree.items()})
    elif path.suffix == ".yaml":
        path.write_text(_digits(yaml.dump, tree, sort_keys=False), errors="surrogateescape")
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{_digits(json.dumps, each)}\n" for each in tree))
    elif path.suffix == ".json":
        path.write_text(_digits(json.dumps, tree))
    else:
        path.write_text("".join(f"{line}\n" for line in tree), errors="surrogatepass")


def _digits(dump: Callable[..., str], tree: Any, **options: Any) -> str:
    """With whole numbers of more digits than Python shows, which a file may hold all the same."""
    marked = _replaced(
        tree, lambda value: "HUGE" if isinstance(value, int) and abs(value) == _HUGE else value
    )
    return dump(marked, **options).replace('"HUGE"', "1" + 5000 * "0").replace("HUGE", "0x" + "f" * 5000)


def _replaced(tree: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {key: _replaced(value, change) for key, value in tree.items()}
    return [_replaced(value, change) for value in tree] if isinstance(tree, list) else change(tree)


def fields(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[Field]:
    """Every place in a tree; of the entries of a list, and of weights of one kind, the first."""
    seen: set[Any] = set()
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        kind: Any = key
        if isinstance(value, Tensor):
            kind = (value.ndim, value.dtype, str(key).rpartition(".")[2])
        elif isinstance(tree, list) or isinstance(key, int):
            kind = (type(value), *(value if isinstance(value, dict) else ()))
        if kind not in seen:
            seen.add(kind)
            yield Field((*above, key))
            yield from fields(value, (*above, key))


def wrong_values(value: Any) -> Iterator[tuple[str, Any]]:
    """A name and a value for each of those that may stand in the place of ``value``."""
    if isinstance(value, Tensor):
        yield from _tensors(value)
    elif isinstance(value, np.ndarray):
        yield from _arrays(value)
    for number, other in enumerate(_PLAIN):
        yield f"plain {number}", other
    yield "gone", KeyError


def _tensors(value: Tensor) -> Iterator[tuple[str, Any]]:
    shape = tuple(value.shape)
    yield "another shape", torch.zeros(3, 2, 1)
    yield "no number", torch.zeros(0)
    yield "one number", torch.zeros(())
    yield "nan", torch.full(shape, float("nan"))
    yield "complex", torch.zeros(shape, dtype=torch.complex64)
    yield "bool", torch.zeros(shape, dtype=torch.bool)
    yield "sparse", torch.zeros(shape).to_sparse()
    yield "meta", torch.zeros(shape, device="meta")
    yield "400 GB", torch.zeros(1).expand(10**11)


def _arrays(value: np.ndarray) -> Iterator[tuple[str, Any]]:
    yield "negative", -np.abs(value) - 1 if value.dtype.kind in "if" else np.array(-1)
    yield "floats", np.full(value.shape, 0.5)
    yield "nan", np.full(value.shape, np.nan)
    yield "text", np.full(value.shape, "x")
    yield "another shape", np.zeros((3, 2, 1), value.dtype if value.dtype.kind in "if" else int)
    yield "no number", np.zeros((0,))
    yield "large", np.full(value.shape, 2**62)


def with_value(tree: Any, field: Field, value: Any) -> Any:
    """A copy of the tree with another value in a place; without the place for KeyError."""
    made = copy.copy(tree)
    step, *rest = field.place
    if rest:
        made[step] = with_value(tree[step], Field(tuple(rest)), value)
    elif value is KeyError:
        del made[step]
    else:
        made[step] = value
    return made


def columns(path: Path) -> list[tuple[Field, Any]]:
    """Every column of every table that has rows, and each of its other cells."""
    with sqlite3.connect(path) as base:
        tables = [name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = []
        for table in tables:
            if base.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]:
                names = [row[1] for row in base.execute(f'PRAGMA table_info("{table}")')]
                found += [(Field((table, name)), cell) for name in names for cell in _CELLS]
    base.close()
    return found


def set_column(path: Path, field: Field, cell: Any) -> bool:
    """Write a cell into a column of every row of a table; False where the database itself refuses that."""
    table, column = field.place
    base = sqlite3.connect(path)
    try:
        with base:
            base.execute("PRAGMA ignore_check_constraints = ON")
            base.execute(f'UPDATE "{table}" SET "{column}" = ?', (cell,))
    except sqlite3.Error:
        return False
    finally:
        base.close()
    return True
