"""Print runs and profiles as a rich table."""

from __future__ import annotations

from collections.abc import Callable

from rich import box
from rich.markup import escape as rich_escape
from rich.table import Table
from rich.text import Text

from bench.report import escape
from bench.report.derive.findings import Findings
from bench.report.derive.headline import Headline, headlines, machine_of
from bench.report.page.formats import number, percent
from bench.report.page.verdict import lines
from bench.report.read.study import Study


def verdict(found: Findings) -> Text:
    """Return the lines of the report's verdict, as they stand in it."""
    text = Text()
    for lead, told in lines(found):
        text.append(f"\n{escape.one_line(lead)} ", style="bold")
        text.append(escape.one_line(told))
    return text


_FACETS: dict[str, Callable[[Headline], str]] = {
    "data": lambda line: line.cell.dataset if line.cell else "–",
    "recipe": lambda line: line.cell.recipe.name if line.cell else "–",
    "epochs": lambda line: str(line.cell.recipe.epochs) if line.cell else "–",
    "seeds": lambda line: str(len(line.cell.runs)) if line.cell else "–",
    "device": lambda line: machine_of(line.row)[0] if line.row else "–",
}


def summary(study: Study) -> Table:
    """Return the main table, narrow: what all rows share stands in the title alone."""
    lines = headlines(study)
    # What a line does not have, such as the recipe of what was only profiled, is no difference.
    told = {name: {facet(line) for line in lines} - {"–"} for name, facet in _FACETS.items()}
    varying = [name for name, values in told.items() if len(values) > 1]
    shared = {name: values for name, values in told.items() if len(values) == 1}
    title = ", ".join(f"{name} {_plain(value)}" for name, (value,) in shared.items())
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    # A screen of 80 columns holds the names whole, with a column more if they stand closer.
    table.padding = (0, 0 if varying else 1, 0, 0)
    for name in ("model", "stem"):
        table.add_column(name, overflow="fold", min_width=8)
    for name in varying:
        table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=24)
    batches = {line.offline.first.batch_size for line in lines if line.offline}
    rate = f"img/s @{batches.pop()}" if len(batches) == 1 else "img/s"
    for name in ("top-1 % (95 %)", "MACs M", "epoch s", rate, "ms @1"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*_identity(line, varying), *_numbers(line))
    return table


def _identity(line: Headline, varying: list[str]) -> list[str]:
    facets = [_plain(_FACETS[name](line)) for name in varying]
    return [_plain(line.model.name), line.model.stem, *facets]


def _numbers(line: Headline) -> list[str]:
    cell = line.cell
    offline = line.offline.timing if line.offline else None
    single = line.single.timing if line.single else None
    return [
        percent(cell.top1, digits=1) if cell else "–",
        number(line.macs / 1e6) if line.macs else "–",
        number(cell.epoch_wall_s) if cell else "–",
        number(offline.throughput) if offline else "–",
        number(single.p50_ms) if single else "–",
    ]


def _plain(text: str) -> str:
    return rich_escape(escape.shortened(text))
