"""Turn tables and findings into what a terminal shows: the third renderer, by rich."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from bench.report import escape
from bench.report.page import blocks

# Of 80 columns the words may take this many, which leaves room for the numbers.
WIDTH = 80
WORDS_WIDTH = 34
LEAST_WORD = 8
PIPE_WIDTH = 160  # where no screen sets a limit: a cell that is cut tells nothing to who reads it


def console() -> Console:
    """Return where tables are printed, with room for whole cells where that is no screen."""
    made = Console(highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPE_WIDTH
    return made


def render(table: blocks.Table, styles: Sequence[str] = ()) -> RichTable:
    """Return a table for a terminal: words fold where there is no room, numbers stand whole.

    ``styles`` colours the rows, one style each.
    """
    many = len(table.columns) > 7
    drawn = RichTable(
        title=Text(table.title) if table.title else None,
        title_justify="left",
        title_style="italic",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        # A screen of 80 columns holds the names whole, with a column more if they stand closer.
        padding=(0, 0 if many and table.words else 1, 0, 0),
    )
    widths = _least_widths(table)
    for name in table.columns:
        if name in table.words:
            drawn.add_column(_text(name), overflow="fold", min_width=widths[name])
        else:
            drawn.add_column(_text(name), justify="right", no_wrap=True)
    for i, row in enumerate(table.rows):
        drawn.add_row(*map(_text, row), style=styles[i] if styles else None)
    return drawn


def _least_widths(table: blocks.Table) -> dict[str, int]:
    """Return how narrow the columns of words may get: names are not broken if they all fit."""
    every = {
        name: max((len(line) for cell in cells for line in cell.split("\n")), default=0)
        for name, *cells in zip(table.columns, *table.rows, strict=True)
    }
    longest = {name: width for name, width in every.items() if name in table.words}
    numbers = sum(max(len(name), every[name]) + 1 for name in every if name not in longest)
    room = min(WORDS_WIDTH, WIDTH - numbers - len(longest))
    share = room if sum(longest.values()) <= room else room // max(1, len(longest))
    return {name: max(1, min(width, max(LEAST_WORD, share))) for name, width in longest.items()}


def _text(cell: str) -> Text:
    """Return a cell's lines literally: nothing in them is markup or moves the cursor."""
    return Text("\n".join(escape.one_line(line) for line in cell.split("\n")))


def bullets(items: Sequence[tuple[str, str]]) -> Text:
    """Return lines with their leads bold, such as the verdict's."""
    text = Text()
    for lead, told in items:
        text.append(f"\n{escape.one_line(lead)} ", style="bold")
        text.append(escape.one_line(told))
    return text
