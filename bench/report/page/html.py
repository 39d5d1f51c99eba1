"""Turn the blocks of a report into one self-contained HTML page with a chart to explore.

Nothing is loaded from anywhere: style, script, data and images stand in the page, and its policy
forbids everything else, scripts of other origin included.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import count
from typing import Any

from bench.report import escape
from bench.report.charts.palette import colours
from bench.report.derive.axes import cost_axes
from bench.report.derive.findings import Findings
from bench.report.page.blocks import Block, Bullets, Code, Heading, Image, Paragraph, Table
from bench.report.page.formats import MISSING
from bench.report.read.models import has_se
from bench.report.read.trained import Cell, Measured
from bench.stats.times import Interval

# From this many rows on a table can be filtered.
MIN_FILTER_ROWS = 6
# Columns of texts up to this long are not wrapped.
SHORT = 32
EXPLORE = "Explore"
_NUMBER = re.compile(r"[×+−<>≥ ]*\d[\d,.]*(?![\d,.]| →)")


def page(found: Findings, blocks: Sequence[Block], images: Mapping[str, bytes]) -> str:
    """Return the page; ``images`` holds the SVG of each image in ``blocks`` by its name."""
    script, style = _asset("page.js"), _asset("page.css")
    title, rest = _title(blocks)
    data = explorable(found)
    body, nav = _body(rest, images, data)
    return _asset("page.html").format(
        policy=_policy(script, style),
        title=_text(title),
        style=style,
        nav=nav,
        body=body,
        data=_json(data),
        script=script,
    )


def _asset(name: str) -> str:
    return resources.files("bench.report.page").joinpath(name).read_text(encoding="utf-8")


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


def _text(text: str) -> str:
    return html.escape(escape.one_line(text), quote=True)


def _title(blocks: Sequence[Block]) -> tuple[str, Sequence[Block]]:
    first = blocks[0]
    assert isinstance(first, Heading)
    return first.text, blocks[1:]


def _body(
    blocks: Sequence[Block], images: Mapping[str, bytes], data: Mapping[str, Any]
) -> tuple[str, str]:
    """Return the page's sections and the links to them."""
    parts: list[str] = []
    links: list[str] = []
    numbers, tables = count(1), count(1)
    for block in blocks:
        if block == Heading("Results") and data["points"]:
            parts.append(_explorer(data))
            links.append(f'<a href="#explore">{EXPLORE}</a>')
        if isinstance(block, Heading) and block.level == 2:
            place = f"section-{next(numbers)}"
            parts.append(f'<h2 id="{place}">{_text(block.text)}</h2>')
            links.append(f'<a href="#{place}">{_text(block.text)}</a>')
        elif isinstance(block, Table):
            parts.append(_table(block, f"table-{next(tables)}"))
        elif isinstance(block, Image):
            parts.append(_image(block, images[block.name]))
        else:
            parts.append(_simple(block))
    return "\n".join(parts), "\n".join(links)


def _simple(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_text(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{_text(text)}</p>"
        case Bullets(items):
            lines = (
                f"<li><strong>{_text(lead)}</strong> {_text(text)}</li>" for lead, text in items
            )
            return f"<ul>{''.join(lines)}</ul>"
        case Code(lines):
            return f"<pre>{chr(10).join(_text(line) for line in lines)}</pre>"
        case _:
            raise AssertionError(f"{type(block).__name__} has a renderer of its own")


def _image(image: Image, svg: bytes) -> str:
    source = f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
    title = _text(image.title)
    return f'<figure><img alt="{title}" src="{source}"><figcaption>{title}</figcaption></figure>'


def _table(table: Table, name: str) -> str:
    """Return a table whose heads are buttons that sort it, with a field that filters it."""
    heads = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{_text(column)}</button></th>'
        for column in table.columns
    )
    kinds = [_kind(cells) for cells in zip(*table.rows, strict=True)]
    rows = "\n".join(
        f"<tr>{''.join(_cell(cell, kind) for cell, kind in zip(row, kinds, strict=True))}</tr>"
        for row in table.rows
    )
    tools = ""
    if len(table.rows) >= MIN_FILTER_ROWS:
        tools = (
            f'<div class="tools"><label>Filter <input type="search" id="{name}-filter"></label>'
            f'<output class="soft" id="{name}-shown">{len(table.rows)} rows</output></div>'
        )
    return (
        f'{tools}<div class="scroll" tabindex="0" role="region" aria-label="Table">'
        f'<table id="{name}"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _kind(cells: Sequence[str]) -> str:
    """Return the attribute of a column's cells: numbers to the right, short texts on one line."""
    told = [cell for cell in cells if cell != MISSING]
    if told and all(_NUMBER.match(cell) for cell in told):
        return ' class="n"'
    return ' class="s"' if all(len(cell) <= SHORT for cell in told) else ""


def _cell(cell: str, kind: str) -> str:
    return f"<td{kind}>{_text(cell)}</td>"


def _explorer(data: Mapping[str, Any]) -> str:
    """Return the chart's place and its controls."""
    axes = [(axis["name"], axis["label"]) for axis in data["axes"]]
    sets = [(name, name) for name in dict.fromkeys(point["data"] for point in data["points"])]
    costs = [axis for axis in axes if axis[0] not in ("top1", "top5")]
    return (
        f'<h2 id="explore">{EXPLORE}</h2><div class="tools">'
        f"<label>Across {_select('x-axis', axes, (costs or axes)[0][0])}</label>"
        f"<label>Up {_select('y-axis', axes, 'top1')}</label>"
        f"<label>Data set {_select('data-set', sets, sets[0][0])}</label>"
        '<label>Models <input type="search" id="models"></label></div>'
        '<div id="plot"><svg id="chart" viewBox="0 0 920 520" role="group" '
        'aria-label="Models by the two chosen values"></svg>'
        '<div id="tip" role="status" hidden></div></div>'
        '<p class="soft" id="chart-note">The chart needs scripts; all its values are in the '
        "tables.</p>"
    )


def _select(name: str, options: Sequence[tuple[str, str]], chosen: str) -> str:
    lines = "".join(
        f'<option value="{_text(value)}"{" selected" if value == chosen else ""}>'
        f"{_text(label)}</option>"
        for value, label in options
    )
    return f'<select id="{name}">{lines}</select>'


def explorable(found: Findings) -> dict[str, Any]:
    """Return the chart's points and axes as plain data; accuracies in per cent."""
    cells = [cell for cell in found.study.cells if cell.top1]
    axes = cost_axes(found.study, cells)
    palette = colours(model.name for model in found.study.models)
    points = [
        {
            "label": escape.one_line(found.labels[cell.key]),
            "data": escape.one_line(cell.dataset),
            "stem": cell.model.stem,
            "se": has_se(cell.model),
            "colour": palette[cell.model.name],
            "note": _note(cell),
            "values": _percents(cell)
            | {a.name: _ends(a.values[cell.key]) for a in axes if cell.key in a.values},
        }
        for cell in cells
    ]
    known = [("top1", "top-1 on the test set (%)", False)]
    known += [("top5", "top-5 on the test set (%)", False)] if any(c.top5 for c in cells) else []
    known += [(axis.name, axis.label, axis.less_is_better) for axis in axes]
    named = [{"name": name, "label": label, "less": less} for name, label, less in known]
    return {"points": points, "axes": named}


def _note(cell: Cell) -> str:
    seeds = "one seed, exploratory" if len(cell.runs) == 1 else f"{len(cell.runs)} seeds"
    return escape.one_line(f"{cell.recipe.name}, {cell.recipe.epochs} epochs, {seeds}")


def _percents(cell: Cell) -> dict[str, Any]:
    named = {"top1": cell.top1, "top5": cell.top5}
    return {name: _measured(value) for name, value in named.items() if value is not None}


def _measured(value: Measured) -> dict[str, float | None]:
    ends = {"low": value.low, "high": value.high}
    scaled = {name: None if end is None else 100 * end for name, end in ends.items()}
    return {"value": 100 * value.value} | scaled


def _ends(interval: Interval) -> dict[str, float | None]:
    bounded = math.isfinite(interval.high - interval.low) and interval.high > interval.low > 0
    return {
        "value": interval.estimate,
        "low": interval.low if bounded else None,
        "high": interval.high if bounded else None,
    }
