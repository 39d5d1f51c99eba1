"""Ratios of times between cost rows, with the interval that the way of measuring allows."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from bench.report.derive.conditions import may_meet
from bench.report.derive.speed.profile_rows import blocks, starved
from bench.report.read.profiled import CostRow
from bench.report.read.timings import ONE_SITTING
from bench.stats import times
from bench.stats.decide import Finding, finding
from bench.stats.replicates import Judged, Replicated, judged, replicated, too_few
from bench.stats.times import Interval

APART = "timed apart"
STARVED = "other work had too much of the machine"
# Ratios nearer to 1 than this are the same for whoever chooses a model.
SPEED_MARGIN = 0.05


@dataclass(frozen=True)
class Ratio:
    """How many times the time of ``base`` a row takes, and how the interval was found.

    ``replicated`` is the ratio over sittings, None where the rows did not take turns in several:
    the interval then covers that one sitting, or nothing, and decides nothing. ``floor`` is how far
    from 1 the same sittings put the ratio of a row to itself. ``p``, and ``p_same`` of being within
    5 %, may be corrected for a family.
    """

    interval: Interval
    method: str
    floor: float | None
    replicated: Replicated | None = None
    p: float | None = None
    p_same: float | None = None

    @property
    def finding(self) -> Finding:
        """Return what may be said of the next sitting: more (slower), less, same within 5 %."""
        if self.replicated is None:
            return "not resolved"
        beyond = abs(math.log(self.interval.estimate)) > math.log1p(self.floor or 0.0)
        return finding(self.interval.estimate - 1, self.p if beyond else None, self.p_same)

    @property
    def in_turns(self) -> bool:
        """Tell whether the interval comes from rows that took turns."""
        return self.method not in (APART, STARVED)

    @property
    def is_within(self) -> bool:
        """Tell whether the interval holds within one sitting alone."""
        return self.method == ONE_SITTING

    @property
    def differs(self) -> bool:
        """Tell whether there is a difference: of one sitting alone where there was but one."""
        if self.replicated is None:
            return self.is_within and times.differs(self.interval, self.floor)
        return self.finding in ("more", "less")


def time_ratio(row: CostRow, base: CostRow, ignoring: Collection[str] = ()) -> Ratio | None:
    """Return the ratio of the times of one call; None when one of them was not timed.

    None also for rows whose conditions differ in anything not to be ignored. Rows that took turns
    in one sitting are compared round by round (`stats.paired_ratio`); several sittings give the
    interval over sittings. Of rows timed apart nobody knows how far a sitting moves either, so
    that their interval is open; so is that of rows that other work starved.
    """
    if row.timing is None or base.timing is None or not may_meet(row, base, ignoring):
        return None
    shared = _shared_sittings(row, base)
    hungry = starved(row) or starved(base)
    floor = times.noise_floor(shared)
    if hungry or not shared:
        estimate = row.timing.call_s.estimate / base.timing.call_s.estimate
        return Ratio(Interval(estimate, 0.0, math.inf, 1), STARVED if hungry else APART, None)
    if len(shared) == 1:
        return Ratio(times.paired_ratio(*shared[0]), ONE_SITTING, floor)
    found = replicated([times.paired_ratio(*pair).estimate for pair in shared])
    few = too_few(len(shared), "sittings")
    if few:
        return Ratio(found.interval, few, floor)
    method = f"t over {len(shared)} sittings"
    return Ratio(found.interval, method, floor, found, found.p, found.p_same(SPEED_MARGIN))


def corrected(ratios: Sequence[Ratio]) -> list[Ratio]:
    """Return ratios as they are judged in the family that they are (`stats.replicates`)."""
    found = iter(judged([r.replicated for r in ratios if r.replicated], SPEED_MARGIN))
    return [ratio if ratio.replicated is None else _judged(ratio, next(found)) for ratio in ratios]


def _judged(ratio: Ratio, found: Judged) -> Ratio:
    own = found.ratio
    return replace(ratio, interval=own.interval, replicated=own, p=found.p, p_same=found.p_same)


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
