"""Derive throughput and latency from the raw block times of profile records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.record.profile import ProfileRecord, TimingFacts
from bench.stats.times import (
    Interval,
    TimedImages,
    call_times,
    geometric_interval,
    iqr,
    quantile,
    rate_interval,
    sitting_interval,
)

# A 99th percentile of fewer samples is one of the few slowest calls, not a percentile.
MIN_SAMPLES_P99 = 1000
DISAGREEMENT = 1.1  # sittings of one row further apart than this do not agree
ONE_SITTING = "within one sitting"


@dataclass(frozen=True)
class Timing:
    """What one cost row took.

    ``call_s`` is the time of one call: the median over blocks, its geometric mean over processes
    where there are several. ``rate`` is Σ images / Σ seconds in img/s. Intervals over processes
    cover the next process; that of a single one covers this sitting alone.
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
        return f"t over {processes} processes" if processes > 1 else ONE_SITTING


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
        flags=tuple(sorted({flag for timing, _ in timed for flag in timing.flags} | _apart(calls))),
    )


def _apart(calls: Sequence[Sequence[float]]) -> set[str]:
    """Return the flag of a row whose sittings differ by more than noise within them could."""
    medians = [quantile(process, 0.5) for process in calls]
    return {"sittings_disagree"} if max(medians) > DISAGREEMENT * min(medians) else set()


def _is_sound(timing: TimingFacts) -> bool:
    counts = timing.block_iters
    return len(timing.block_s) == len(counts) > 0 and min(counts) > 0


def _call_interval(calls: list[list[float]]) -> Interval:
    if len(calls) > 1:
        return geometric_interval([quantile(process, 0.5) for process in calls])
    return sitting_interval(calls[0])


"""The seconds and the images of each block."""


def _images(timing: TimingFacts, batch_size: int) -> TimedImages:
    pairs = zip(timing.block_s, timing.block_iters, strict=True)
    return [(seconds, iters * batch_size) for seconds, iters in pairs if seconds > 0]


def _rate(processes: Sequence[TimedImages]) -> Interval:
    """Return Σ images / Σ seconds with its interval, over processes where there are several."""
    every = [block for process in processes for block in process]
    rate = sum(n for _, n in every) / math.fsum(s for s, _ in every)
    if len(processes) == 1:
        return rate_interval(every)
    over = geometric_interval([rate_interval(process).estimate for process in processes])
    return Interval(
        rate, rate * over.low / over.estimate, rate * over.high / over.estimate, over.num_samples
    )
