"""Show what changed between two sets of measurements: on the terminal and in a job's summary."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table as RichTable

from bench.report import escape
from bench.report.derive.speed.gate import OUT_OF_TIME, Change
from bench.report.page import terminal
from bench.report.page.blocks import Heading, Paragraph, table
from bench.report.page.formats import MISSING, number, point_interval, ratio
from bench.report.page.markdown import render
from bench.stats.times import Interval

# What the intervals of rows cover, by their kind and whether there is a verdict at all.
COVERS = {
    "time": "times: pairs of processes",
    "accuracy": "top-1: seeds and images, of networks not decided images alone",
}
_COLOURS = {"slower": "red", "worse": "red", "changed": "red", "faster": "green", "better": "green"}


def summary(changes: Sequence[Change]) -> str:
    """Return how many rows got which verdict, and what ended early: ``12 same, 1 slower``."""
    counts = Counter(change.verdict for change in changes)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    early = dict.fromkeys(d for c in changes for d in c.doubts if d.startswith(OUT_OF_TIME))
    return "; ".join([told, *early])


def _columns(changes: Sequence[Change]) -> tuple[str, ...]:
    kinds = {c.kind for c in changes if c.interval and c.interval.high < math.inf}
    told = "; ".join(covers for kind, covers in COVERS.items() if kind in kinds)
    return ("what", "base", "new", f"change (95 % CI: {told})" if told else "change", "verdict")


def screen(changes: Sequence[Change]) -> RichTable:
    """Return the changes for a terminal, regressions in red."""
    drawn = table(_columns(changes), map(_cells, changes), words=("what", "verdict"))
    return terminal.render(drawn, [_COLOURS.get(change.verdict, "") for change in changes])


def markdown(changes: Sequence[Change], threshold: float | None) -> str:
    """Return the changes as Markdown for a job summary, regressions first."""
    ordered = sorted(changes, key=lambda c: (not c.regressed(threshold or 0.0), c.kind != "time"))
    lines = [_cells(change) for change in ordered]
    title, told = Heading("Benchmark comparison"), Paragraph(f"{summary(changes)}.")
    return render([title, told, table(_columns(changes), lines)])


def annotation(change: Change) -> str:
    """Return the workflow command that shows a regression beside the job."""
    what, _, _, moved, verdict = _cells(change)
    text = escape.one_line(f"{what}: {verdict}, {moved}").replace("%", "%25")
    return f"::error title=Benchmark regression::{text}"


def as_data(change: Change, threshold: float | None) -> dict[str, Any]:
    """Return a change as plain data."""
    interval = change.interval
    return {
        "kind": change.kind,
        "what": change.what,
        "verdict": change.verdict,
        "base": change.base,
        "new": change.new,
        "change": interval.estimate if interval else None,
        "low": _finite(interval, "low"),
        "high": _finite(interval, "high"),
        "differs_in": [str(mismatch) for mismatch in change.mismatches],
        "method": change.note,
        "doubts": list(change.doubts),
        "floor": change.floor,
        "regression": change.regressed(threshold or 0.0),
    }


def _finite(interval: Interval | None, end: str) -> float | None:
    if interval is None or abs(interval.high) == float("inf"):
        return None
    return float(getattr(interval, end))


def _cells(change: Change) -> list[str]:
    verdict: str = change.verdict
    if change.verdict in ("not decided", "not resolved") and change.note:
        verdict = f"{verdict}: {change.note}"
    if change.mismatches:
        what = "; ".join(map(str, change.mismatches))
        verdict = f"{verdict}: {what}" if change.interval is None else f"{verdict}, FORCED: {what}"
    if change.floor is not None:
        verdict += f" (A/A floor {100 * change.floor:.1f} %)"
    if change.doubts:
        verdict += f" [{'; '.join(change.doubts)}]"
    return [
        change.what,
        _value(change, change.base),
        _value(change, change.new),
        _moved(change),
        verdict,
    ]


def _value(change: Change, value: float | None) -> str:
    if value is None:
        return MISSING
    if change.kind == "accuracy":
        return f"{100 * value:.2f} %"
    return f"{value:,.0f}" if change.kind == "count" else f"{number(1e3 * value)} ms"


def _moved(change: Change) -> str:
    if change.kind == "accuracy":
        return f"{point_interval(change.interval)} points" if change.interval else MISSING
    if change.kind == "count" and change.base and change.new is not None:
        return f"×{change.new / change.base:.4g}"
    return ratio(change.interval)
