"""Accuracy reached by seconds of training: one staircase a cell, an arrow where training ended."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report import escape
from bench.report.charts.curves import MAX_CURVES
from bench.report.charts.label_places import Label, place, settle
from bench.report.charts.palette import line_style
from bench.report.charts.scatter import scale
from bench.report.derive.time_to import Race
from bench.report.read.trained import Cell

NUM_STEPS = 100


def race_curves(
    title: str, race: Race, names: dict[str, str], palette: dict[str, str]
) -> Callable[[Figure], None]:
    """Return a function that draws the best cells of a race: Kaplan–Meier medians over seeds."""
    best = sorted(race.cells, key=lambda c: (-(c.top1.value if c.top1 else 0.0), c.key))
    shown = best[:MAX_CURVES]

    tints = [palette[cell.model.name] for cell in shown]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        stairs = [_draw_staircase(axes, race, c, t) for c, t in zip(shown, tints, strict=True)]
        scale(axes, np.concatenate([[x for x, _ in stair] for stair in stairs]))
        some = "" if len(shown) == len(best) else f" (best {len(shown)} of {len(best)})"
        axes.set_title(escape.chart_title(title + some))
        axes.set_xlabel("seconds of training until it was first reached; arrow: training ended")
        axes.set_ylabel(escape.chart_title(f"top-1 on {race.what} (%)"))
        axes.margins(0.1, 0.1)
        settle(figure)
        labels = [
            Label(*stair[-1], escape.chart(names[cell.key]), tint)
            for stair, cell, tint in zip(stairs, shown, tints, strict=True)
        ]
        place(axes, labels, [], [point for stair in stairs for point in stair])

    return draw


def _draw_staircase(axes: Axes, race: Race, cell: Cell, colour: str) -> list[tuple[float, float]]:
    """Draw when the seeds of a cell reached each accuracy; return the points of the curve."""
    traces = race.traces[cell.key]
    levels = np.linspace(
        min(float(t.best[0]) for t in traces), max(float(t.best[-1]) for t in traces), NUM_STEPS
    )
    reached = [race.reach(cell, float(level)) for level in levels]
    told = [(r.median_s, 100 * r.top1) for r in reached if r.median_s is not None]
    every = [(r.low_s, r.high_s, 100 * r.top1) for r in reached if r.given_up_s is None]
    seconds, top1 = zip(*told, strict=True)
    axes.plot(seconds, top1, color=colour, linestyle=line_style(cell.model), linewidth=1.5)
    if len(traces) > 1:
        low, high, up = zip(*every, strict=True)
        axes.fill_betweenx(up, low, high, color=colour, alpha=0.15, linewidth=0)
    end = max(float(t.seconds[-1]) for t in traces)
    top = top1[-1]
    axes.plot([seconds[-1], end], [top, top], color=colour, linewidth=0.8, linestyle=":")
    axes.plot([end], [top], color=colour, marker=">", markersize=6)
    return [*told, (end, top)]
