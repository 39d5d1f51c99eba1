"""Warming up until times are steady, not for a fixed number of calls."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.measure.clock import Clock, Work, time_block
from bench.spec.profile import TimingSpec

STEADY, UNSTEADY = 0.05, 0.10  # half-window means of the warm-up: stop below, flag above
WINDOW = 4  # warm-up blocks that are compared with each other
WARMUP_BLOCK_S = 0.02
MAX_WARMUP_BLOCKS = 1000  # bounds the loop where the clock cannot
MAX_ITERS = 1 << 20
STOPPED_ITERS = 1 << 14  # calls that must take some time, or the clock stands still


@dataclass(frozen=True)
class WarmUp:
    """What happened before timing: the first call, the rest, and how long a call takes now."""

    first_call_s: float
    seconds: float
    iters: int
    steady: bool
    call_s: float


def warm_up(work: Work, spec: TimingSpec, clock: Clock, overhead: float = 0.0) -> WarmUp:
    """Call ``work`` until its times are steady, or ``spec.max_warmup_s`` is over.

    Steady: the mean of the last two of four blocks is within 5 % of that of the first two, and the
    first is no outlier. Blocks grow until they are long enough to be told apart from the clock,
    whose ``overhead`` a block is taken off their times.
    """
    first = time_block(work, 1, clock).seconds
    iters, calls, total = 1, 1, max(first, 0.0)
    window: list[float] = []
    for _ in range(MAX_WARMUP_BLOCKS):
        seconds = time_block(work, iters, clock).seconds - overhead
        calls += iters
        total += max(seconds, 0.0)
        if seconds <= 0 and iters >= STOPPED_ITERS:
            break
        if seconds < WARMUP_BLOCK_S and iters < MAX_ITERS:
            iters, window = iters * 2, []
        else:
            window = [*window, seconds / iters][-WINDOW:]
        settled = total >= spec.min_warmup_s and unevenness(window) <= STEADY
        if settled or total >= spec.max_warmup_s:
            break
    call_s = statistics.median(window) if window else max(seconds, 0.0) / iters
    return WarmUp(first, total, calls, unevenness(window) <= UNSTEADY, call_s)


def unevenness(window: Sequence[float]) -> float:
    """Return how far apart the means of a window's halves are, as a fraction; inf if unknown.

    A first value twice as long as the median of the others is an outlier, and unknown too.
    """
    if len(window) < WINDOW or min(window) <= 0 or window[0] > 2 * statistics.median(window[1:]):
        return math.inf
    middle = len(window) // 2
    return abs(statistics.fmean(window[:middle]) / statistics.fmean(window[middle:]) - 1)


def _few_calls(work: Work, clock: Clock) -> WarmUp:
    """Warm up where the clock is broken: by count, not by time."""
    first = time_block(work, 1, clock).seconds
    for _ in range(WINDOW):
        work()
    return WarmUp(first, 0.0, 1 + WINDOW, steady=False, call_s=0.0)
