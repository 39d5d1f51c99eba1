"""Time callables: a clock that waits for the device, calibrated blocks, warm-up, interleaving.

    overhead ──► warm-up (until steady) ──► calls a block ──► rounds A B B A … ──► raw block times

Work given to an accelerator is done later than the call returns, so every reading of the clock
waits for the device first. Subjects that are compared take turns in random order and back
(A B C C B A), so that a slow drift of the machine meets all that share a round alike. Everything
here takes a clock and a synchronise function and knows nothing of torch, so that it can be tested
with a simulated device.
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from bench import stats
from bench.record import TimingFacts
from bench.spec import Scenario, TimingSpec

Work = Callable[[], object]
Key = TypeVar("Key", bound=Hashable)
Tell = Callable[[str, Any, float], None]
"""Told what is being done, to which subject, and the fraction of the time limit used up."""

FLAGS: dict[str, str] = {
    "noisy": "the blocks' quartiles are more than 10 % of the median apart",
    "unstable": "the blocks' quartiles are more than 25 % of the median apart",
    "spiky": "a block took more than 5 times the median",
    "few_blocks": "the time limit came before the wanted number of blocks",
    "imprecise": "the interval of a call's time is wider than ±10 %",
    "unsteady_warmup": "calls were still getting faster or slower when warm-up ended",
    "coarse_clock": "reading the clock and synchronising cost more than the wanted share",
    "clock_stopped": "the clock did not advance over a block",
    "clock_backward": "the clock went backwards over a block",
}

NOISY, UNSTABLE, SPIKE = 0.10, 0.25, 5.0
STEADY, UNSTEADY = 0.05, 0.10  # half-window means of the warm-up: stop below, flag above
WINDOW = 4  # warm-up blocks that are compared with each other
WARMUP_BLOCK_S = 0.02
MAX_WARMUP_BLOCKS = 1000  # bounds the loop where the clock cannot
MAX_ITERS = 1 << 20
STOPPED_ITERS = 1 << 14  # calls that must take some time, or the clock stands still
SETTLED_BY = 5  # calls a block from which on one more is made before it
FEWEST_ROUNDS = 8  # before an interval may end a sitting: of fewer, a narrow one is often luck
LONG_TURN = 0.4  # of a round of three or more: who takes longer sits out every other one
VISIT_SAMPLES = 10  # single-stream calls made each time a subject has its turn


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Clock:
    """A wall clock in seconds, how to wait for the device, and the device's own clock if any.

    ``mark`` puts a time stamp into the device's queue and ``between`` returns the seconds between
    two of them, after a synchronise.
    """

    now: Callable[[], float] = time.perf_counter
    synchronize: Callable[[], None] = _nothing
    mark: Callable[[], object] | None = None
    between: Callable[[Any, Any], float] | None = None

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
) -> float:
    """Return one call's seconds by the device's clock, given to it while it is still busy.

    ``occupy`` keeps the device busy for about so long, so that the call is complete in its queue
    when it begins and never waits for the host: what is left of the wall time is launching.
    """
    assert clock.mark is not None
    assert clock.between is not None
    clock.synchronize()
    occupy(seconds)
    first = clock.mark()
    work()
    last = clock.mark()
    clock.synchronize()
    return clock.between(first, last)


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


@dataclass(frozen=True)
class Plan:
    """How a subject's turns look, in which rounds it has one, and when there have been enough.

    ``every`` is 2 for a subject that takes part in every other round.
    """

    iters: int
    visit_blocks: int
    settle_calls: int
    min_blocks: int
    max_blocks: int
    max_s: float
    single_stream: bool = False
    every: int = 1

    def turn_s(self, call_s: float) -> float:
        """Return how long a turn takes."""
        return call_s * (self.settle_calls + self.visit_blocks * self.iters)


def plan_offline(call_s: float, overhead: float, spec: TimingSpec) -> Plan:
    """Plan blocks of about ``spec.block_s``; reading the clock is at most a share of them.

    Calls nearly as long as that make blocks of one: two would leave time for half the rounds only.
    Where clock and synchronise would cost more than ``spec.sync_share``, blocks are longer. Before
    a block of many short calls, one more call is not timed: it meets the caches and the threads as
    the subject before it has left them. A long call hardly notices.
    """
    block_s = min(spec.block_s, spec.max_s / spec.min_blocks)
    fewest = overhead / spec.sync_share
    wanted = max(round(block_s / call_s), math.ceil(fewest / call_s), 1) if call_s > 0 else 1
    iters = min(MAX_ITERS, wanted)
    settle_calls = int(iters > SETTLED_BY)
    return Plan(iters, 1, settle_calls, spec.min_blocks, 100 * spec.min_blocks, spec.max_s)


def plan_single_stream(spec: TimingSpec) -> Plan:
    """Plan single calls, a few at each turn, every one timed and waited for."""
    samples = spec.single_stream_samples
    fewest = min(samples, spec.min_blocks)
    visit = max(1, min(VISIT_SAMPLES, samples // 2))
    return Plan(1, visit, 1, fewest, samples, spec.single_stream_s, single_stream=True)


@dataclass
class Subject:
    """One callable on its way through a sitting, and the blocks it has so far."""

    work: Work
    warmup: WarmUp
    plan: Plan
    blocks: list[Block] = field(default_factory=list)
    settle_s: float = 0.0

    def visit(self, clock: Clock, which_round: int) -> None:
        """Take one turn: a few calls to settle, then the blocks of the plan."""
        begin = clock.read()
        for _ in range(self.plan.settle_calls):
            self.work()
        self.settle_s += max(0.0, clock.read() - begin)
        for _ in range(self.plan.visit_blocks):
            self.blocks.append(time_block(self.work, self.plan.iters, clock, which_round))

    def timed_s(self) -> float:
        """Return the seconds in timed blocks so far (backward ones count as none)."""
        return math.fsum(max(block.seconds, 0.0) for block in self.blocks)

    def by_round(self) -> dict[int, list[float]]:
        """Return the seconds a call of the blocks so far, by round."""
        return stats.by_round(*_columns(self.blocks))


def measure(
    works: Mapping[Key, Work],
    spec: TimingSpec,
    clock: Clock,
    *,
    scenario: Scenario = "offline",
    seed: int = 0,
    on_progress: Tell = lambda what, key, fraction: None,
) -> dict[Key, TimingFacts]:
    """Time several callables in one sitting, interleaved; return each one's raw block times.

    All are warmed up first. Then rounds visit them in random order and back again, until the
    intervals of their ratios are narrow enough or the time is used up; of three or more, one whose
    turns are long sits out every other round. Readings of a broken clock end in
    `TimingFacts.flags`, never in an exception. ``on_progress`` is called between blocks only.
    """
    broken = clock_flags(clock)
    overhead = 0.0 if broken else overhead_s(clock)
    subjects = {}
    with _without_garbage_collection():
        for name, work in works.items():
            on_progress("warm-up", name, 0.0)
            warmup = _few_calls(work, clock) if broken else warm_up(work, spec, clock, overhead)
            plan = _plan(scenario, warmup.call_s, overhead, spec, broken=bool(broken))
            subjects[name] = Subject(work, warmup, plan)
        _with_long_turns_rarer(subjects)
        _take_turns(subjects, spec, clock, random.Random(seed), on_progress)
    return {n: _facts(s, spec, overhead, scenario, broken) for n, s in subjects.items()}


def _few_calls(work: Work, clock: Clock) -> WarmUp:
    """Warm up where the clock is broken: by count, not by time."""
    first = time_block(work, 1, clock).seconds
    for _ in range(WINDOW):
        work()
    return WarmUp(first, 0.0, 1 + WINDOW, steady=False, call_s=0.0)


def _plan(
    scenario: Scenario, call_s: float, overhead: float, spec: TimingSpec, *, broken: bool
) -> Plan:
    offline = scenario == "offline"
    plan = plan_offline(call_s, overhead, spec) if offline else plan_single_stream(spec)
    if not broken:
        return plan
    fewest = spec.min_blocks
    return replace(plan, iters=1, settle_calls=0, min_blocks=fewest, max_blocks=fewest)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keep Python's collector from running inside blocks, as `timeit` does."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _take_turns(
    subjects: Mapping[Key, Subject],
    spec: TimingSpec,
    clock: Clock,
    rng: random.Random,
    tell: Tell,
) -> None:
    """Visit subjects in random order and back, round after round, until it is enough."""
    limit = sum(subject.plan.max_s for subject in subjects.values())
    number = 0
    while not _is_enough(list(subjects.values()), spec):
        taking_part = [name for name in subjects if number % subjects[name].plan.every == 0]
        for name in abba(taking_part, rng):
            subjects[name].visit(clock, number)
            used = sum(subject.timed_s() for subject in subjects.values())
            tell("timing", name, min(1.0, used / limit))
        number += 1


def _with_long_turns_rarer(subjects: Mapping[Key, Subject]) -> None:
    """Let a subject that takes up most of a round of three or more sit out every other one.

    Its calls last longer than a block, and would take the time from the ratios between the others.
    Two that sit out do so in the same rounds, and meet in the others. Single-stream has none: its
    percentiles need a number of calls.
    """
    turns = {name: s.plan.turn_s(s.warmup.call_s) for name, s in subjects.items()}
    for name, subject in subjects.items():
        is_long = len(turns) >= 3 and turns[name] > LONG_TURN * sum(turns.values())
        if is_long and not subject.plan.single_stream:
            subject.plan = replace(subject.plan, every=2)


def abba(names: Sequence[Key], rng: random.Random) -> list[Key]:
    """Return the names in random order, then in that order backwards."""
    order = rng.sample(names, len(names))
    return order + order[::-1]


def _is_enough(subjects: Sequence[Subject], spec: TimingSpec) -> bool:
    if min(len(subject.blocks) for subject in subjects) == 0:
        return False
    limit = sum(subject.plan.max_s for subject in subjects)
    if sum(subject.timed_s() for subject in subjects) >= limit:
        return True
    if any(len(subject.blocks) < subject.plan.min_blocks for subject in subjects):
        return False
    if all(len(subject.blocks) >= subject.plan.max_blocks for subject in subjects):
        return True
    if any(subject.plan.single_stream for subject in subjects):
        return False
    rounds = [subject.by_round() for subject in subjects]
    return min(map(len, rounds)) >= FEWEST_ROUNDS and half_width(rounds) <= spec.rel_precision


def half_width(subjects: Sequence[Mapping[int, Sequence[float]]]) -> float:
    """Return the half-width of the 95 % interval, as a fraction, of the least certain ratio.

    Ratios are to the first subject; where there is only one, the interval is that of its time.
    """
    if len(subjects) == 1:
        constant = {which: [1.0] for which in subjects[0]}
        ratios = [stats.paired_ratio(subjects[0], constant)]
    else:
        ratios = [stats.paired_ratio(other, subjects[0]) for other in subjects[1:]]
    widths = [ratio.high / ratio.estimate - 1 for ratio in ratios]
    return math.inf if any(map(math.isnan, widths)) else max(widths)


def _columns(blocks: Sequence[Block]) -> tuple[list[float], list[int], list[int]]:
    return [b.seconds for b in blocks], [b.iters for b in blocks], [b.round for b in blocks]


def _facts(
    subject: Subject,
    spec: TimingSpec,
    overhead: float,
    scenario: Scenario,
    broken: tuple[str, ...],
) -> TimingFacts:
    seconds, iters, rounds = _columns(subject.blocks)
    events = [b.event_s for b in subject.blocks if b.event_s is not None]
    found = (*broken, *flags(seconds, iters))
    if not (subject.warmup.steady or broken):
        found += ("unsteady_warmup",)
    if len(subject.blocks) < subject.plan.min_blocks:
        found += ("few_blocks",)
    if scenario == "offline" and not broken:
        found += _precision_flags(subject, spec, overhead)
    return TimingFacts(
        block_s=tuple(seconds),
        block_iters=tuple(iters),
        block_round=tuple(rounds),
        event_s=tuple(events) if len(events) == len(seconds) else None,
        first_call_s=max(0.0, subject.warmup.first_call_s),
        warmup_s=subject.warmup.seconds + subject.settle_s,
        warmup_iters=subject.warmup.iters,
        steady=subject.warmup.steady,
        overhead_s=overhead,
        flags=tuple(dict.fromkeys(found)),
    )


def _precision_flags(subject: Subject, spec: TimingSpec, overhead: float) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    times = stats.call_times(*_columns(subject.blocks)[:2])
    typical = statistics.median(times) * subject.plan.iters if times else 0.0
    if overhead > 2 * spec.sync_share * typical:  # twice: the calls may have sped up since
        found += ("coarse_clock",)
    if half_width([subject.by_round()]) > NOISY:
        found += ("imprecise",)
    return found


def flags(block_s: Sequence[float], block_iters: Sequence[int]) -> tuple[str, ...]:
    """Return what is wrong with a row's block times (keys of `FLAGS`)."""
    found = []
    if any(seconds == 0 for seconds in block_s):
        found.append("clock_stopped")
    if any(seconds < 0 for seconds in block_s):
        found.append("clock_backward")
    times = stats.call_times(block_s, block_iters)
    if len(times) < 2:
        return tuple(found)
    median = statistics.median(times)
    spread = stats.iqr(times) / median
    if spread > NOISY:
        found.append("unstable" if spread > UNSTABLE else "noisy")
    if max(times) > SPIKE * median:
        found.append("spiky")
    return tuple(found)
