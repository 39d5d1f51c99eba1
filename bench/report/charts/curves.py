"""Loss and accuracy on the training images by epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from bench.report import escape
from bench.report.charts.label_places import settle, spread
from bench.report.charts.palette import line_style, marker
from bench.report.read.trained import Cell

MAX_CURVES = 12


def curves(
    title: str, cells: Sequence[Cell], names: dict[str, str], palette: dict[str, str]
) -> Callable[[Figure], None]:
    """Return a function that draws the best cells: the median of the seeds in their range."""
    best = sorted(cells, key=lambda c: (-(c.top1.value if c.top1 else 0.0), c.key))
    shown = best[:MAX_CURVES]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        some = "" if len(shown) == len(cells) else f" (best {len(shown)} of {len(cells)})"
        figure.suptitle(escape.chart_title(title + some), x=0.01, ha="left", fontsize=10)
        for axes, what in ((left, "loss"), (right, "top1")):
            for cell in shown:
                _draw_curve(axes, cell, what, palette[cell.model.name])
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if max(len(_series(cell, what)[0]) for cell in shown) == 1:
                axes.set_xlim(0.5, 1.5)
        left.set_ylabel("training loss")
        right.set_ylabel("top-1 on the training images (%)")
        longest = max(len(escape.chart(names[cell.key])) for cell in shown)
        room = min(0.4, 0.0088 * longest + 0.03)
        figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0, 0, 1 - room, 1)))
        settle(figure)
        _name_curves(right, shown, names, palette)

    return draw


def _series(cell: Cell, what: str) -> tuple[list[int], list[list[float]]]:
    """Return epochs, and for each epoch the values of all seeds that reached it."""
    values: defaultdict[int, list[float]] = defaultdict(list)
    for run in cell.runs:
        for epoch in run.record.epochs:
            values[epoch.epoch].append(epoch.loss if what == "loss" else 100 * epoch.top1)
    epochs = sorted(values)
    return epochs, [values[epoch] for epoch in epochs]


def _draw_curve(axes: Axes, cell: Cell, what: str, colour: str) -> None:
    epochs, values = _series(cell, what)
    style: dict[str, Any] = {
        "color": colour,
        "linestyle": line_style(cell.model),
        "linewidth": 1.5,
    }
    if len(epochs) < 15:
        style |= {"marker": marker(cell.model), "markersize": 4}
    axes.plot(epochs, [median(v) for v in values], **style)
    if len(cell.runs) > 1:
        low, high = [min(v) for v in values], [max(v) for v in values]
        axes.fill_between(epochs, low, high, color=colour, alpha=0.15)


def _name_curves(
    axes: Axes, cells: Sequence[Cell], names: dict[str, str], palette: dict[str, str]
) -> None:
    """Write each curve's name to the right of the axes, level with its end where there is room."""
    box = axes.get_window_extent()
    ends = [_series(cell, "top1") for cell in cells]
    points = [axes.transData.transform((e[-1], median(v[-1]))) for e, v in ends]
    heights = spread([float(p[1]) for p in points], 12 * axes.figure.dpi / 72, box.y0, box.y1)
    for cell, point, height in zip(cells, points, heights, strict=True):
        at = axes.transAxes.inverted().transform((box.x1, height))
        axes.annotate(
            escape.chart(names[cell.key]),
            tuple(axes.transAxes.inverted().transform(point)),
            xycoords="axes fraction",
            xytext=(1.04, at[1]),
            textcoords="axes fraction",
            va="center",
            fontsize="small",
            color="#222222",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": palette[cell.model.name],
                "linewidth": 0.8,
                "shrinkA": 1,
                "shrinkB": 2,
            },
        )
