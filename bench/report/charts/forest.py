"""Differences and effects as points with their intervals, one a line, around zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from bench.report import escape
from bench.report.derive.findings import Findings
from bench.stats.times import Interval

MAX_BARS = 24
RESOLVED, OPEN = "#0072B2", "#777777"


@dataclass(frozen=True)
class Bar:
    """One line of the chart, in fractions of accuracy."""

    name: str
    interval: Interval
    resolved: bool


def pair_bars(found: Findings) -> list[Bar]:
    """Return a line for each compared pair, those with one difference first."""
    return [
        Bar(
            f"{found.labels[p.second.key]} − {found.labels[p.first.key]}",
            p.difference.interval,
            p.resolved,
        )
        for p in found.pairs.pairs
        if p.difference and not p.mismatches
    ][:MAX_BARS]


def effect_bars(found: Findings) -> list[Bar]:
    """Return a line for each effect and interaction."""
    several = len(found.attributions) > 1
    return [
        Bar(
            f"{f'{one.dataset}: ' if several else ''}{e.term.name}: {e.term.change}",
            e.top1.interval,
            e.finding in ("more", "less"),
        )
        for one in found.attributions
        for e in one.effects
        if e.top1
    ][:MAX_BARS]


def forest(title: str, bars: Sequence[Bar]) -> Callable[[Figure], None]:
    """Return a function that draws the lines, the first on top."""

    def draw(figure: Figure) -> None:
        figure.set_size_inches(7.2, 1.0 + 0.26 * len(bars))
        axes = figure.add_subplot()
        axes.axvline(0, color="#444444", linewidth=0.8)
        for kind, colour in ((True, RESOLVED), (False, OPEN)):
            places = [i for i, bar in enumerate(bars) if bar.resolved is kind]
            values = [100 * bars[i].interval.estimate for i in places]
            low = [100 * bars[i].interval.low for i in places]
            high = [100 * bars[i].interval.high for i in places]
            axes.hlines(places, low, high, colors=colour, linewidth=1.6)
            fill = colour if kind else "white"
            axes.scatter(values, places, s=30, facecolors=fill, edgecolors=colour, zorder=3)
        axes.set_yticks(range(len(bars)), [escape.shortened(b.name, 64) for b in bars])
        axes.tick_params(axis="y", length=0, labelsize="small")
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("percentage points of top-1 (95 %)")
        told = f"{title} (filled: resolved after correction for the family)"
        figure.suptitle(escape.chart_title(told), x=0.01, ha="left", fontsize=10)

    return draw
