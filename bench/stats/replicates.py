"""Ratios of times over sittings: the process is the replicate.

Blocks timed in one process share its memory layout, its place on the cores and the state of the
clocks; however many there are, they are one sample of all that. An interval that is to hold for
the next process is one over processes, and one process decides nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import eq

from bench.stats.decide import equivalence, holm, two_sided
from bench.stats.times import CONFIDENCE, FEWEST, Interval, quantile, t_quantile

# The least spread that a ratio of a family is taken to have, as a share of the family's median.
LEAST_SPREAD = 2 / 3


@dataclass(frozen=True)
class Replicated:
    """A ratio over replicates: its logarithm, the standard error of that, degrees of freedom.

    With a single replicate the error is infinite: nothing is known of the next one.
    """

    log: float
    error: float
    freedom: float
    num_replicates: int

    @property
    def interval(self) -> Interval:
        """Return the ratio with Student's t-interval; its ends are open with one replicate."""
        if math.isinf(self.error):
            return Interval(math.exp(self.log), 0.0, math.inf, self.num_replicates)
        half = min(600.0, t_quantile(CONFIDENCE, self.freedom) * self.error)
        ends = (math.exp(self.log - half), math.exp(self.log + half))
        return Interval(math.exp(self.log), *ends, self.num_replicates)

    @property
    def p(self) -> float | None:
        """Return the p-value of no difference; None with a single replicate."""
        if math.isinf(self.error):
            return None
        return two_sided(self.log, self.error, self.freedom)

    def p_same(self, margin: float) -> float | None:
        """Return the p-value of equivalence within ``margin``, a share such as 0.05."""
        if math.isinf(self.error):
            return None
        return equivalence(self.log, self.error, self.freedom, math.log1p(margin))


def replicated(ratios: Sequence[float]) -> Replicated:
    """Return the ratio that several sittings found, each of them one replicate."""
    logs = [math.log(ratio) for ratio in ratios]
    count, mean = len(logs), statistics.fmean(logs)
    if count < 2:
        return Replicated(mean, math.inf, 0.0, count)
    error = statistics.stdev(logs, mean) / math.sqrt(count)
    return Replicated(mean, error, count - 1.0, count)


def too_few(count: int, what: str) -> str:
    """Return why so many replicates decide nothing; nothing where they are enough."""
    return f"{count} {what}; {FEWEST} are needed" if count < FEWEST else ""


@dataclass(frozen=True)
class Judged:
    """A ratio of a family, with its p-values of a difference and of equivalence after Holm."""

    ratio: Replicated
    p: float
    p_same: float


def judged(family: Sequence[Replicated], margin: float) -> list[Judged]:
    """Judge ratios, of several replicates each, as a family; equivalence within ``margin``.

    Among many rows some fall into the same of two states in every process of a side and seem to
    have no noise, which no correction for their number makes good: none is taken to spread less
    than two thirds of what the median one does.
    """
    if not family:
        return []
    spreads = [ratio.error * math.sqrt(ratio.num_replicates) for ratio in family]
    least = LEAST_SPREAD * quantile(spreads, 0.5)
    wider = [replace(r, error=max(r.error, least / math.sqrt(r.num_replicates))) for r in family]
    differ = holm([ratio.p or 0.0 for ratio in wider])
    same = holm([ratio.p_same(margin) or 0.0 for ratio in wider])
    return list(map(Judged, wider, differ, same))


@dataclass(frozen=True)
class Turn:
    """One process that timed one side: when it began, which side, the median time of a call.

    ``starved`` is one that other work left too little of the machine.
    """

    at: str
    is_new: bool
    seconds: float
    starved: bool = False


def in_pairs(turns: Sequence[Turn]) -> list[tuple[float, float]] | None:
    """Return (base, new) of neighbouring processes; None where the sides did not take turns.

    In the order of time every two processes are one of either side, and every second pair begins
    with the other side, as in ABBA: in ABAB a drift would always be for the same side, and no
    neighbours would tell the noise. Pairs with a starved process are left out.
    """
    ordered = sorted(turns, key=lambda turn: (turn.at, turn.is_new))
    pairs = list(zip(ordered[::2], ordered[1::2], strict=False))
    firsts = [one.is_new for one, _ in pairs]
    if any(one.is_new == two.is_new for one, two in pairs) or any(map(eq, firsts, firsts[1:])):
        return None
    fed = [sorted(pair, key=lambda turn: turn.is_new) for pair in pairs
           if not any(turn.starved for turn in pair)]  # fmt: skip
    return [(base.seconds, new.seconds) for base, new in fed]


def floor_of(turns: Sequence[Turn]) -> float | None:
    """Return the A/A noise floor of turns in ABBA order: how far from 1 equal work may come out.

    Neighbouring processes of one side are real A/A sittings, apart in nothing but the process. The
    floor is the half-width of the interval of as many such ratios as there are pairs of sides,
    about a mean that is known to be 1. None with fewer than two of them.
    """
    ordered = sorted(turns, key=lambda turn: (turn.at, turn.is_new))
    logs = [
        math.log(two.seconds / one.seconds)
        for one, two in pairwise(ordered)
        if one.is_new == two.is_new and not (one.starved or two.starved)
    ]
    if len(logs) < 2:
        return None
    spread = math.sqrt(math.fsum(log * log for log in logs) / len(logs))
    num_pairs = max(1, len(in_pairs(turns) or ()))
    return math.expm1(t_quantile(CONFIDENCE, len(logs)) * spread / math.sqrt(num_pairs))
