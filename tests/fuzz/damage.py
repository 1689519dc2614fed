"""What happens to files: bytes that are flipped, cut, doubled or lost, and files that are something else."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.fixture_tree import remove

__all__ = ["Damage", "damages"]

BYTES = ("flip", "cut", "insert", "double", "zero", "append", "swap")
PLACES = ("empty", "missing", "folder", "loop", "binary", "bom")


@dataclass(frozen=True)
class Damage:
    """One kind of damage; `at` and `length` are places in a file, taken modulo its size."""

    kind: str
    at: int = 0
    length: int = 1
    bits: int = 255

    def apply(self, path: Path, others: Mapping[str, bytes]) -> None:
        """Damages the file; `others` are whole contents, by the name of a kind."""
        content = path.read_bytes()
        remove(path)
        if self.kind == "folder":
            path.mkdir()
        elif self.kind == "loop":
            path.symlink_to(path.name)
        elif self.kind != "missing":
            path.write_bytes(others[self.kind] if self.kind in others else self.of(content))

    def of(self, content: bytes) -> bytes:
        """The damaged content of a file."""
        at = self.at % max(1, len(content))
        part = content[at : at + self.length]
        return {
            "flip": content[:at] + bytes(each ^ self.bits for each in part) + content[at + len(part) :],
            "cut": content[:at],
            "insert": content[:at] + bytes([self.bits]) * self.length + content[at:],
            "double": content[:at] + part + content[at:],
            "zero": content[:at] + bytes(len(part)) + content[at + len(part) :],
            "append": content + part,
            "swap": content[at:] + content[:at],
            "empty": b"",
            "binary": b"\xff\xfe\x00\x80" + content,
            "bom": b"\xef\xbb\xbf" + content,
        }[self.kind]


def damages(others: Mapping[str, bytes]) -> st.SearchStrategy[Damage]:
    """Half the examples damage bytes, most of them near the front, where the headers are."""
    place = st.one_of(st.integers(0, 80), st.integers(0, 400), st.integers(0, 10**6), st.integers(-400, -1))
    of_bytes = st.builds(
        Damage,
        kind=st.sampled_from(BYTES),
        at=place,
        length=st.sampled_from((1, 2, 4, 8, 64, 1000)),
        bits=st.one_of(st.sampled_from((1, 128, 255)), st.integers(1, 255)),
    )
    of_files = st.builds(Damage, kind=st.sampled_from((*PLACES, *others)))
    return st.one_of(of_bytes, of_files)
