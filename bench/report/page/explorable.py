"""What the page's chart draws, as plain data: trained models, and each of their deployments.

A point is a trained model by two values. With every runtime and precision, a point is a model in
one of them on the machine that the axis is about.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from bench.report import escape
from bench.report.charts.palette import colours
from bench.report.derive.findings import Findings
from bench.report.derive.headline import machine_of
from bench.report.derive.speed.axes import Axis, accuracy_axes, latency_ms, throughput
from bench.report.page.blocks import place
from bench.report.read.models import kind
from bench.report.read.profiled import CostRow
from bench.report.read.trained import Cell, Measured
from bench.stats.times import Interval

# Precisions that change what a model says too much for its own accuracy to be theirs.
_QUANTISED = ("int8",)
MAX_DEPLOYMENTS = 400
Data = dict[str, Any]


def explorable(found: Findings) -> Data:
    """Return the chart's points and axes as plain data; accuracies in per cent."""
    cells = [cell for cell in found.study.cells if cell.top1]
    axes = accuracy_axes(found.study, cells)
    known = [("top1", "top-1 on the test set (%)", False)]
    known += [("top5", "top-5 on the test set (%)", False)] if any(c.top5 for c in cells) else []
    known += [(axis.name, axis.label, axis.less_is_better) for axis in axes]
    return {
        "points": [_point(cell, axes, found) for cell in cells],
        "deployments": list(_deployments(found, cells, axes))[:MAX_DEPLOYMENTS],
        "axes": [{"name": name, "label": label, "less": less} for name, label, less in known],
    }


def _point(cell: Cell, axes: Sequence[Axis], found: Findings) -> Data:
    rows = {a.name: place(a.rows[cell.key]) for a in axes if cell.key in a.rows}
    return _model(cell, found) | {
        "note": _note(cell),
        "where": {name: escape.one_line(text) for name, text in rows.items()},
        "values": _percents(cell)
        | {a.name: _ends(a.values[cell.key]) for a in axes if cell.key in a.values},
    }


def _model(cell: Cell, found: Findings) -> Data:
    """Return what a point shows of the model: its name, colour, shape and fill."""
    palette = colours(model.name for model in found.study.models)
    return {
        "label": escape.one_line(found.labels[cell.key]),
        "data": escape.one_line(cell.dataset),
        "stem": cell.model.stem,
        "attention": kind(cell.model) != "none",
        "colour": palette[cell.model.name],
    }


def _deployments(found: Findings, cells: Sequence[Cell], axes: Sequence[Axis]) -> Iterator[Data]:
    """Yield a model in each runtime and precision that was timed as the axes' rows were."""
    timed = [(axis, next(iter(axis.rows.values()))) for axis in axes if axis.rows]
    for cell in cells:
        told: dict[tuple[str, ...], Data] = {}
        for axis, example in timed:
            for row in (r for r in found.study.costs if _is_like(r, example, cell)):
                key = (*machine_of(row), row.first.precision, row.first.runtime)
                new = _model(cell, found) | _runtime(row) | {"values": _percents(cell), "where": {}}
                one = told.setdefault(key, new | {"note": _note(cell)})
                measured = throughput(row) if axis.name.startswith("throughput") else None
                one["values"][axis.name] = _ends(measured or latency_ms(row))
                one["where"][axis.name] = escape.one_line(place(row))
        yield from told.values()


def _runtime(row: CostRow) -> Data:
    return {"runtime": f"{row.first.runtime} {row.first.precision}"}


def _is_like(row: CostRow, example: CostRow, cell: Cell) -> bool:
    """Tell whether a row is of the cell's model, on the example's machine and of its work."""
    mine, other = row.first, example.first
    return (
        row.model == cell.model
        and row.timing is not None
        and mine.precision not in _QUANTISED
        and machine_of(row) == machine_of(example)
        and (mine.mode, mine.scenario, mine.batch_size)
        == (other.mode, other.scenario, other.batch_size)
    )


def _note(cell: Cell) -> str:
    """Return how a model was trained, and where its record lies."""
    seeds = "one seed, exploratory" if len(cell.runs) == 1 else f"{len(cell.runs)} seeds"
    epochs = f"{cell.recipe.epochs} epoch{'' if cell.recipe.epochs == 1 else 's'}"
    more = f" and {len(cell.runs) - 1} more" if len(cell.runs) > 1 else ""
    told = escape.one_line(f"{cell.recipe.name}, {epochs}, {seeds}")
    return f"{told}\nrecord: {escape.one_line(cell.runs[0].path)}{more}"


def _percents(cell: Cell) -> Data:
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
