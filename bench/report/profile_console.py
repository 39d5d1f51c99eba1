"""Print profile records as rich tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from bench.record import ProfileRecord
from bench.report.escape import shortened
from bench.report.markdown import number
from bench.report.profile_summary import Comparison, comparisons, summary

_FACETS = ("device", "stem", "image_size", "num_classes", "mode", "precision", "runtime")


def profile_table(records: Sequence[ProfileRecord]) -> Table:
    """Return the measured rows as a table; what all rows share stands in the title alone."""
    lines = [summary(record) for record in records]
    varying = [name for name in _FACETS if len({line[name] for line in lines}) > 1]
    ratios = comparisons(records)
    table = Table(title=_title(lines[0], varying), title_justify="left", box=box.SIMPLE_HEAD)
    table.padding = (0, 1, 0, 0)
    for name in ("model", *varying):
        table.add_column(name.replace("_", " "), overflow="fold")
    for heading in ("batch", "params M", "MACs M", "img/s", "ms p50", "p90", "p99", "× base"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("1st call s", justify="right", no_wrap=True)
    table.add_column("note", overflow="fold")
    for line in lines:
        table.add_row(*(str(line[name]) for name in ("model", *varying)), *_cells(line, ratios))
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
    latency = [line[f"latency_ms_{p}"] for p in ("p50", "p90", "p99")]
    single = line["scenario"] == "single_stream"
    note = escape(shortened(line["reason"] or ", ".join(line["flags"]), 80))
    return (
        f"{line['batch_size']}{' single' if single else ''}",
        f"{line['params'] / 1e6:,.2f}",
        f"{line['macs'] / 1e6:,.1f}",
        number(line["throughput"]),
        number(latency[0]),
        number(latency[1]) if single else "–",
        number(latency[2]) if single else "–",
        _ratio(ratios.get(line["id"]), line),
        number(line["first_call_s"]),
        note if line["status"] == "ok" else f"{line['status'].replace('_', ' ')}: {note}",
    )


def _ratio(comparison: Comparison | None, line: dict[str, Any]) -> str:
    if comparison is None:
        return "1" if line["throughput"] else "–"
    ratio = comparison.ratio
    half = max(ratio.high - ratio.estimate, ratio.estimate - ratio.low)
    text = f"{ratio.estimate:.3f} ±{half:.3f}"
    return text if comparison.differs else f"({text})"


def footnotes(records: Sequence[ProfileRecord]) -> list[str]:
    """Return what a reader of the table must know: base, interval, noise floor."""
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
        notes.append("single: one image at a time, each call waited for; p99 from 1,000 samples on")
    return notes
