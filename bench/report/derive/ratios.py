"""Ratios of times between cost rows, with the interval that the way of measuring allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bench.report.derive.profile_rows import blocks
from bench.report.read.profiled import CostRow
from bench.stats import times
from bench.stats.times import Interval, log_error

APART = "timed apart"


@dataclass(frozen=True)
class Ratio:
    """How many times the time of ``base`` a row takes, and how the interval was found.

    ``floor`` is how far from 1 the same sittings put the ratio of a row to itself.
    """

    interval: Interval
    method: str
    floor: float | None

    @property
    def differs(self) -> bool:
        """Tell whether the ratio is a difference rather than noise."""
        return times.differs(self.interval, self.floor)


def time_ratio(row: CostRow, base: CostRow) -> Ratio | None:
    """Return the ratio of the times of one call; None when one of them was not timed.

    Rows that took turns in one sitting are compared round by round (`stats.paired_ratio`); several
    sittings give the interval over sittings; rows timed apart that of two independent medians.
    """
    if row.timing is None or base.timing is None:
        return None
    shared = _shared_sittings(row, base)
    floor = times.noise_floor(shared)
    if len(shared) > 1:
        ratios = [times.paired_ratio(*pair).estimate for pair in shared]
        return Ratio(times.geometric_interval(ratios), f"t over {len(ratios)} sittings", floor)
    if shared:
        return Ratio(times.paired_ratio(*shared[0]), "paired, trimmed mean over rounds", floor)
    return Ratio(apart(row.timing.call_s, base.timing.call_s), APART, None)


Blocks = dict[int, list[float]]


def _shared_sittings(row: CostRow, base: CostRow) -> list[tuple[Blocks, Blocks]]:
    """Return the blocks of both rows for each sitting in which they took turns."""
    bases = {(p.record.sitting, p.record.group): blocks(p.record) for p in base.profiles}
    found = []
    for profile in row.profiles:
        other = bases.get((profile.record.sitting, profile.record.group), {})
        mine = blocks(profile.record)
        if len(mine.keys() & other.keys()) > 1:
            found.append((mine, other))
    return found


def apart(row: Interval, base: Interval) -> Interval:
    """Return the ratio of two independent times, their log-intervals added in squares."""
    estimate = row.estimate / base.estimate
    mine, other = log_error(row), log_error(base)
    count = min(row.num_samples, base.num_samples)
    if mine is None or other is None:
        return Interval(estimate, 0.0, math.inf, count)
    factor = math.exp(1.96 * math.hypot(mine, other))
    return Interval(estimate, estimate / factor, estimate * factor, count)
