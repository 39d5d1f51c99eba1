"""Fill the marked places of a README from records, so that no number in it is typed by hand."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bench.errors import UserError
from bench.record.files import write_whole
from bench.report.page.blocks import table
from bench.report.page.contents import MAIN_COLUMNS, main_table
from bench.report.page.csv_table import COLUMNS
from bench.report.page.markdown import render
from bench.report.read.load import load
from bench.report.read.study import study


def fill(readme: Path, folders: list[Path], link: Path | None = None) -> None:
    """Put the main table of all records in ``folders`` and both lists of columns into ``readme``.

    ``link`` is the report that the table is taken from. Raises UserError when there are no records
    or the README lacks a marked place, which is a pair of comments such as
    ``<!-- results:begin -->`` and ``<!-- results:end -->``.
    """
    results = render(main_table(study(load(folders)))).rstrip()
    if link is not None:
        place = Path(os.path.relpath(link, readme.parent)).as_posix()
        results += f"\n\nFrom [{place}](<{place}>), which has the rest."
    text = replace(_read(readme), "results", results, readme)
    text = replace(text, "main-columns", definitions(MAIN_COLUMNS), readme)
    text = replace(text, "columns", definitions(COLUMNS), readme)
    write_whole(readme, text.encode())


def _read(readme: Path) -> str:
    try:
        return readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"cannot read {readme}: {reason}") from None


def replace(text: str, name: str, content: str, readme: Path) -> str:
    """Return ``text`` with ``content`` between the comments that mark the place ``name``."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
    if found is None:
        raise UserError(f"{readme} has no place for it: {begin} … {end}")
    return f"{text[: found.start()]}{begin}\n{content}\n{end}{text[found.end() :]}"


def definitions(columns: dict[str, str]) -> str:
    """Return a table of columns and what they mean."""
    return render([table(("column", "definition"), list(columns.items()))]).rstrip()
