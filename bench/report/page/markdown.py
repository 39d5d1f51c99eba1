"""Turn the blocks of a report into Markdown."""

from __future__ import annotations

import html
from collections.abc import Sequence

from bench.report import escape
from bench.report.page.blocks import Block, Bullets, Code, Heading, Image, Paragraph, Table


def render(blocks: Sequence[Block]) -> str:
    """Return blocks as GitHub's Markdown, every text in them shown literally."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {escape.markdown(text)}"
        case Paragraph(text):
            return escape.markdown(text)
        case Bullets(items):
            return "\n".join(f"- {_item(lead, text)}" for lead, text in items)
        case Table(columns, rows, folded=folded):
            return _folded(folded, _table(columns, rows))
        case Code(lines):
            # Indented, not fenced: no line can close the block.
            return "\n".join(f"    {escape.one_line(line)}" for line in lines)
        case Image(title, name):
            return f"![{escape.markdown(title)}]({name}.png)"


def _folded(summary: str, text: str) -> str:
    if not summary:
        return text
    title = html.escape(escape.one_line(summary))
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def _item(lead: str, text: str) -> str:
    return f"**{escape.markdown(lead)}** {escape.markdown(text)}" if lead else escape.markdown(text)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [[escape.markdown(cell) for cell in row] for row in (columns, *rows)]
    lines.insert(1, ["---"] * len(columns))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
