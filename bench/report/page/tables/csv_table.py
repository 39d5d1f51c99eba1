"""Write the tidy table as CSV and as Parquet."""

from __future__ import annotations

import csv
import io

from bench.report import escape
from bench.report.read.study import Study
from bench.report.table.column import Value
from bench.report.table.rows import DEFINITIONS, frame, in_one_cell, rows


def to_csv(study: Study) -> str:
    """Return the table as CSV; cells that a spreadsheet would run are defused."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(DEFINITIONS)
    for row in rows(study):
        writer.writerow([_csv_cell(value) for value in row.values()])
    return text.getvalue()


def to_parquet(study: Study) -> bytes:
    """Return the table as Parquet; needs the extra ``parquet`` (pyarrow)."""
    file = io.BytesIO()
    frame(study).to_parquet(file, engine="pyarrow", index=False)
    return file.getvalue()


def _csv_cell(value: Value) -> str | int | float | bool | None:
    told = in_one_cell(value)
    if isinstance(told, str):
        return escape.csv_cell(told)
    return format(told, ".8g") if isinstance(told, float) else told
