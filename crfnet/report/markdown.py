"""A document as Markdown, its pictures as PNG files."""

import html
from collections.abc import Iterator, Sequence

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
    png_of,
)

__all__ = ["markdown", "png_files"]


def markdown(document: Document) -> str:
    """The whole text; pictures are links to the files of `png_files`."""
    parts = [f"# {document.title}", *map(_block, document.lead)]
    for section in document.sections:
        parts += [f"## {section.title}", *map(_block, section.blocks)]
    return "\n\n".join(parts) + "\n"


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


def _block(block: Block) -> str:  # noqa: PLR0911
    match block:
        case Text(text):
            return text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Plot() | Picture():
            return f"![{block.alt}]({block.name}.png)"
        case Folded(summary, blocks):
            inside = (f"<details>\n<summary>{html.escape(summary)}</summary>", *map(_block, blocks))
            return "\n\n".join((*inside, "</details>"))
        case Gallery():
            return _table(block.table)
    return _table(block)


def _table(table: Table) -> str:
    rule = ["---", *("---:" if table.numbers else "---" for _ in table.header[1:])]
    rows = "\n".join((_row(table.header), f"| {' | '.join(rule)} |", *map(_row, table.rows)))
    return f"{table.note}\n\n{rows}" if table.note else rows


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in cells)} |"
