"""A report as data: sections of texts, tables and pictures, from which Markdown and HTML are both written.

Texts are one line of Markdown of which four marks are known: ``code``, **bold**, [link](target) and a
backslash before a mark that is none. `plain` makes any string such a text.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import matplotlib
from jaxtyping import UInt8
from matplotlib.figure import Figure
from torch import Tensor

__all__ = [
    "Block",
    "Bullets",
    "Change",
    "Document",
    "Folded",
    "Gallery",
    "Picture",
    "Plot",
    "Section",
    "Table",
    "Text",
    "arm_label",
    "code",
    "plain",
    "png_of",
]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Cells of text, the first of each row its heading; a line end is where a cell may be broken.

    Attributes:
        caption: what a reader who does not see it should hear.
        header: of each column.
        rows: as long as the header.
        numbers: the columns after the first hold numbers, set to the right.
        note: a line that stands above the table; empty for none.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: bool = True
    note: str = ""


@dataclass(frozen=True)
class Plot:
    """A figure of lines, bars and words: ``name``.png beside the Markdown, drawn by the browser in HTML."""

    name: str
    alt: str
    figure: Figure


@dataclass(frozen=True)
class Picture:
    """A picture made of pixels, ``name``.png beside the Markdown; ``png`` is that file.

    Of one with many ``columns`` a phone shows four at a time.
    """

    name: str
    alt: str
    png: bytes
    columns: int = 0


@dataclass(frozen=True)
class Change:
    """An image with what two arms made of it.

    Attributes:
        id: of the image.
        before: score of the image by itself, as a fraction, of one arm.
        after: the same of the other.
        window: the part that is shown close up, as fractions of the image: top, left, height, width.
        close: that part of the image, of truth, and of what the arms made of it, by their names.
        image: as it is; the next three are the image under class colors, all of one size.
        truth: under those of the truth.
        overlay_before: under those of the one arm.
        overlay_after: under those of the other.
    """

    id: str
    before: float
    after: float
    window: tuple[float, float, float, float]
    close: Mapping[str, UInt8[Tensor, "3 _ _"]]
    image: UInt8[Tensor, "3 _ _"]
    truth: UInt8[Tensor, "3 _ _"]
    overlay_before: UInt8[Tensor, "3 _ _"]
    overlay_after: UInt8[Tensor, "3 _ _"]


@dataclass(frozen=True)
class Gallery:
    """Images that two arms label differently: a slider between the two in HTML, the numbers in Markdown.

    Attributes:
        before: name of the one arm.
        after: name of the other.
        changes: best first.
        legend: name and color (r, g, b in 0..255) of the classes that are seen.
        table: the changes as numbers.
    """

    before: str
    after: str
    changes: Sequence[Change]
    legend: Sequence[tuple[str, Sequence[int]]]
    table: Table


@dataclass(frozen=True)
class Folded:
    """What is shown on request.

    Attributes:
        summary: what is inside, plain text.
        blocks: of any kind but this.
    """

    summary: str
    blocks: Sequence["Block"]


Block: TypeAlias = Text | Bullets | Table | Plot | Picture | Gallery | Folded


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes:
        title: heading.
        lead: what stands before the first section.
        sections: the rest.
        files: by name, what texts link to: written beside the Markdown, carried inside the HTML.
    """

    title: str
    lead: Sequence[Block]
    sections: Sequence[Section]
    files: Mapping[str, bytes] = field(default_factory=dict)


def plain(text: str) -> str:
    """The text without meaning of its own: marks escaped, white space made single blanks."""
    return re.sub(r"([\\`*\[])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """The text as a command, a key or a name, letter by letter."""
    return f"`{text}`"


def arm_label(name: str) -> str:
    """An arm as every text and table names it."""
    return code(name)


def png_of(figure: Figure) -> bytes:
    """The figure as a PNG file, on white. Its layout, found here, is not sought again: that takes longest."""
    stream = io.BytesIO()
    with matplotlib.rc_context({"savefig.facecolor": "white"}):
        figure.savefig(stream, format="png")
    figure.set_layout_engine("none")
    return stream.getvalue()
