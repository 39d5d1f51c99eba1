"""Draw every chart that the records have the data for, as PNG and SVG.

Only matplotlib's Figure is used, never pyplot, so that nothing global changes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.report import escape
from bench.report.charts import attention, confusion, curves, forest, scatter, time_to
from bench.report.charts.palette import colours
from bench.report.derive.deployments import deployment_fronts
from bench.report.derive.findings import Findings
from bench.report.derive.gains import priced
from bench.report.derive.speed.attention_tax import tax_lines
from bench.report.derive.speed.axes import accuracy_axes
from bench.report.read.trained import Cell

FONT = "DejaVu Sans"
# As wide as the font above, for who looks at an SVG without having it.
FALLBACK = "Verdana, sans-serif"
STYLE: dict[str, Any] = {
    "font.family": FONT,
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
    "svg.fonttype": "none",  # text stays text: searchable, and a tenth of the size
}
# The width of a README's column, and of a printed one and a half columns.
SIZE_IN = (7.2, 4.6)
DPI = 160


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
class Plan:
    """A chart to draw."""

    title: str
    name: str
    draw: Callable[[Figure], None]
    explorable: bool = False


def charts(found: Findings) -> list[Chart]:
    """Return every chart, those of the main data set first."""
    return draw(_plans(found))


def draw(plans: Iterable[Plan]) -> list[Chart]:
    """Return the planned charts, drawn."""
    drawn: list[Chart] = []
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)  # type: ignore[arg-type] # its keys are literals
        for plan in plans:
            figure = Figure(figsize=SIZE_IN, dpi=DPI, layout="constrained")
            plan.draw(figure)
            png, svg = _saved(figure, "png"), _slim(_saved(figure, "svg"))
            drawn.append(Chart(plan.title, plan.name, plan.explorable, png, svg))
    return drawn


def _saved(figure: Figure, ending: str) -> bytes:
    """Return the figure as bytes without date, program or machine in them."""
    FigureCanvasAgg(figure)
    metadata = {"Date": None, "Creator": "senet-bench"} if ending == "svg" else {"Software": None}
    file = io.BytesIO()
    figure.savefig(file, format=ending, dpi=DPI, metadata=metadata)
    return file.getvalue()


# Where an SVG's coordinates stand; a hundredth of a point is less than any screen shows.
_PLACES = re.compile(r'\b(?:d|x|y|transform)="[^"]*"')
_HUNDREDTHS = re.compile(r"(\.\d\d)\d+")


def _slim(svg: bytes) -> bytes:
    """Return an SVG with a font for who lacks the first, and with rounded coordinates."""
    text = svg.decode().replace(f"'{FONT}'", f"'{FONT}', {FALLBACK}")
    return _PLACES.sub(lambda found: _HUNDREDTHS.sub(r"\1", found[0]), text).encode()


def _plans(found: Findings) -> Iterator[Plan]:
    """Yield the charts of each data set, then those of all."""
    study = found.study
    for label, digest in study.datasets:
        cells = [c for c in study.cells if (c.dataset, c.digest) == (label, digest)]
        suffix = f"-{escape.file_name(f'{label} {digest[:6]}')}" if len(study.datasets) > 1 else ""
        yield from _of_data_set(found, cells, suffix)
    yield from _deployments(found)
    yield from _attention(found)
    yield from _forests(found)


def _of_data_set(found: Findings, cells: Sequence[Cell], suffix: str) -> Iterator[Plan]:
    palette = colours(model.name for model in found.study.models)
    label = cells[0].dataset
    scored = [cell for cell in cells if cell.top1]
    for axis in accuracy_axes(found.study, scored):
        title = f"{label}: accuracy against {axis.title}"
        draw = scatter.scatter(title, axis, scored, found.labels, palette)
        yield Plan(title, f"accuracy-{axis.name}{suffix}", draw, explorable=True)
    trained = [cell for cell in cells if any(run.record.epochs for run in cell.runs)]
    if trained:
        title = f"{label}: learning curves"
        draw = curves.curves(title, trained, found.labels, palette)
        yield Plan(title, f"learning-curves{suffix}", draw)
    here = {cell.key for cell in cells}
    race = next((r for r in found.races if r.cells[0].key in here), None)
    if race is not None:
        title = f"{label}: time to accuracy on {race.device}"
        draw = time_to.race_curves(title, race, found.labels, palette)
        yield Plan(title, f"time-to-accuracy{suffix}", draw)
    told = [cell for cell in scored if cell.hits is not None]
    if told and told[0].model.num_classes <= confusion.MAX_CLASSES:
        best = max(told, key=lambda cell: (cell.top1.value if cell.top1 else 0.0, cell.key))
        title = f"{label}: what {found.labels[best.key]} says of each class"
        yield Plan(title, f"confusion{suffix}", confusion.confusion(title, best))


def _deployments(found: Findings) -> Iterator[Plan]:
    """Yield the charts whose points are deployments, each with its own accuracy and cost."""
    palette = colours(model.name for model in found.study.models)
    for front in deployment_fronts(found.study.costs):
        shown = [point.deployment for point in front.points]
        names = {one.key: one.label for one in shown}
        title = f"{front.dataset}: accuracy of deployments against {front.axis.title}"
        where = front.points[0].deployment
        place = f"{front.dataset} {where.accuracy.digest[:6]} {where.row.environment.host}"
        name = escape.file_name(f"{front.axis.name} {place}")
        yield Plan(title, name, scatter.scatter(title, front.axis, shown, names, palette))


def _attention(found: Findings) -> Iterator[Plan]:
    """Yield the charts of what attention brings, and what of time that costs."""
    if not found.gains:
        return
    title = "What attention brings, beside published gains"
    draw = attention.gains_beside_published(title, found.gains, found.labels)
    yield Plan(title, "attention-gains", draw)
    priced_gains = priced(found.gains, tax_lines(found.study.costs))
    if priced_gains:
        title = "What attention brings, against the time it costs"
        draw = attention.gain_against_time(title, priced_gains)
        yield Plan(title, "attention-gain-time", draw)


def _forests(found: Findings) -> Iterator[Plan]:
    """Yield the charts of differences and of effects with their intervals."""
    for title, name, bars in (
        ("Differences of top-1 between models", "differences", forest.pair_bars(found)),
        ("Effects on top-1", "attribution", forest.effect_bars(found)),
    ):
        if bars:
            yield Plan(title, name, forest.forest(title, bars))
