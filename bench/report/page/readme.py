"""Fill the marked places of a README from records, so that no number in it is typed by hand."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bench.errors import UserError
from bench.record.files import size_of_file, write_whole
from bench.report.derive.findings import Findings
from bench.report.derive.headline import Headline, headlines
from bench.report.page.answer import answer
from bench.report.page.blocks import Block, Bullets, Heading, Paragraph, table
from bench.report.page.formats import MISSING
from bench.report.page.markdown import render
from bench.report.page.tables.main_table import MAIN_COLUMNS, MAIN_DEFINITIONS
from bench.report.read.study import Study
from bench.report.table.rows import DEFINITIONS

MAX_ROWS = 10


def fill(readme: Path, found: Findings, report: Path) -> None:
    """Put the short table of ``found`` into ``readme``, and the answer where it has a place.

    ``report`` is the file that both are taken from. Raises UserError when the README lacks the
    place of the table, which is a pair of comments: ``<!-- results:begin -->`` and
    ``<!-- results:end -->``; the answer's are ``<!-- answer:begin -->`` and ``…:end -->``.
    """
    place = Path(os.path.relpath(report, readme.parent)).as_posix()
    results = render(short_table(found.study)).rstrip()
    results += f"\n\nFrom [{place}](<{place}>), which has the rest."
    text = replace(_read(readme), "results", results, readme)
    if "<!-- answer:begin -->" in text:
        text = replace(text, "answer", render([Bullets(tuple(answer(found)))]).rstrip(), readme)
    write_whole(readme, text.encode())


def short_table(study: Study) -> list[Block]:
    """Return what a README shows: the columns in sight of the page, and ten rows at most.

    What was trained comes before what was only timed. What all rows share stands in a sentence.
    """
    lines = sorted(headlines(study), key=lambda line: line.cell is None)
    shown = [column for column in MAIN_COLUMNS if column.first]
    told = [
        f"{column.heading} {', '.join(values)}"
        for column in MAIN_COLUMNS
        if column.shared and not column.first and column.heading != "epochs"
        if (values := [v for v in dict.fromkeys(map(column.cell, lines)) if v != MISSING])
    ]
    rows = [
        [_trainings(line) if column.heading == "seeds" else column.cell(line) for column in shown]
        for line in lines[:MAX_ROWS]
    ]
    headings = [c.heading.replace("seeds", "epochs × seeds") for c in shown]
    rest = len(lines) - MAX_ROWS
    more = [f"{rest} more rows are in the report."] if rest > 0 else []
    about = " ".join([f"Of all rows: {'; '.join(told)}."] * bool(told) + more)
    return [table(headings, rows), *([Paragraph(about)] if about else [])]


def _trainings(line: Headline) -> str:
    if line.cell is None or not line.cell.record.epochs:
        return MISSING
    return f"{line.cell.recipe.epochs} × {len(line.cell.runs)}"


def check(readme: Path) -> None:
    """Raise UserError where `fill` would, before anything is written."""
    replace(_read(readme), "results", "", readme)


def _read(readme: Path) -> str:
    try:
        size_of_file(readme)
        return readme.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"cannot read {readme}: it is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot read {readme}: {reason}") from None


def replace(text: str, name: str, content: str, readme: Path) -> str:
    """Return ``text`` with ``content`` between the comments that mark the place ``name``."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
    if found is None:
        raise UserError(f"{readme} has no place for it: {begin} … {end}")
    return f"{text[: found.start()]}{begin}\n{content}\n{end}{text[found.end() :]}"


def column_definitions() -> str:
    """Return COLUMNS.md: what every column of the main table and of results.csv means."""
    blocks: list[Block] = [
        Heading("What the columns mean", 1),
        Paragraph("Made by “make readme-table” from the code; not written by hand."),
        Paragraph(
            "Empty, – and null mean that something was not measured, never zero. No epoch is ever "
            "chosen by its test accuracy. A model's MACs are counted by two independent counters "
            "that must agree; normalisation, activations, pooling, additions and SE's scaling are "
            "in neither MACs nor FLOPs and are counted beside them. fp32 is true fp32 (TF32 off); "
            "runtime “eager” is plain PyTorch."
        ),
        Heading("The main table of report.md, report.html and the README"),
        table(("column", "definition"), list(MAIN_DEFINITIONS.items())),
        Heading("results.csv, results.parquet, bench.api.load and profile --json"),
        Paragraph(
            "One row per model × device × precision × runtime × mode × scenario × batch size. A "
            "quantity has the same name everywhere."
        ),
        table(("column", "definition"), list(DEFINITIONS.items())),
    ]
    return render(blocks)
