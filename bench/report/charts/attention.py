"""What attention brings, against what it costs in time and beside what others publish."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from bench.report import escape
from bench.report.charts.label_places import Label, place, settle
from bench.report.charts.palette import kind_colour
from bench.report.derive.gains import Gain, GainPoint
from bench.report.read.models import attention_and_network, attention_title, family
from bench.stats.times import Interval, log_error

MAX_GAINS = 40


def gain_against_time(title: str, shown: Sequence[GainPoint]) -> Callable[[Figure], None]:
    """Return a function that draws gains in points over the time they cost, in per cent.

    One point a model, filled where the gain is established, joined for one attention in one family.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axhline(0, color="#444444", linewidth=0.8)
        axes.axvline(0, color="#444444", linewidth=0.8)
        _joined(axes, shown)
        bars = [_point(axes, one) for one in shown]
        axes.set(xlabel=f"more time: {escape.chart_title(shown[0].what)} (%)",
                 ylabel="gain in points of top-1")  # fmt: skip
        axes.set_title(escape.chart_title(title))
        axes.margins(0.16, 0.14)
        settle(figure)
        places = [_place(one) for one in shown]
        labels = [
            Label(*at, escape.chart(attention_and_network(model)), kind_colour(model))
            for model, at in zip((one.gain.full.model for one in shown), places, strict=True)
        ]
        place(axes, labels, bars, places)

    return draw


def _place(one: GainPoint) -> tuple[float, float]:
    return 100 * (one.time.estimate - 1), 100 * one.gain.difference.interval.estimate


def _point(axes: Axes, one: GainPoint) -> Bbox:
    """Draw one point with both intervals; return the box of its vertical one."""
    x, y = _place(one)
    tint, gain = kind_colour(one.gain.full.model), one.gain.difference.interval
    low, high = (100 * end for end in (gain.low, gain.high))
    axes.vlines(x, low, high, colors=tint, linewidth=1.1)
    if log_error(one.time) is not None:
        left, right = (100 * (end - 1) for end in (one.time.low, one.time.high))
        axes.hlines(y, left, right, colors=tint, linewidth=1.1)
    established = one.gain.finding in ("more", "less")
    face = tint if established else "white"
    axes.scatter([x], [y], s=42, facecolors=face, edgecolors=tint, linewidths=1.6, zorder=3)
    return Bbox.from_extents(x, low, x, high)


def _joined(axes: Axes, shown: Sequence[GainPoint]) -> None:
    """Draw a line through the depths of one attention in one family, from shallow to deep."""
    lines: defaultdict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for one in shown:
        model = one.gain.full.model
        lines[family(model), attention_title(model), model.stem or ""].append(_place(one))
    for places in lines.values():
        if len(places) > 1:
            axes.plot(*zip(*places, strict=True), color="#BBBBBB", linewidth=0.8, zorder=1)


def gains_beside_published(
    title: str, gains: Sequence[Gain], names: dict[str, str]
) -> Callable[[Figure], None]:
    """Return a function that draws each gain with its interval, and published gains on its line.

    Published gains are diamonds, filled where they may stand beside ours, with who says so.
    """
    shown = gains[:MAX_GAINS]
    lines = [(gain, claim) for gain in shown for claim in (None, *gain.claims)]

    def draw(figure: Figure) -> None:
        figure.set_size_inches(7.2, 1.1 + 0.24 * len(lines))
        axes = figure.add_subplot()
        axes.axvline(0, color="#444444", linewidth=0.8)
        told = []
        for row, (gain, claim) in enumerate(lines):
            tint = kind_colour(gain.full.model)
            if claim is None:
                _ours(axes, row, gain.difference.interval, tint, gain)
                told.append(escape.shortened(names[gain.full.key], 52))
                continue
            face = tint if not claim.why_not else "white"
            axes.scatter([100 * claim.gain.points], [row], marker="D", s=24, facecolors=face,
                         edgecolors=tint, zorder=3)  # fmt: skip
            source = f"{claim.gain.full.source.name}, {claim.gain.full.dataset}"
            told.append(escape.shortened(source, 52))
        axes.set_yticks(range(len(lines)), told)
        for label, (_, claim) in zip(axes.get_yticklabels(), lines, strict=True):
            label.set_color("#777777" if claim else "black")
        axes.tick_params(axis="y", length=0, labelsize="small")
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("gain in points of top-1 (95 %)")
        more = "circles: ours, filled where established; diamonds: published, filled if comparable"
        figure.suptitle(escape.chart_title(title), x=0.01, ha="left", fontsize=10)
        axes.set_title(more, fontsize="x-small", color="#777777")

    return draw


def _ours(axes: Axes, row: int, gain: Interval, tint: str, of: Gain) -> None:
    axes.hlines([row], 100 * gain.low, 100 * gain.high, colors=tint, linewidth=1.6)
    face = tint if of.finding in ("more", "less") else "white"
    axes.scatter([100 * gain.estimate], [row], s=34, facecolors=face, edgecolors=tint, zorder=3)
