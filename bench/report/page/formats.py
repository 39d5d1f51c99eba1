"""Print numbers: as many digits as they carry, an en dash where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.report.read.trained import Measured
from bench.stats.times import Interval

MISSING = "–"
GUESSES = " (no better than guessing)"
WIDE = 4.0


def number(value: float | None) -> str:
    """Return a measured number with three significant digits, whole from 100 on."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def count(number: int, thing: str) -> str:
    """Return a number of things: ``1 run``, ``2,000 runs``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def millions(count: int | None) -> str:
    """Return a count in millions with as many digits as tell models apart."""
    return MISSING if count is None else f"{count / 1e6:,.2f}"


def percent(measured: Measured | None, ends: bool = True, digits: int = 2) -> str:
    """Return a fraction in per cent with its interval: ``94.55 (94.09–94.98)``."""
    if measured is None:
        return MISSING
    value = f"{100 * measured.value:.{digits}f}"
    if not ends or measured.low is None or measured.high is None:
        return value
    low, high = (f"{100 * end:.{digits}f}" for end in (measured.low, measured.high))
    return f"{value} ({low}–{high})"


def points(fraction: float, sign: bool = False) -> str:
    """Return a fraction in percentage points: two decimals below 1, one from there on."""
    value = 100 * fraction
    text = f"{value:.2f}" if abs(value) < 0.995 else f"{value:.1f}"
    text = "0.00" if float(text) == 0 else text
    return f"+{text}" if sign and not text.startswith("-") else text.replace("-", "−")


def point_interval(interval: Interval) -> str:
    """Return a difference in percentage points with its interval: ``+0.90 (0.30 to 1.5)``."""
    ends = f"{points(interval.low)} to {points(interval.high)}"
    return f"{points(interval.estimate, sign=True)} ({ends})"


def p_value(value: float | None) -> str:
    """Return a p-value with three decimals, or that it is smaller."""
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.0995 else f"{value:.2f}"


def ratio(interval: Interval | None) -> str:
    """Return a factor with its interval: ``×1.21 (1.18–1.25)``, the ends only where known.

    An interval that spans a factor of four or more says that nothing is known, and is marked.
    """
    if interval is None:
        return MISSING
    value = f"×{_factor(interval.estimate)}"
    if not 0 < interval.low < interval.high < math.inf:
        return value
    wide = ": too wide to tell" if interval.high >= WIDE * interval.low else ""
    return f"{value} ({_factor(interval.low)}–{_factor(interval.high)}{wide})"


def _factor(value: float) -> str:
    """Return a factor with four digits near 1, where the fourth decides, and three elsewhere."""
    return f"{value:.3f}" if 0.5 < value < 2 else f"{value:.3g}"


def span(interval: Interval) -> str:
    """Return a cost with its interval: ``64.2 (63.8–64.5)``."""
    value = number(interval.estimate)
    if not -math.inf < interval.low < interval.high < math.inf:
        return value
    return f"{value} ({number(interval.low)}–{number(interval.high)})"


def chance(probability: float | None) -> str:
    """Return a probability from a thousand draws in per cent, never quite 0 or 100."""
    if probability is None:
        return MISSING
    if probability > 0.995:
        return "> 99 %"
    return "< 1 %" if probability < 0.005 else f"{100 * probability:.0f} %"


_BARS = "▁▂▃▄▅▆▇█"
MAX_BARS = 40


def spark(values: Sequence[float]) -> str:
    """Return values as a line of bars, the lowest to the highest; of many, evenly spaced ones."""
    shown = [value for value in values if math.isfinite(value)]
    if len(shown) > MAX_BARS:
        shown = [shown[i * (len(shown) - 1) // (MAX_BARS - 1)] for i in range(MAX_BARS)]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    span_ = high - low or 1.0
    return "".join(_BARS[round((value - low) / span_ * (len(_BARS) - 1))] for value in shown)
