"""Turn the blocks of a report into one self-contained HTML page with a chart to explore.

Nothing is loaded from anywhere: style, script, data and images stand in the page, and its policy
forbids everything else, scripts of other origin included. What stands where is in templates/.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import count

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.report import escape
from bench.report.derive.findings import Findings
from bench.report.page.blocks import Block, Heading, Image, Table
from bench.report.page.explorable import explorable
from bench.report.page.formats import MISSING

# From this many rows on a table can be filtered.
MIN_FILTER_ROWS = 6
# Columns of texts up to this long are not wrapped.
SHORT = 32
# What is in sight when the page opens, and on paper; the rest is opened where it is looked for.
OPEN_SECTIONS = ("Verdict", "Results", "Charts", "Differences")
EXPLORE = "Explore"
_NUMBER = re.compile(r"[×+−<>≥ ]*\d[\d,.]*(?![\d,.]| →)")


@dataclass(frozen=True)
class Head:
    """A column of a table: its class says how cells are set; ``extra`` ones are hidden at first.

    A ``told`` one has the same in all rows, which stands above the table.
    """

    text: str
    kind: str
    extra: bool
    told: bool


@dataclass(frozen=True)
class Drawn:
    """A table with what the page adds to it."""

    id: str
    label: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[str, ...], ...]
    same: str

    @property
    def has_filter(self) -> bool:
        return len(self.rows) >= MIN_FILTER_ROWS

    @property
    def extra(self) -> list[int]:
        """Return which columns are not in sight when the page opens."""
        return [i for i, head in enumerate(self.heads) if head.extra]


@dataclass(frozen=True)
class Picture:
    """A chart that stands in the page."""

    title: str
    source: str


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    id: str
    title: str
    is_open: bool
    blocks: tuple[object, ...] = ()


def page(found: Findings, blocks: Sequence[Block], images: Mapping[str, bytes]) -> str:
    """Return the page; ``images`` holds the SVG of each image in ``blocks`` by its name."""
    script, style = _asset("tables.js") + _asset("chart.js"), _asset("page.css")
    title, *rest = blocks
    assert isinstance(title, Heading)
    data = explorable(found)
    intro, parts = _parts(rest, images, bool(data["points"]))
    axes = [(axis["name"], axis["label"]) for axis in data["axes"]]
    costs = [name for name, _ in axes if name not in ("top1", "top5")]
    sets = list(dict.fromkeys(point["data"] for point in data["points"]))
    return (
        _templates()
        .get_template("page.html")
        .render(
            policy=_policy(script, style),
            title=title.text,
            style=style,
            intro=intro,
            parts=parts,
            axes={"choices": axes, "across": (costs or ["top1"])[0]},
            sets={"choices": [(name, name) for name in sets], "first": sets[0] if sets else ""},
            data=_json(data),
            script=script,
        )
    )


def _templates() -> Environment:
    """Return the page's templates; every text that they show is escaped, and stands on a line."""
    templates = Environment(
        loader=PackageLoader("bench.report.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    templates.filters["line"] = escape.one_line
    templates.filters["kind"] = lambda block: type(block).__name__
    return templates


def _asset(name: str) -> str:
    return resources.files("bench.report.page").joinpath("templates", name).read_text("utf-8")


def _policy(script: str, style: str) -> str:
    """Return a policy that allows this style and script and inline images, and no request."""
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (script, style)
    ]
    return (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; "
        f"style-src 'sha256-{hashes[1]}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _json(value: object) -> str:
    """Return strict JSON that no text in it can end early."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _parts(
    blocks: Sequence[Block], images: Mapping[str, bytes], can_explore: bool
) -> tuple[list[Block], list[Part]]:
    """Return what stands before the first section, and the sections."""
    starts = [i for i, b in enumerate(blocks) if isinstance(b, Heading) and b.level == 2]
    ends = [*starts[1:], len(blocks)]
    parts: list[Part] = []
    numbers, tables = count(1), count(1)
    for start, end in zip(starts, ends, strict=True):
        heading = blocks[start]
        assert isinstance(heading, Heading)
        if heading.text == "Results" and can_explore:
            parts.append(Part("explore", EXPLORE, True))
        drawn = tuple(_drawn(blocks[start + 1 : end], heading.text, images, tables))
        is_open = heading.text in OPEN_SECTIONS
        parts.append(Part(f"section-{next(numbers)}", heading.text, is_open, drawn))
    return list(blocks[: starts[0]] if starts else blocks), parts


def _drawn(
    blocks: Sequence[Block], title: str, images: Mapping[str, bytes], tables: Iterator[int]
) -> Iterator[object]:
    """Yield what the templates show of the blocks of a section."""
    label = title
    for block in blocks:
        if isinstance(block, Heading):
            label = f"{title}: {block.text}"
        if isinstance(block, Table):
            yield _table(block, f"table-{next(tables)}", label)
        elif isinstance(block, Image):
            source = base64.b64encode(images[block.name]).decode()
            yield Picture(block.title, f"data:image/svg+xml;base64,{source}")
        else:
            yield block


def _table(table: Table, name: str, label: str) -> Drawn:
    """Return a table with what its columns are, and what all its rows share."""
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    values = [sorted(set(cells) - {MISSING}) for cells in columns]
    heads = tuple(
        Head(
            text,
            _kind(cells),
            extra=bool(table.first) and text not in table.first,
            told=text in table.shared and text not in table.first and len(value) == 1,
        )
        for text, cells, value in zip(table.columns, columns, values, strict=True)
    )
    same = [f"{head.text} {value[0]}" for head, value in zip(heads, values, strict=True)
            if head.told]  # fmt: skip
    return Drawn(name, label, heads, table.rows, "; ".join(same))


def _kind(cells: Sequence[str]) -> str:
    """Return the class of a column's cells: numbers to the right, short texts on one line."""
    told = [cell for cell in cells if cell != MISSING]
    if told and all(map(_NUMBER.match, told)):
        return "n"
    return "s" if all(len(cell) <= SHORT for cell in told) else ""
