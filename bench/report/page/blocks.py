"""What a report is made of, before it becomes Markdown or HTML.

All text in blocks is raw: each renderer escapes it, so that no name can become markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.record.environment import Environment
from bench.report.page.formats import number, span
from bench.report.read.profiled import CostRow
from bench.report.read.timings import Timing


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 to 3."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list; each item is a lead, shown bold and possibly empty, and a text."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """A table of text; every row has a cell for each column.

    On a terminal, columns in ``words`` fold where there is no room, the others are numbers and
    stand whole. On the page, columns in ``first`` are in sight and the rest can be chosen; all are
    where it is empty. Of ``shared`` ones a value that all rows have is said once.
    In Markdown one that is ``folded`` under a summary is seen by who opens it.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    words: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    folded: str = ""


@dataclass(frozen=True)
class Code:
    """Commands, one a line."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Image:
    """A chart in a file beside the report, without its ending."""

    title: str
    name: str


Block = Heading | Paragraph | Bullets | Table | Code | Image


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    words: Sequence[str] = (),
    first: Sequence[str] = (),
    shared: Sequence[str] = (),
    folded: str = "",
) -> Table:
    """Return a table of the rows given as any sequences."""
    cells = tuple(tuple(row) for row in rows)
    kinds = tuple(words), tuple(first), tuple(shared)
    return Table(tuple(columns), cells, title, *kinds, folded)


def place(row: CostRow) -> str:
    """Return device, precision and runtime in one cell."""
    return f"{device(row.environment)}, {row.first.precision}, {row.first.runtime}"


def rate(timing: Timing) -> str:
    """Return img/s, with the interval over processes where there are several."""
    return number(timing.throughput) if timing.num_processes == 1 else span(timing.rate)


def device(env: Environment) -> str:
    """Return a device with its name, where that says more."""
    name = f" ({env.device_name})" if env.device_name.lower() != env.device else ""
    return f"{env.device}{name}"
