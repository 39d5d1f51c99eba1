"""Place direct labels in a chart so that they cover neither points, bars nor each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

RADII_PT = (10.0, 15.0, 21.0, 28.0, 37.0, 48.0, 61.0, 76.0, 95.0, 120.0)
ANGLES = tuple(math.radians(a) for a in (20, 160, -20, -160, 60, 120, -60, -120, 90, -90, 0, 180))
LEADER_FROM_PT = 15.0
POINT_PT = 6.0
LINE_PT = 2.0


@dataclass(frozen=True)
class Label:
    """A text to place beside the point (x, y), given in data coordinates."""

    x: float
    y: float
    text: str
    colour: str


def settle(figure: Figure) -> None:
    """Fix the layout, so that positions measured from now on stay."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def place(
    axes: Axes,
    labels: Sequence[Label],
    bars: Sequence[Bbox],
    points: Sequence[tuple[float, float]],
    line: Sequence[tuple[float, float]] = (),
) -> list[Label]:
    """Write labels beside their points and return those for which no place was left.

    ``bars`` are boxes in data coordinates (error bars), ``points`` all points of the chart, and
    ``line`` the corners of a line through it; labels cover none. The figure must be settled.
    """
    half = POINT_PT * axes.figure.dpi / 72
    middles = axes.transData.transform(np.asarray(points))
    spans = [axes.transData.transform(bar.get_points()).reshape(1, 4) for bar in bars]
    along = _along(axes, line, LINE_PT * axes.figure.dpi / 72)
    taken = np.vstack([np.hstack([middles - half, middles + half]), *spans, along])
    left: list[Label] = []
    leaders: list[tuple[tuple[float, float], tuple[float, float], str]] = []
    for label in labels:
        x, y = axes.transData.transform((label.x, label.y))
        box = _first_free(axes, (float(x), float(y)), _size(axes, label.text), taken)
        if box is None:
            left.append(label)
            continue
        taken = np.vstack([taken, np.asarray(box.extents).reshape(1, 4)])
        nearest = _write(axes, label, (float(x), float(y)), box)
        if nearest is not None:
            leaders.append(((label.x, label.y), nearest, label.colour))
    _draw_leaders(axes, leaders)
    return left


def _along(axes: Axes, line: Sequence[tuple[float, float]], half: float) -> NDArray[np.float64]:
    """Return small boxes (x0, y0, x1, y1) in pixels that cover a line through the corners."""
    if len(line) < 2:
        return np.empty((0, 4))
    corners = axes.transData.transform(np.asarray(line))
    pieces = [
        np.linspace(a, b, 2 + int(math.dist(a, b) / (2 * half))) for a, b in pairwise(corners)
    ]
    middles = np.vstack(pieces)
    return np.hstack([middles - half, middles + half])


def _draw_leaders(
    axes: Axes, leaders: Sequence[tuple[tuple[float, float], tuple[float, float], str]]
) -> None:
    """Draw thin lines from points to the labels that stand apart from them."""
    if leaders:
        lines = LineCollection(
            [(start, end) for start, end, _ in leaders],
            colors=[colour for _, _, colour in leaders],
            linewidths=0.6,
        )
        axes.add_collection(lines, autolim=False)


def _size(axes: Axes, text: str) -> tuple[float, float]:
    """Return width and height of a label in pixels."""
    probe = axes.text(0, 0, text, fontsize="small", transform=None)
    extent = probe.get_window_extent()
    probe.remove()
    return extent.width + 2, extent.height + 2


def _first_free(
    axes: Axes,
    point: tuple[float, float],
    size: tuple[float, float],
    taken: NDArray[np.float64],
) -> Bbox | None:
    inside = axes.get_window_extent()
    for box in _candidates(point, *size, axes.figure.dpi / 72):
        fits = inside.x0 <= box.x0 and box.x1 <= inside.x1
        if fits and inside.y0 <= box.y0 and box.y1 <= inside.y1 and not _covers(box, taken):
            return box
    return None


def _covers(box: Bbox, taken: NDArray[np.float64]) -> bool:
    """Return whether a box covers any of the taken (x0, y0, x1, y1)."""
    apart = (
        (taken[:, 0] >= box.x1)
        | (taken[:, 2] <= box.x0)
        | (taken[:, 1] >= box.y1)
        | (taken[:, 3] <= box.y0)
    )
    return not bool(apart.all())


def _candidates(
    point: tuple[float, float], width: float, height: float, scale: float
) -> Iterator[Bbox]:
    """Yield boxes around a point, the nearest first."""
    x, y = point
    for radius in RADII_PT:
        for angle in ANGLES:
            dx, dy = math.cos(angle) * radius * scale, math.sin(angle) * radius * scale
            left = x + dx if dx > 1 else x + dx - width if dx < -1 else x - width / 2
            bottom = y + dy - height / 2 + math.copysign(height / 2, dy) * abs(math.sin(angle))
            yield Bbox.from_bounds(left, bottom, width, height)


def _write(
    axes: Axes, label: Label, point: tuple[float, float], box: Bbox
) -> tuple[float, float] | None:
    """Write a label into its box; return where its line ends, in data, if it stands apart."""
    scale = axes.figure.dpi / 72
    middle = ((box.x0 + box.x1) / 2 - point[0], (box.y0 + box.y1) / 2 - point[1])
    axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=(middle[0] / scale, middle[1] / scale),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize="small",
        color="#222222",
        # A halo by path effects would turn the text into outlines in an SVG.
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.4},
    )
    nearest = (min(max(point[0], box.x0), box.x1), min(max(point[1], box.y0), box.y1))
    if math.dist(nearest, point) <= LEADER_FROM_PT * scale:
        return None
    x, y = axes.transData.inverted().transform(nearest)
    return float(x), float(y)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions near the wanted ones, at least ``gap`` apart, within ``low`` and ``high``.

    The order is kept. With too many for the room, the gap shrinks to what fits.
    """
    count = len(wanted)
    gap = min(gap, (high - low) / max(1, count - 1))
    order = sorted(range(count), key=lambda i: wanted[i])
    placed = [0.0] * count
    floor = low
    for rank, i in enumerate(order):
        ceiling = high - gap * (count - 1 - rank)
        placed[i] = min(max(wanted[i], floor), ceiling)
        floor = placed[i] + gap
    return placed
