"""A document as Markdown, its pictures as PNG files."""

import html
import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from crfnet.report.document import (
    Block,
    Bullets,
    Document,
    Folded,
    Gallery,
    Picture,
    Plot,
    Table,
    Text,
    plain,
    png_of,
)

__all__ = ["markdown", "png_files"]

_Leaf: TypeAlias = Text | Bullets | Plot | Picture | Gallery | Table

_HTML = re.compile(r"(?P<code>\\.|(?<!`)`[^`\n]+`(?!`))|(?P<html><|&(?=[#\w]+;))")


def markdown(document: Document) -> str:
    """The whole text; pictures are links to the files of `png_files`."""
    parts = [_without_html(f"# {plain(document.title)}"), *map(_block, document.lead)]
    for section in document.sections:
        parts += [_without_html(f"## {section.title}"), *map(_block, section.blocks)]
    return "\n\n".join(parts) + "\n"


def _without_html(text: str) -> str:
    """The text with every tag and entity as the characters that it is made of; those in code are so already.

    A run of several backticks begins no code of ours.
    """
    escaped = {"<": "&lt;", "&": "&amp;"}
    return _HTML.sub(lambda mark: mark["code"] or escaped[mark["html"]], text)


def png_files(document: Document) -> dict[str, bytes]:
    """What lies beside the Markdown, by file name: its pictures."""
    blocks = [
        *_all(document.lead),
        *(block for section in document.sections for block in _all(section.blocks)),
    ]
    plots = {f"{block.name}.png": png_of(block.figure) for block in blocks if isinstance(block, Plot)}
    return plots | {f"{block.name}.png": block.png for block in blocks if isinstance(block, Picture)}


def _all(blocks: Sequence[Block]) -> Iterator[Block]:
    """The blocks, and those inside folded ones."""
    for block in blocks:
        yield block
        if isinstance(block, Folded):
            yield from _all(block.blocks)


def _block(block: Block) -> str:
    if not isinstance(block, Folded):
        return _without_html(_leaf(block))
    summary = f"<details>\n<summary>{html.escape(block.summary)}</summary>"  # the only tags
    return "\n\n".join((summary, *map(_block, block.blocks), "</details>"))


def _leaf(block: _Leaf) -> str:
    match block:
        case Text(text):
            return text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Plot() | Picture():
            return f"![{block.alt}]({block.name}.png)"
    return _table(block.table if isinstance(block, Gallery) else block)


def _table(table: Table) -> str:
    rule = ["---", *("---:" if table.numbers else "---" for _ in table.header[1:])]
    rows = "\n".join((_row(table.header), f"| {' | '.join(rule)} |", *map(_row, table.rows)))
    return f"{table.note}\n\n{rows}" if table.note else rows


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in cells)} |"
