"""The clock of all timing: it synchronises at the ends of a block, and knows its own overhead."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Work = Callable[[], object]


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Clock:
    """A wall clock in seconds, how to wait for the device, and the device's own clock if any.

    ``mark`` puts a time stamp into the device's queue and ``between`` returns the seconds between
    two of them, after a synchronise; ``passed`` tells whether the device has come to one.
    """

    now: Callable[[], float] = time.perf_counter
    synchronize: Callable[[], None] = _nothing
    mark: Callable[[], object] | None = None
    between: Callable[[Any, Any], float] | None = None
    passed: Callable[[Any], bool] = lambda mark: False

    def read(self) -> float:
        """Return the time at which all work given to the device so far is done."""
        self.synchronize()
        return self.now()


@dataclass(frozen=True)
class Block:
    """Some calls timed together: wall seconds, and seconds by the device's events."""

    seconds: float
    iters: int
    round: int = 0
    event_s: float | None = None


def time_block(work: Work, iters: int, clock: Clock, which_round: int = 0) -> Block:
    """Call ``work`` ``iters`` times between two readings of the clock."""
    start = clock.read()
    first = clock.mark() if clock.mark else None
    for _ in range(iters):
        work()
    last = clock.mark() if clock.mark else None
    seconds = clock.read() - start
    event_s = clock.between(first, last) if clock.between else None
    return Block(seconds, iters, which_round, event_s)


def queued_call_s(
    work: Work, clock: Clock, occupy: Callable[[float], None], seconds: float
) -> float | None:
    """Return one call's seconds by the device's clock, given to it while it is still busy.

    ``occupy`` keeps the device busy for about so long, so that the call is complete in its queue
    when it begins and never waits for the host: what is left of the wall time is launching. None
    where the device began before that: a queue holds some 1,024 launches, and what is launched
    later may be waited for.
    """
    assert clock.mark is not None
    assert clock.between is not None
    clock.synchronize()
    occupy(seconds)
    first = clock.mark()
    work()
    last = clock.mark()
    is_late = clock.passed(first)
    clock.synchronize()
    return None if is_late else clock.between(first, last)


def overhead_s(clock: Clock) -> float:
    """Return what reading the clock and synchronising adds to a block, in seconds."""
    return max(0.0, statistics.median(time_block(_nothing, 0, clock).seconds for _ in range(51)))


def clock_flags(clock: Clock, tries: int = 100_000) -> tuple[str, ...]:
    """Tell whether the clock stands still or runs backwards, before anything waits for it."""
    start = clock.now()
    for _ in range(tries):
        if (now := clock.now()) != start:
            return () if now > start else ("clock_backward",)
    return ("clock_stopped",)
