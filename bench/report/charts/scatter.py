"""Top-1 against a cost, with error bars, the front, and direct labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox

from bench.report import escape
from bench.report.charts.label_places import Label, place, settle
from bench.report.charts.palette import marker
from bench.report.derive.pareto import burden_at
from bench.report.derive.speed.axes import Axis
from bench.report.read.models import kind
from bench.report.read.trained import Measured
from bench.spec.run import ModelSpec
from bench.stats.pareto import on_front
from bench.stats.times import log_error

# An axis turns logarithmic when its largest value is this many times its smallest.
LOG_RATIO = 8.0
# An interval reaches at most this many times beyond the outermost points.
MAX_REACH = 1.5
# With more points than this only those on the front are named.
MAX_LABELS = 24
MAX_LEGEND = 8
# Costs within this factor are drawn on an axis that is as wide as twice this factor at least.
NEAR = 1.1


class Shown(Protocol):
    """A trained cell or a deployment: something with an accuracy, and a cost by its key."""

    @property
    def key(self) -> str: ...

    @property
    def model(self) -> ModelSpec: ...

    @property
    def top1(self) -> Measured | None: ...


def scatter(
    title: str,
    axis: Axis,
    cells: Sequence[Shown],
    names: dict[str, str],
    palette: dict[str, str],
) -> Callable[[Figure], None]:
    """Return a function that draws the cells that have this cost."""
    shown = [cell for cell in cells if cell.key in axis.values]
    tints = [palette[cell.model.name] for cell in shown]
    x, x_ends = _costs(shown, axis)
    y, y_ends = _top1(shown)
    front = on_front(y, np.array([burden_at(axis, cell.key) for cell in shown]))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        scale(axes, x)
        axes.vlines(x, *y_ends, colors=tints, linewidth=1.1)
        axes.hlines(y, *_in_sight(x, x_ends), colors=tints, linewidth=1.1)
        order = np.argsort(x[front])
        axes.plot(x[front][order], y[front][order], color="#888888", linewidth=0.9, dashes=(4, 3))
        _marks(axes, shown, x, y, tints)
        axes.set(
            xlabel=escape.chart_title(axis.label),
            ylabel="top-1 on the test set (%; bars: images alone)",
        )
        axes.set_title(escape.chart_title(title))
        axes.margins(0.16, 0.14)
        _keep_near(axes, x)
        settle(figure)
        labels = [
            Label(float(x[i]), float(y[i]), escape.chart(names[cell.key]), tints[i])
            for i, cell in enumerate(shown)
            if len(shown) <= MAX_LABELS or front[i]
        ]
        bars = [
            Bbox.from_extents(x[i], y_ends[0][i], x[i], y_ends[1][i]) for i in range(len(shown))
        ]
        every = list(zip(x.tolist(), y.tolist(), strict=True))
        line = [every[i] for i in np.flatnonzero(front)[order]]
        left = place(axes, labels, bars, every, line)
        unnamed = len(shown) - len(labels) + len(left)
        if unnamed:
            note = f"{unnamed} of {len(shown)} points are not named; report.html names all"
            axes.annotate(
                note, (0.99, 0.012), xycoords="axes fraction", ha="right", fontsize="x-small"
            )
            _legend(axes, shown, tints)

    return draw


Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


def _costs(cells: Sequence[Shown], axis: Axis) -> tuple[Floats, tuple[Floats, Floats]]:
    """Return the costs and the ends of their intervals; open ends lie on the value."""
    values = [axis.values[cell.key] for cell in cells]
    known = [log_error(value) is not None for value in values]
    low = [v.low if ok else v.estimate for v, ok in zip(values, known, strict=True)]
    high = [v.high if ok else v.estimate for v, ok in zip(values, known, strict=True)]
    return np.array([v.estimate for v in values]), (np.array(low), np.array(high))


def _in_sight(values: Floats, ends: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Return intervals cut where the widest of them would press all points together."""
    if values.min() <= 0:
        return ends
    low, high = values.min() / MAX_REACH, values.max() * MAX_REACH
    return np.clip(ends[0], low, high), np.clip(ends[1], low, high)


def _top1(cells: Sequence[Shown]) -> tuple[Floats, tuple[Floats, Floats]]:
    """Return top-1 and the ends of its intervals in per cent, within 0 and 100."""
    found = [c.top1 for c in cells if c.top1 is not None]
    low = [t.value if t.low is None else max(0.0, t.low) for t in found]
    high = [t.value if t.high is None else min(1.0, t.high) for t in found]
    value = np.array([t.value for t in found])
    return 100 * value, (100 * np.array(low), 100 * np.array(high))


def _marks(axes: Axes, cells: Sequence[Shown], x: Floats, y: Floats, tints: Sequence[str]) -> None:
    """Draw the points, one call for each shape and fill."""
    kinds: defaultdict[tuple[str, bool], list[int]] = defaultdict(list)
    for i, cell in enumerate(cells):
        kinds[marker(cell.model), kind(cell.model) != "none"].append(i)
    size = 46 if len(cells) <= MAX_LABELS else 20
    for (shape, filled), chosen in kinds.items():
        edge = [tints[i] for i in chosen]
        axes.scatter(
            x[chosen],
            y[chosen],
            s=size,
            marker=shape,
            facecolors=edge if filled else "white",
            edgecolors=edge,
            linewidths=1.6,
            zorder=3,
        )


def _legend(axes: Axes, cells: Sequence[Shown], tints: Sequence[str]) -> None:
    """Say which model the points without a name are of, by their colour."""
    seen = {cell.model.name: (cell.model, tint) for cell, tint in zip(cells, tints, strict=True)}
    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=marker(model),
            color=tint,
            markerfacecolor=tint if kind(model) != "none" else "white",
            label=escape.chart(name),
        )
        for name, (model, tint) in seen.items()
    ]
    if len(handles) <= MAX_LEGEND:
        axes.legend(handles=handles, loc="lower left", fontsize="small", frameon=False)


def _keep_near(axes: Axes, values: Floats) -> None:
    """Draw costs that hardly differ near each other, with ticks that stand for themselves."""
    if axes.get_xscale() == "log":
        return
    axes.ticklabel_format(axis="x", useOffset=False)
    low, high = float(values.min()), float(values.max())
    if 0 < low <= high < NEAR * low:
        axes.set_xlim(low / NEAR, high * NEAR)


def scale(axes: Axes, values: Floats) -> None:
    """Make the x axis logarithmic where the values span a wide range."""
    if values.min() <= 0 or values.max() / values.min() < LOG_RATIO:
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
