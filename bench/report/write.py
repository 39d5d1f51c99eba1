"""Render a report into a folder: the only file of this package that writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bench.record.files import check_writable, size_of_file, write_set
from bench.report.derive.findings import Findings, findings
from bench.report.derive.seeds import NOTHING_STATED, Stated
from bench.report.page import html, markdown
from bench.report.page.blocks import Image
from bench.report.page.contents import TITLE, contents
from bench.report.page.model_card import model_cards
from bench.report.page.tables import csv_table
from bench.report.read.load import SetAside, load
from bench.report.read.study import Study, study

if TYPE_CHECKING:
    from bench.report.charts.draw import Chart


@dataclass(frozen=True)
class Rendered:
    """What was written, in order, and what it shows."""

    findings: Findings
    files: tuple[Path, ...]

    @property
    def study(self) -> Study:
        return self.findings.study

    @property
    def set_aside(self) -> tuple[SetAside, ...]:
        return self.findings.set_aside


def render(
    folders: Iterable[Path],
    out: Path,
    force: bool = False,
    price_per_hour: float | None = None,
    stated: Stated = NOTHING_STATED,
    model_card: bool = False,
) -> Rendered:
    """Write the report of all records in ``folders`` into ``out``: Markdown, HTML, CSV, charts.

    The same records give the same bytes; results.parquet comes with the extra ``parquet``.
    Charts of a former report in ``out`` that this one has no more are removed, no other file is.
    ``force`` shows differences between rows that may not be compared, marked as such, and
    ``price_per_hour`` adds what a million images cost; ``stated`` is what the user says of the luck
    of training; ``model_card`` adds a Hugging Face model card of each trained model. Raises
    UserError when there are no records
    or ``out`` cannot be written to.
    """
    from bench.report.charts.draw import charts  # matplotlib takes longer to import than to draw

    check_writable(out)
    shown = study(load(folders), price_per_hour)
    found = findings(shown, force, stated)
    drawn = charts(found)
    blocks = contents(found, [Image(chart.title, chart.name) for chart in drawn])
    files: dict[str, bytes] = {}
    for chart in drawn:
        files |= {f"{chart.name}.png": chart.png, f"{chart.name}.svg": chart.svg}
    files["results.csv"] = csv_table.to_csv(shown).encode()
    if find_spec("pyarrow"):
        files["results.parquet"] = csv_table.to_parquet(shown)
    if model_card:
        files |= model_cards(found)
    files["report.html"] = _page(found, drawn).encode()
    files["report.md"] = markdown.render(blocks).encode()
    write_set(out, files, without=_former_charts(out / "report.md") - files.keys())
    return Rendered(found, tuple(out / name for name in files))


# An image of a report of ours; its name holds no folder.
_IMAGE = re.compile(r"^!\[.*\]\(([0-9A-Za-z][0-9A-Za-z.-]*)\.png\)$", re.MULTILINE)


def _former_charts(report: Path) -> set[str]:
    """Return the files of the charts that the report there shows; nothing if it is not ours."""
    try:
        size_of_file(report)
        text = report.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return set()
    if not text.startswith(f"# {TITLE}\n"):
        return set()
    return {f"{name}.{ending}" for name in _IMAGE.findall(text) for ending in ("png", "svg")}


def _page(found: Findings, drawn: Sequence[Chart]) -> str:
    """Return report.html; it draws accuracy against cost itself, so it takes the other charts."""
    still = [chart for chart in drawn if not chart.explorable]
    blocks = contents(found, [Image(chart.title, chart.name) for chart in still])
    return html.page(found, blocks, {chart.name: chart.svg for chart in still})
