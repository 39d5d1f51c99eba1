"""Charts of profiles: the roofline with the models on it, and where the time of a call goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from bench.record.profile import MachineFacts
from bench.report import escape
from bench.report.charts.draw import Plan
from bench.report.charts.label_places import Label, place, settle
from bench.report.charts.palette import colours, marker
from bench.report.derive.speed.profile_rows import intensity
from bench.report.read.models import kind as attention_kind
from bench.report.read.profiled import CostRow

MAX_BARS = 8
MAX_LABELS = 9  # more names hide the points
KINDS = {
    "conv": ("convolutions", "#0072B2"),
    "linear": ("linear", "#56B4E9"),
    "norm": ("BatchNorm", "#999999"),
    "activation": ("activations", "#CCCCCC"),
    "add": ("shortcut additions", "#777777"),
    "pooling": ("pooling", "#BBCC33"),
    "se_squeeze": ("SE squeeze", "#E69F00"),
    "se_fc": ("SE FC", "#F0E442"),
    "se_relu": ("SE ReLU", "#882255"),
    "se_gate": ("SE gate", "#CC79A7"),
    "se_scale": ("SE scale", "#D55E00"),
    "other": ("other", "#EEEEEE"),
}


def plans(rows: Sequence[CostRow]) -> Iterator[Plan]:
    """Yield the charts that the rows have the data for, one roofline a machine and precision."""
    groups: defaultdict[tuple[str, str], list[CostRow]] = defaultdict(list)
    for row in rows:
        if row.first.scenario == "offline" and row.timing and row.first.machine and intensity(row):
            env = row.environment
            groups[f"{env.device_name}", row.first.precision].append(row)
    for (device, precision), shown in groups.items():
        suffix = f"-{escape.file_name(f'{device}-{precision}')}" if len(groups) > 1 else ""
        title = f"Roofline of {device}, {precision}"
        yield Plan(title, f"roofline{suffix}", roofline(title, shown))
    broken = [row for row in rows if row.first.breakdown and row.timing]
    if broken:
        title = "Where the time of an eager call goes"
        yield Plan(title, "where-time-goes", where_time_goes(title, broken[:MAX_BARS]))


def roofline(title: str, rows: Sequence[CostRow]) -> Callable[[Figure], None]:
    """Return what draws achieved FLOP/s over arithmetic intensity under the machine's ceilings.

    Of more rows than can be named, the fastest runtime of each model and batch size is.
    """
    palette = colours(row.model.name for row in rows)
    precision = rows[0].first.precision
    machine = _best_machine(rows, precision)
    peak = machine.peak_flops(precision) or 0.0
    points = [(intensity(row) or 0.0, row.achieved_flops or 0.0) for row in rows]
    named = rows if len(rows) <= MAX_LABELS else _fastest(rows)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.set_yscale("log")
        xs = [x for x, _ in points]
        low, high = min(xs) / 3, max(max(xs), peak / machine.copy_bytes_per_s) * 4
        _ceilings(axes, machine.copy_bytes_per_s, peak, low, high)
        for row, (x, y) in zip(rows, points, strict=True):
            tint = palette[row.model.name]
            axes.scatter(
                x,
                y,
                s=46 if row in named else 16,
                marker=marker(row.model),
                facecolors=tint if attention_kind(row.model) != "none" else "white",
                edgecolors=tint,
                linewidths=1.6,
                zorder=3,
            )
        axes.set_xlim(low, high)
        axes.set_ylim(min(y for _, y in points) / 3, max(peak, *(y for _, y in points)) * 2.5)
        rest = "" if named is rows else "; small: slower runtimes"
        axes.set(xlabel=f"FLOP a byte moved, nothing fused{rest}", ylabel="GFLOP/s")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
            axis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.yaxis.set_major_formatter(lambda flops, _: f"{flops / 1e9:,g}")
        axes.set_title(escape.chart_title(title))
        settle(figure)
        labels = [
            Label(x, y, escape.chart(_short(row, rows)), palette[row.model.name])
            for row, (x, y) in zip(rows, points, strict=True)
            if row in named
        ]
        place(axes, labels, [], points)

    return draw


def _fastest(rows: Sequence[CostRow]) -> list[CostRow]:
    """Return for each model, mode and batch size the row that computes most."""
    best: dict[tuple[object, ...], CostRow] = {}
    for row in sorted(rows, key=lambda row: row.achieved_flops or 0.0):
        best[row.model, row.first.mode, row.first.batch_size] = row
    return list(best.values())


def _best_machine(rows: Iterable[CostRow], precision: str) -> MachineFacts:
    """Return the machine of the sitting that reached most: a ceiling is what was reached once."""
    machines = [p.record.machine for row in rows for p in row.profiles if p.record.machine]
    return max(machines, key=lambda m: m.peak_flops(precision) or 0.0)


def _ceilings(axes: Axes, bandwidth: float, peak: float, low: float, high: float) -> None:
    ridge = peak / bandwidth
    axes.plot([low, ridge, high], [low * bandwidth, peak, peak], color="#333333", linewidth=1.2)
    axes.annotate(
        f"arithmetic {peak / 1e9:,.0f} GFLOP/s",
        (high, peak),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        fontsize="small",
    )
    axes.annotate(
        f"copy {bandwidth / 1e9:,.1f} GB/s",
        (low, low * bandwidth),
        xytext=(6, -2),
        textcoords="offset points",
        va="top",
        fontsize="small",
    )


def _short(row: CostRow, rows: Sequence[CostRow]) -> str:
    """Return the row's name, with what tells it from the others of the chart."""
    others = [_facets(other) for other in rows]
    telling = [words for words, *theirs in zip(_facets(row), *others, strict=True)
               if len(set(theirs)) > 1]  # fmt: skip
    return " ".join([row.model.name, *telling])


def _facets(row: CostRow) -> tuple[str, ...]:
    record = row.first
    return record.model.stem or "", record.runtime, record.mode, f"b{record.batch_size}"


def where_time_goes(title: str, rows: Sequence[CostRow]) -> Callable[[Figure], None]:
    """Return what draws a bar a model: a call's time, in the shares of its kinds of operators.

    Models take turns for the former and not for the latter, so that bars can be compared only so.
    """
    parts = [_by_kind(row) for row in rows]
    kinds = [kind for kind in KINDS if any(part.get(kind) for part in parts)]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        places = np.arange(len(rows))[::-1]
        left = np.zeros(len(rows))
        for kind in kinds:
            words, colour = KINDS[kind]
            width = np.array([1e3 * part.get(kind, 0.0) for part in parts])
            axes.barh(places, width, left=left, color=colour, label=words, height=0.6)
            left += width
        for place_, part, end in zip(places, parts, left, strict=True):
            share = _se_share(part)
            told = f" {end:,.1f} ms" + (f", SE {100 * share:.0f} %" if share else "")
            axes.annotate(told, (end, place_), va="center", fontsize="small")
        axes.set_yticks(places, [escape.chart(_short_breakdown(row, rows)) for row in rows])
        axes.set_xlim(0, left.max() * 1.3)
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="ms a call, shared out by operators that were timed alone")
        axes.set_title(escape.chart_title(title))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=5, fontsize="small",
                    frameon=False)  # fmt: skip

    return draw


def _by_kind(row: CostRow) -> dict[str, float]:
    """Return a call's seconds by kind: shares are means over processes, for a time that is too."""
    assert row.timing is not None
    broken = [p.record.breakdown for p in row.profiles if p.record.breakdown]
    found: defaultdict[str, float] = defaultdict(float)
    for facts in broken:
        total = sum(sum(kinds.values()) for kinds in facts.seconds.values())
        for kinds in facts.seconds.values():
            for kind, seconds in kinds.items():
                found[kind if kind in KINDS else "other"] += seconds / total / len(broken)
    return {kind: share * row.timing.call_s.estimate for kind, share in found.items()}


def _se_share(parts: dict[str, float]) -> float:
    return sum(s for kind, s in parts.items() if kind.startswith("se_")) / sum(parts.values())


def _short_breakdown(row: CostRow, rows: Sequence[CostRow]) -> str:
    return f"{_short(row, rows)}\nbatch {row.first.batch_size}"
