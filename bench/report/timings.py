"""Derive throughput and latency from the raw block times of profile records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.record import ProfileRecord, TimingFacts
from bench.stats import (
    Interval,
    call_times,
    geometric_interval,
    iqr,
    quantile,
)

# A 99th percentile of fewer samples is one of the few slowest calls, not a percentile.
MIN_SAMPLES_P99 = 1000


@dataclass(frozen=True)
class Timing:
    """What one cost row took.

    ``call_s`` is the time of one call: the median over blocks, its geometric mean over processes
    where there are several. ``throughput`` is Σ images / Σ seconds in img/s.
    """

    call_s: Interval
    throughput: float
    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    iqr_share: float
    num_blocks: int
    num_processes: int
    steady: bool
    flags: tuple[str, ...]

    @property
    def rate(self) -> Interval:
        """Return the throughput with an interval as wide, in proportion, as that of ``call_s``."""
        call = self.call_s
        low = self.throughput * call.estimate / call.high
        high = self.throughput * call.estimate / call.low if call.low > 0 else math.inf
        return Interval(self.throughput, low, high, call.num_samples)

    @property
    def method(self) -> str:
        """Return how the interval was found."""
        processes = self.num_processes
        return f"t over {processes} processes" if processes > 1 else "median over blocks"


def timing_of(records: Sequence[ProfileRecord]) -> Timing | None:
    """Return the timing of repeated profiles of one row; None when none of them was timed."""
    timed = [(r.timing, r.batch_size) for r in records if r.timing and _is_sound(r.timing)]
    calls = [call_times(timing.block_s, timing.block_iters) for timing, _ in timed]
    if not timed or not all(calls):
        return None
    everything = [seconds for process in calls for seconds in process]
    seconds = math.fsum(s for timing, _ in timed for s in timing.block_s if s > 0)
    images = sum(
        n * batch
        for timing, batch in timed
        for s, n in zip(timing.block_s, timing.block_iters, strict=True)
        if s > 0
    )
    return Timing(
        call_s=_call_interval(calls),
        throughput=images / seconds,
        p50_ms=1e3 * quantile(everything, 0.5),
        p90_ms=1e3 * quantile(everything, 0.9),
        p99_ms=1e3 * quantile(everything, 0.99) if len(everything) >= MIN_SAMPLES_P99 else None,
        iqr_share=iqr(everything) / quantile(everything, 0.5),
        num_blocks=len(everything),
        num_processes=len(timed),
        steady=all(timing.steady for timing, _ in timed),
        flags=tuple(sorted({flag for timing, _ in timed for flag in timing.flags})),
    )


def _is_sound(timing: TimingFacts) -> bool:
    counts = timing.block_iters
    return len(timing.block_s) == len(counts) > 0 and min(counts) > 0


def _call_interval(calls: list[list[float]]) -> Interval:
    if len(calls) > 1:
        return geometric_interval([quantile(process, 0.5) for process in calls])
    return median_interval(calls[0])


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median with its distribution-free 95 % interval; unbounded below six values.

    The ends are order statistics, their ranks by the normal approximation to the binomial
    (Conover, Practical Nonparametric Statistics, section 3.2).
    """
    n, middle = len(values), quantile(values, 0.5)
    if n < 6:
        return Interval(middle, 0.0, math.inf, n)
    half = 1.96 * math.sqrt(n) / 2
    ordered = sorted(values)
    low, high = max(0, math.floor(n / 2 - half)), min(n - 1, math.ceil(n / 2 + half))
    return Interval(middle, ordered[low], ordered[high], n)
