"""Print profile records as rich tables: what models cost without a clock, and what they took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from bench.record import ProfileRecord
from bench.report.escape import shortened
from bench.report.formats import number
from bench.report.profile_summary import Comparison, comparisons, summary

_FACETS = ("device", "stem", "image_size", "num_classes", "mode", "precision", "runtime")


def cost_table(records: Sequence[ProfileRecord]) -> Table:
    """Return what each model costs whatever the device: one image, no clock."""
    table = _table("Without a clock, one image")
    for heading in ("model", "stem"):
        table.add_column(heading, no_wrap=True)
    for heading in ("px", "params M", "MACs M", "FLOPs M = 2 × MACs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for model, record in {record.model: record for record in records}.items():
        counts = (record.cost.params, record.cost.macs, record.cost.flops)
        cells = (f"{count / 1e6:,.3f}" for count in counts)
        table.add_row(model.name, model.stem, str(model.image_size), *cells)
    return table


def timing_table(records: Sequence[ProfileRecord]) -> Table:
    """Return the measured rows; what all of them share stands in the title alone."""
    lines = [summary(record) for record in records]
    varying = [name for name in _FACETS if len({line[name] for line in lines}) > 1]
    ratios = comparisons(records)
    table = _table(_title(lines[0], varying))
    table.add_column("model", no_wrap=True)
    for name in varying:
        table.add_column(name.replace("_", " "), no_wrap=True)
    for heading in ("batch", "img/s", "ms p50/p90/p99", "× base"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("note", overflow="fold")
    for line in lines:
        facets = (line[name] for name in ("model", *varying))
        table.add_row(*(str(facet) for facet in facets), *_cells(line, ratios))
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.padding = (0, 1, 0, 0)
    return table


def _title(line: dict[str, Any], varying: Sequence[str]) -> str:
    told: dict[str, Callable[[Any], str]] = {
        "device": lambda value: f"{value} ({shortened(line['device_name'])})",
        "stem": lambda value: f"{value} stem",
        "image_size": lambda value: f"{value}×{value} px",
        "num_classes": lambda value: f"{value} classes",
    }
    shared = [told.get(name, str)(line[name]) for name in _FACETS if name not in varying]
    return escape(", ".join(shared))


def _cells(line: dict[str, Any], ratios: dict[str, Comparison]) -> tuple[str, ...]:
    if line["status"] != "ok":
        return str(line["batch_size"]), "–", "–", "–", line["status"].replace("_", " ")
    return (
        str(line["batch_size"]),
        number(line["throughput"]),
        _latency(line),
        _ratio(ratios.get(line["id"]), line),
        ", ".join(line["flags"]),
    )


def _latency(line: dict[str, Any]) -> str:
    percentiles = [number(line[f"latency_ms_{p}"]) for p in ("p50", "p90", "p99")]
    return "/".join(percentiles if line["scenario"] == "single_stream" else percentiles[:1])


def _ratio(comparison: Comparison | None, line: dict[str, Any]) -> str:
    if comparison is None:
        return "base" if line["throughput"] else "–"
    ratio = comparison.ratio
    half = max(ratio.high - ratio.estimate, ratio.estimate - ratio.low)
    text = f"{ratio.estimate:.3f} ±{half:.3f}"
    return text if comparison.differs else f"({text})"


def footnotes(records: Sequence[ProfileRecord]) -> list[str]:
    """Return what a reader of the table must know: base, interval, noise floor, reasons."""
    ratios = comparisons(records)
    notes = []
    if ratios:
        bases = dict.fromkeys(c.base.model.name for c in ratios.values())
        floors = [c.floor for c in ratios.values() if c.floor is not None]
        floor = f"; A/A noise floor {100 * max(floors):.1f} %" if floors else ""
        notes.append(
            f"× base: throughput over that of {', '.join(bases)}, timed in turns, with its 95 %"
            f" interval{floor}; in brackets: no difference"
        )
    if any(r.scenario == "single_stream" for r in records):
        notes.append("p50/p90/p99: one image at a time, each waited for; p99 from 1,000 samples on")
    return notes + _reasons(records)


def _reasons(records: Sequence[ProfileRecord]) -> list[str]:
    """Return why rows were not timed, each reason once."""
    found: dict[str, list[str]] = {}
    for record in records:
        if record.reason:
            told = f"{record.model.name} {record.runtime} {record.precision} b{record.batch_size}"
            found.setdefault(shortened(record.reason, 300), []).append(told)
    return [f"{', '.join(rows)}: {reason}" for reason, rows in found.items()]
