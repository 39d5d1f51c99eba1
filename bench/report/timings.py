"""Derive throughput and latency from the raw block times of profile records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from bench.record import ProfileRecord, TimingFacts
from bench.stats import (
    CONFIDENCE,
    Interval,
    call_times,
    geometric_interval,
    iqr,
    quantile,
    t_quantile,
)

# A 99th percentile of fewer samples is one of the few slowest calls, not a percentile.
MIN_SAMPLES_P99 = 1000


@dataclass(frozen=True)
class Timing:
    """What one cost row took.

    ``call_s`` is the time of one call: the median over blocks, its geometric mean over processes
    where there are several. ``rate`` is Σ images / Σ seconds in img/s.
    """

    call_s: Interval
    rate: Interval
    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    iqr_share: float
    num_blocks: int
    num_processes: int
    steady: bool
    flags: tuple[str, ...]

    @property
    def throughput(self) -> float:
        return self.rate.estimate

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
    return Timing(
        call_s=_call_interval(calls),
        rate=_rate([_images(timing, batch) for timing, batch in timed]),
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


Blocks = list[tuple[float, int]]
"""The seconds and the images of each block."""


def _images(timing: TimingFacts, batch_size: int) -> Blocks:
    pairs = zip(timing.block_s, timing.block_iters, strict=True)
    return [(seconds, iters * batch_size) for seconds, iters in pairs if seconds > 0]


def _rate(processes: Sequence[Blocks]) -> Interval:
    """Return Σ images / Σ seconds with its interval, over processes where there are several."""
    every = [block for process in processes for block in process]
    rate = sum(n for _, n in every) / math.fsum(s for s, _ in every)
    if len(processes) == 1:
        return rate_interval(every)
    over = geometric_interval([rate_interval(process).estimate for process in processes])
    return Interval(
        rate, rate * over.low / over.estimate, rate * over.high / over.estimate, over.num_samples
    )


def rate_interval(blocks: Blocks) -> Interval:
    """Return Σ images / Σ seconds of one process; unbounded with a single block.

    The seconds an image are a ratio of two means, so their variance is that of the residuals of
    the seconds from what the images explain (Cochran, Sampling Techniques, section 2.11), with
    Student's t on the logarithm.
    """
    count, images = len(blocks), sum(n for _, n in blocks)
    each = math.fsum(s for s, _ in blocks) / images
    if count < 2:
        return Interval(1 / each, 0.0, math.inf, count)
    squares = math.fsum((s - each * n) ** 2 for s, n in blocks)
    error = math.sqrt(squares / (count - 1) / count) / (images / count)
    factor = math.exp(t_quantile(CONFIDENCE, count - 1) * error / each)
    return Interval(1 / each, 1 / each / factor, factor / each, count)


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median with its distribution-free 95 % interval; unbounded below six values.

    The ends lie between two order statistics, so that the coverage is near 95 % for every number
    of values, and not only where a pair of them happens to have it (Hettmansperger and Sheather
    1986).
    """
    n, middle = len(values), quantile(values, 0.5)
    if n < 6:
        return Interval(middle, 0.0, math.inf, n)
    rank, outer, inner = _ranks(n)
    share = (outer - CONFIDENCE) / (outer - inner)
    inward = (n - rank) * share / (rank + (n - 2 * rank) * share)
    ordered = sorted(values)
    low = ordered[rank - 1] + inward * (ordered[rank] - ordered[rank - 1])
    high = ordered[n - rank] - inward * (ordered[n - rank] - ordered[n - rank - 1])
    return Interval(middle, low, high, n)


@cache
def _ranks(n: int) -> tuple[int, float, float]:
    """Return the largest rank k from both ends whose order statistics cover the median with 95 %.

    With it the coverage of the ranks k and k + 1: 1 − 2 · P(B < k), B binomial in n fair coins.
    """
    from scipy.special import bdtr

    rank = 1
    while 1 - 2 * bdtr(rank, n, 0.5) >= CONFIDENCE:
        rank += 1
    return rank, float(1 - 2 * bdtr(rank - 1, n, 0.5)), float(1 - 2 * bdtr(rank, n, 0.5))
