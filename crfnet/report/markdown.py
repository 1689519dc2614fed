"""A document as Markdown, its pictures as PNG files."""

import re
from collections.abc import Sequence

from crfnet.report.document import (
    Block,
    Bullets,
    Document,
    Gallery,
    Picture,
    Plot,
    Table,
    Text,
    plain,
    png_of,
)

__all__ = ["markdown", "png_files"]

_HTML = re.compile(r"(?P<code>\\.|(?<!`)`[^`\n]+`(?!`))|(?P<html><|&(?=[#\w]+;))")


def markdown(document: Document) -> str:
    """The whole text; pictures are links to the files of `png_files`."""
    parts = [f"# {plain(document.title)}", *map(_block, document.lead)]
    for section in document.sections:
        parts += [f"## {section.title}", *map(_block, section.blocks)]
    return _without_html("\n\n".join(parts)) + "\n"


def _without_html(text: str) -> str:
    """The text with every tag and entity as the characters that it is made of; those in code are so already.

    A run of several backticks begins no code of ours.
    """
    escaped = {"<": "&lt;", "&": "&amp;"}
    return _HTML.sub(lambda mark: mark["code"] or escaped[mark["html"]], text)


def png_files(document: Document) -> dict[str, bytes]:
    """What lies beside the Markdown, by file name: its pictures."""
    blocks = [*document.lead, *(block for section in document.sections for block in section.blocks)]
    plots = {f"{block.name}.png": png_of(block.figure) for block in blocks if isinstance(block, Plot)}
    return plots | {f"{block.name}.png": block.png for block in blocks if isinstance(block, Picture)}


def _block(block: Block) -> str:
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
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
