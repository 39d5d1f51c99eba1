"""Draw the charts: accuracy against each cost, and the learning curves.

Only matplotlib's Figure is used, never pyplot, so that nothing global changes.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox

from bench.report import escape
from bench.report.costs import Axis, cost_axes, log_error
from bench.report.findings import Findings
from bench.report.palette import colours, line_style, marker
from bench.report.placing import Label, place, settle, spread
from bench.report.study import Cell, has_se

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "savefig.facecolor": "white",
    "svg.hashsalt": "senet-bench",  # the same identifiers in every rendering
    "svg.fonttype": "path",
}
SIZE_IN = (7.2, 4.6)
DPI = 160
# An axis turns logarithmic when its largest value is this many times its smallest.
LOG_RATIO = 8.0
MAX_LABELS = 40
MAX_CURVES = 12


@dataclass(frozen=True)
class Chart:
    """A drawn chart: its title, the file name without ending, PNG and SVG.

    ``explorable`` charts show what the page's own chart does.
    """

    title: str
    name: str
    explorable: bool
    png: bytes
    svg: bytes


@dataclass(frozen=True)
class Point:
    """A cell at its cost; ``x_low`` and ``x_high`` are the ends of the cost's interval."""

    cell: Cell
    x: float
    x_low: float
    x_high: float


def _point(cell: Cell, axis: Axis) -> Point:
    """Return a cell's place on a cost axis; ends that are open are left out."""
    cost = axis.values[cell.key]
    if log_error(cost) is None:
        return Point(cell, cost.estimate, cost.estimate, cost.estimate)
    return Point(cell, cost.estimate, cost.low, cost.high)


def charts(found: Findings) -> list[Chart]:
    """Return every chart that the records have the data for."""
    drawn: list[Chart] = []
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)  # type: ignore[arg-type] # its keys are literals
        for title, name, draw in _plans(found):
            figure = Figure(figsize=SIZE_IN, dpi=DPI, layout="constrained")
            draw(figure)
            drawn.append(
                Chart(
                    title,
                    name,
                    name.startswith("accuracy-"),
                    _saved(figure, "png"),
                    _saved(figure, "svg"),
                )
            )
    return drawn


def _saved(figure: Figure, ending: str) -> bytes:
    """Return the figure as bytes without date, program or machine in them."""
    FigureCanvasAgg(figure)
    metadata = {"Date": None, "Creator": "senet-bench"} if ending == "svg" else {"Software": None}
    file = io.BytesIO()
    figure.savefig(file, format=ending, dpi=DPI, metadata=metadata)
    return file.getvalue()


Plan = tuple[str, str, Callable[[Figure], None]]


def _plans(found: Findings) -> Iterator[Plan]:
    """Yield (title, file name, function that draws it) for each chart."""
    study = found.study
    palette = colours(model.name for model in study.models)
    for label, digest in study.datasets:
        cells = [c for c in study.cells if (c.dataset, c.digest) == (label, digest)]
        suffix = f"-{escape.file_name(label)}" if len(study.datasets) > 1 else ""
        for axis in cost_axes(study, [cell for cell in cells if cell.top1]):
            points = [_point(cell, axis) for cell in cells if cell.key in axis.values]
            title = f"{label}: accuracy against {axis.title}"
            draw = _scatter(title, axis.label, points, found.labels, palette)
            yield title, f"accuracy-{axis.name}{suffix}", draw
        trained = [cell for cell in cells if any(run.record.epochs for run in cell.runs)]
        if trained:
            title = f"{label}: learning curves"
            yield title, f"learning-curves{suffix}", _curves(title, trained, found.labels, palette)


def _scatter(
    title: str,
    axis: str,
    points: Sequence[Point],
    names: dict[str, str],
    palette: dict[str, str],
) -> Callable[[Figure], None]:
    """Return a function that draws top-1 against a cost, with error bars and direct labels."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for point in points:
            _draw_point(axes, point, palette[point.cell.model.name])
        _scale(axes, [p.x for p in points])
        axes.set(xlabel=escape.chart_title(axis), ylabel="top-1 on the test set (%)")
        axes.set_title(escape.chart_title(title))
        axes.margins(0.16, 0.14)
        settle(figure)
        texts = [escape.chart(names[point.cell.key]) for point in points]
        labels = [
            Label(p.x, _top1(p.cell)[0], text, palette[p.cell.model.name])
            for p, text in zip(points, texts, strict=True)
        ]
        left = place(axes, labels[:MAX_LABELS], [_bars(p) for p in points])
        unnamed = len(left) + len(labels[MAX_LABELS:])
        if unnamed:
            note = f"{unnamed} of {len(labels)} points have no label; results.csv has them all"
            figure.text(0.99, 0.005, note, ha="right", fontsize="x-small", color="#555555")

    return draw


def _top1(cell: Cell) -> tuple[float, float, float]:
    """Return top-1 and the ends of its interval in per cent."""
    top1 = cell.top1
    assert top1 is not None
    low = top1.value if top1.low is None else max(0.0, top1.low)
    high = top1.value if top1.high is None else min(1.0, top1.high)
    return 100 * top1.value, 100 * low, 100 * high


def _draw_point(axes: Axes, point: Point, colour: str) -> None:
    model, (y, low, high) = point.cell.model, _top1(point.cell)
    axes.errorbar(
        point.x,
        y,
        xerr=[[max(0.0, point.x - point.x_low)], [max(0.0, point.x_high - point.x)]],
        yerr=[[y - low], [high - y]],
        fmt=marker(model),
        markersize=7,
        color=colour,
        markerfacecolor=colour if has_se(model) else "white",
        markeredgewidth=1.6,
        elinewidth=1.0,
        capsize=2.5,
    )


def _bars(point: Point) -> Bbox:
    """Return the box that a point's error bars span (thin boxes would let labels cover them)."""
    _, low, high = _top1(point.cell)
    return Bbox.from_extents(point.x, low, point.x * 1.0000001, high)


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """Make the x axis logarithmic where the values span a wide range."""
    if min(values) <= 0 or max(values) / min(values) < LOG_RATIO:
        axes.set_xlim(left=None)
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _curves(
    title: str, cells: Sequence[Cell], names: dict[str, str], palette: dict[str, str]
) -> Callable[[Figure], None]:
    """Return a function that draws loss and accuracy on the training images by epoch."""
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
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
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
    style: dict[str, Any] = {"color": colour, "linestyle": line_style(cell.model), "linewidth": 1.5}
    few: dict[str, Any] = (
        {"marker": marker(cell.model), "markersize": 4} if len(epochs) < 15 else {}
    )
    axes.plot(epochs, [median(v) for v in values], **style, **few)
    if len(cell.runs) > 1:
        axes.fill_between(
            epochs, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.15
        )


def _name_curves(
    axes: Axes, cells: Sequence[Cell], names: dict[str, str], palette: dict[str, str]
) -> None:
    """Write each curve's name to the right of the axes, level with its end where there is room."""
    box = axes.get_window_extent()
    ends = [(_series(cell, "top1")) for cell in cells]
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
