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
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from bench.measure.clock import Block, Clock, Work, clock_flags, overhead_s, time_block
from bench.measure.warm_up import MAX_ITERS, WarmUp, _few_calls, warm_up
from bench.record.profile import TimingFacts
from bench.spec.profile import TimingSpec
from bench.spec.values import Scenario
from bench.stats import times as stats

Key = TypeVar("Key", bound=Hashable)
Tell = Callable[[str, Any, float], None]
"""Told what is being done, to which subject, and the fraction of the time limit used up."""
NOISY, UNSTABLE, SPIKE = 0.10, 0.25, 5.0
SETTLED_BY = 5  # calls a block from which on one more is made before it
FEWEST_ROUNDS = 8  # before an interval may end a sitting: of fewer, a narrow one is often luck
LONG_TURN = 0.4  # of a round of three or more: who takes longer sits out every other one
VISIT_SAMPLES = 10  # single-stream calls made each time a subject has its turn


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
