"""Place direct labels in a chart so that they cover neither points, bars nor each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

RADII_PT = (10.0, 15.0, 21.0, 28.0, 37.0, 48.0, 61.0, 76.0, 95.0, 120.0)
ANGLES = tuple(math.radians(a) for a in (20, 160, -20, -160, 60, 120, -60, -120, 90, -90, 0, 180))
LEADER_FROM_PT = 15.0
POINT_PT = 6.0


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


def place(axes: Axes, labels: Sequence[Label], bars: Sequence[Bbox] = ()) -> list[Label]:
    """Write labels beside their points and return those for which no place was left.

    ``bars`` are boxes in data coordinates (error bars, lines) that labels must not cover. The
    figure must be settled.
    """
    to_pixels = axes.transData
    points = [tuple(to_pixels.transform((label.x, label.y))) for label in labels]
    scale = axes.figure.dpi / 72
    half = POINT_PT * scale
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in points]
    taken += [Bbox(to_pixels.transform(bar.get_points())) for bar in bars]
    left: list[Label] = []
    for label, (x, y) in zip(labels, points, strict=True):
        width, height = _size(axes, label.text)
        box = _first_free(axes, (x, y), width, height, taken)
        if box is None:
            left.append(label)
            continue
        taken.append(box)
        _write(axes, label, (x, y), box)
    return left


def _size(axes: Axes, text: str) -> tuple[float, float]:
    """Return width and height of a label in pixels."""
    probe = axes.text(0, 0, text, fontsize="small", transform=None)
    extent = probe.get_window_extent()
    probe.remove()
    return extent.width + 2, extent.height + 2


def _first_free(
    axes: Axes, point: tuple[float, float], width: float, height: float, taken: list[Bbox]
) -> Bbox | None:
    inside = axes.get_window_extent()
    for box in _candidates(point, width, height, axes.figure.dpi / 72):
        fits = inside.x0 <= box.x0 and box.x1 <= inside.x1
        fits = fits and inside.y0 <= box.y0 and box.y1 <= inside.y1
        if fits and not any(box.overlaps(other) for other in taken):
            return box
    return None


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


def _write(axes: Axes, label: Label, point: tuple[float, float], box: Bbox) -> None:
    """Write a label into its box, with a thin line to its point when it stands apart."""
    scale = axes.figure.dpi / 72
    middle = ((box.x0 + box.x1) / 2 - point[0], (box.y0 + box.y1) / 2 - point[1])
    nearest_x = min(max(point[0], box.x0), box.x1)
    nearest_y = min(max(point[1], box.y0), box.y1)
    apart = math.hypot(nearest_x - point[0], nearest_y - point[1]) > LEADER_FROM_PT * scale
    leader = {
        "arrowstyle": "-",
        "relpos": (
            (nearest_x - box.x0) / (box.x1 - box.x0),
            (nearest_y - box.y0) / (box.y1 - box.y0),
        ),
        "color": label.colour,
        "linewidth": 0.6,
        "shrinkA": 0,
        "shrinkB": 4,
    }
    axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=(middle[0] / scale, middle[1] / scale),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize="small",
        color="#222222",
        arrowprops=leader if apart else None,
    )


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
