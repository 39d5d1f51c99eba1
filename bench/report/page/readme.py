"""Fill the marked places of a README from records, so that no number in it is typed by hand."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bench.errors import UserError
from bench.record.files import size_of_file, write_whole
from bench.report.page.blocks import Block, Heading, Paragraph, table
from bench.report.page.markdown import render
from bench.report.page.tables.main_table import MAIN_DEFINITIONS, main_table
from bench.report.read.load import load
from bench.report.read.study import study
from bench.report.table.rows import DEFINITIONS


def fill(readme: Path, folders: list[Path], link: Path | None = None) -> None:
    """Put the main table of all records in ``folders`` into ``readme``.

    ``link`` is the report that the table is taken from. Raises UserError when there are no records
    or the README lacks a marked place, which is a pair of comments such as
    ``<!-- results:begin -->`` and ``<!-- results:end -->``.
    """
    results = render(main_table(study(load(folders)))).rstrip()
    if link is not None:
        place = Path(os.path.relpath(link, readme.parent)).as_posix()
        results += f"\n\nFrom [{place}](<{place}>), which has the rest."
    text = replace(_read(readme), "results", results, readme)
    write_whole(readme, text.encode())


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
