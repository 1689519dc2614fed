"""What happens to values: of another type, out of every range, missing, or one too many."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

__all__ = ["WORDS", "Change", "changes"]

#: Instead of any value.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 10**30, -(10**400), 0.0, -0.5, 0.5, 1e-300, 1e300, 1e400,
    float("nan"), float("-inf"), "", " ", "x", "none", "../up", "a\nb", "\x00", "\u0130\u200d",
    "x" * 300, "/dev/null", [],
    [[]], [0], [-1, 2], [1, 2, 3], ["a"], [None], {}, {"a": 1}, {"": {}}, b"bytes",
)  # fmt: skip

#: Behind an option of the command line, or as the text of a value in YAML.
WORDS = (
    "", " ", "-1", "0", "1e400", "nan", ".nan", "-.inf", "1_000", "0x10", "1:30", "1e3", "٣", "null", "~",
    "true", "yes", "[]", "[1", "[1,2", "{}", "{a: 1}", "{a: {b: [c]}}", "*x", "&x 1", "&x [*x]", "!!int x",
    "!!bool x", "!!timestamp x", "!!binary x", "!!set {a}", "!!python/name:os.system",
    "!!python/object/apply:os.abort []",
    "2001-13-45", "'", '"', "a: b: c", "- a\n- b", "|", ">", "?", "%", "@", "`", "#", "---", "...",
    "--- a\n--- b",
    "\t", "\x07", "\u2028", "${HOME}", "$(id)", "{{ 1 }}", "[" * 400, "[" * 3000 + "]" * 3000, "{a: " * 500,
    "9" * 5000, "x" * 5000,
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One change: the value at `place` (keys and positions from the top) becomes `value`, or goes."""

    place: tuple[Any, ...]
    action: str
    value: Any = None

    def of(self, tree: Any) -> Any:
        """A changed copy of `tree`."""
        made = copy.deepcopy(tree)
        if not self.place:
            return self.value
        inside = made
        for step in self.place[:-1]:
            inside = inside[step]
        last = self.place[-1]
        if self.action == "drop":
            del inside[last]
        elif self.action == "add" and isinstance(inside, dict):
            inside["added"] = self.value
        elif self.action == "double" and isinstance(inside, list):
            inside.append(inside[last])
        else:
            inside[last] = self.value
        return made


def changes(tree: Any) -> st.SearchStrategy[Change]:
    """Of any value in a tree of mappings and lists."""
    return st.builds(
        Change,
        place=st.sampled_from([(), *_places(tree)]),
        action=st.sampled_from(("set", "set", "set", "drop", "add", "double")),
        value=st.sampled_from(VALUES),
    )


def _places(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield (*above, key)
        yield from _places(value, (*above, key))
