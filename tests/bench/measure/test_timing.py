"""The clock, on a simulated device whose work is done later than it is given."""

import random
import statistics

import pytest
from simulated_device import Device

from bench.measure import timing
from bench.measure.clock import Clock, time_block
from bench.measure.timing import abba, measure
from bench.measure.warm_up import unevenness, warm_up
from bench.spec.profile import TimingSpec
from bench.stats import times

QUICK = TimingSpec(block_s=0.01, max_s=0.5, min_warmup_s=0.0)


def median_call_s(facts):
    return statistics.median(times.call_times(facts.block_s, facts.block_iters))


def ratio(facts, a, b):
    def rounds(key):
        return times.by_round(facts[key].block_s, facts[key].block_iters, facts[key].block_round)

    return times.paired_ratio(rounds(a), rounds(b)), times.noise_floor([(rounds(a), rounds(b))])


def measured_call_s(clock, device):
    return median_call_s(measure({"a": device.work(1e-3)}, QUICK, clock)["a"])


def test_work_that_completes_late_is_waited_for():
    """A call that keeps the device busy for 1 ms and returns after 10 µs takes 1 ms."""
    device = Device()
    assert measured_call_s(device.clock(), device) == pytest.approx(1e-3, rel=0.01)


def test_leaving_the_synchronise_out_is_found_out():
    """The same measurement by a clock that does not wait gives the launch, not the work."""
    device = Device()
    assert measured_call_s(device.clock_that_does_not_wait(), device) == pytest.approx(
        1e-5, rel=0.05
    )


def test_a_block_begins_when_the_device_is_idle():
    """Work that was given before a block is not timed in it."""
    device = Device()
    device.work(5.0)()
    assert time_block(device.work(1e-3), 10, device.clock()).seconds == pytest.approx(0.01, 0.02)


def test_single_calls_are_each_waited_for():
    """In single-stream every sample is one call of 1 ms; 100 of them are taken."""
    device = Device()
    spec = TimingSpec(single_stream_samples=100)
    facts = measure({"a": device.work(1e-3)}, spec, device.clock(), scenario="single_stream")["a"]
    assert len(facts.block_s) == 100
    assert set(facts.block_iters) == {1}
    assert min(facts.block_s) == pytest.approx(1e-3, rel=0.02)


@pytest.mark.parametrize("call_s", [1e-6, 1e-4, 0.03, 1.7])
def test_clock_and_synchronise_cost_at_most_a_thousandth_of_a_block(call_s):
    """Blocks are long enough, whatever one call takes, for a clock that costs 100 µs to read."""
    device = Device(launch_s=1e-7, read_s=1e-4)
    facts = measure({"a": device.work(call_s)}, TimingSpec(), device.clock())["a"]
    assert facts.overhead_s == pytest.approx(1e-4, rel=0.01)
    assert facts.overhead_s <= 1.01e-3 * min(facts.block_s)
    assert "coarse_clock" not in facts.flags


@pytest.mark.parametrize(
    ("call_s", "calls"), [(0.13, 1), (0.098, 1), (0.07, 1), (0.06, 2), (0.03, 3)]
)
def test_a_block_is_the_number_of_calls_that_comes_nearest(call_s, calls):
    """A call of 0.098 s makes a block of 0.1 s: two of them would leave half the rounds."""
    device, spec = Device(), TimingSpec(block_s=0.1)
    facts = measure({"a": device.work(call_s)}, spec, device.clock())["a"]
    assert set(facts.block_iters) == {calls}


def test_a_slow_clock_makes_blocks_longer_than_asked_for():
    """Reading that costs 1 ms needs blocks of 1 s although 0.2 s were asked for."""
    device = Device(read_s=1e-3)
    facts = measure({"a": device.work(0.01)}, TimingSpec(), device.clock())["a"]
    assert min(facts.block_s) >= 0.99


def test_warm_up_lasts_until_calls_are_steady():
    """Calls that start ten times as slow and speed up over 20 calls are not timed before that."""
    device = Device()
    calls = iter(range(10**9))

    def work():
        slow = 1 + 9 * max(0.0, 1 - next(calls) / 20)
        device.work(0.02 * slow)()

    facts = measure({"a": work}, QUICK, device.clock())["a"]
    assert facts.steady
    assert facts.warmup_iters >= 20
    assert median_call_s(facts) == pytest.approx(0.02, rel=0.05)


def test_warm_up_that_never_settles_ends_and_is_flagged():
    """Calls that get 20 % slower each time end the warm-up at its limit, flagged."""
    device = Device()
    state = [0.01]

    def work():
        state[0] *= 1.2
        device.work(state[0])()

    spec = TimingSpec(max_warmup_s=1.0, max_s=2.0)
    facts = measure({"a": work}, spec, device.clock())["a"]
    assert not facts.steady
    assert "unsteady_warmup" in facts.flags
    assert facts.warmup_s < 2.0


def test_the_first_call_is_kept_apart():
    """A first call of 3 s among calls of 1 ms is the first-call time and in no block."""
    device = Device()
    seconds = iter([3.0])
    facts = measure({"a": lambda: device.work(next(seconds, 1e-3))()}, QUICK, device.clock())["a"]
    assert facts.first_call_s == pytest.approx(3.0, rel=0.01)
    assert max(facts.block_s) < 0.1


def test_unevenness_refuses_an_outlying_first_value():
    """Half-window means decide, but not with a first value twice the median of the others."""
    assert unevenness([1.0, 1.0, 1.02, 1.02]) == pytest.approx(0.0196, abs=1e-4)
    assert unevenness([2.1, 1.0, 1.0, 1.0]) == float("inf")
    assert unevenness([1.0, 1.0]) == float("inf")
    assert unevenness([0.0, 0.0, 0.0, 0.0]) == float("inf")


def test_a_clock_that_stands_still_is_flagged():
    """Every block takes 0 s: flagged, a handful of calls, no exception, no throughput."""
    device = Device()
    facts = measure({"a": device.work(1.0)}, QUICK, Clock(now=lambda: 7.0))["a"]
    assert "clock_stopped" in facts.flags
    assert set(facts.block_s) == {0.0}
    assert times.calls_per_s(facts.block_s, facts.block_iters) is None
    assert device.num_calls < 100


def test_a_clock_that_runs_backwards_is_flagged():
    """Every block takes negative seconds: flagged, a handful of calls, no exception."""
    device = Device()
    facts = measure({"a": device.work(1.0)}, QUICK, Clock(now=lambda: -device.now()))["a"]
    assert "clock_backward" in facts.flags
    assert times.calls_per_s(facts.block_s, facts.block_iters) is None
    assert device.num_calls < 100


def test_a_clock_that_is_set_back_once_is_flagged():
    """One block of negative seconds stays in the record and out of the statistics."""
    device = Device()

    def now():
        return device.now() - (100.0 if device.num_calls > 200 else 0.0)

    facts = measure({"a": device.work(1e-3)}, QUICK, Clock(now, device.synchronize))["a"]
    assert "clock_backward" in facts.flags
    assert sum(seconds < 0 for seconds in facts.block_s) == 1
    assert median_call_s(facts) == pytest.approx(1e-3, rel=0.02)


def test_a_clock_that_jumps_ahead_is_flagged():
    """One block that takes 100 s too long is flagged spiky and hardly moves the median."""
    device = Device()

    def now():
        return device.now() + (100.0 if device.num_calls > 200 else 0.0)

    spec = TimingSpec(block_s=0.01, max_s=1000, min_warmup_s=0.0)
    facts = measure({"a": device.work(1e-3)}, spec, Clock(now, device.synchronize))["a"]
    assert "spiky" in facts.flags
    assert max(facts.block_s) > 99
    assert median_call_s(facts) == pytest.approx(1e-3, rel=0.02)


@pytest.mark.parametrize(
    ("calls", "flag"),
    [
        ([1.0, 1.05, 0.95, 1.02, 0.98], ()),
        ([1.0, 1.15, 0.85, 1.1, 0.92], ("noisy",)),
        ([1.0, 1.4, 0.6, 1.3, 0.7], ("unstable",)),
        ([1.0, 1.0, 1.0, 1.0, 6.0], ("spiky",)),
        ([1.0, 0.0, 1.0, 1.0], ("clock_stopped",)),
        ([1.0, -1.0, 1.0, 1.0], ("clock_backward",)),
        ([], ()),
    ],
)
def test_flags_of_block_times(calls, flag):
    """Quartiles 10 % and 25 % of the median apart, five times the median, zero, negative."""
    assert timing.flags(calls, [1] * len(calls)) == flag


def test_a_time_limit_that_comes_too_early_is_flagged():
    """Calls of 1 s under a limit of 3 s: two rounds are cut to what fits, and it is said."""
    device = Device()
    spec = TimingSpec(max_s=3.0, min_blocks=10)
    facts = measure({"a": device.work(1.0)}, spec, device.clock())["a"]
    assert "few_blocks" in facts.flags
    assert 2 <= len(facts.block_s) <= 4


def test_an_order_meets_every_subject_twice_and_mirrored():
    """A B C … and back: the mean place of all subjects is the same."""
    order = abba(["a", "b", "c"], random.Random(1))
    assert sorted(order) == ["a", "a", "b", "b", "c", "c"]
    assert order == order[::-1]


def rounds_of(facts):
    return {name: len(set(timed.block_round)) for name, timed in facts.items()}


def three_works(device, slowest):
    return {"a": device.work(0.2), "b": device.work(0.18), "c": device.work(slowest)}


def test_a_slow_subject_takes_part_in_every_other_round():
    """It would take half of the time; the rounds it has are rounds of the others as well."""
    device, spec = Device(noise=0.02), TimingSpec(rel_precision=1e-6)
    facts = measure(three_works(device, 0.36), spec, device.clock())
    every = set(facts["a"].block_round)
    assert set(facts["b"].block_round) == every
    assert set(facts["c"].block_round) == {number for number in every if number % 2 == 0}
    assert sum(sum(timed.block_s) for timed in facts.values()) == pytest.approx(24, rel=0.1)


def test_subjects_of_about_the_same_time_take_part_in_every_round():
    device = Device(noise=0.1)
    counts = rounds_of(measure(three_works(device, 0.21), TimingSpec(max_s=4), device.clock()))
    assert len(set(counts.values())) == 1


def test_two_slow_subjects_meet_in_all_their_rounds():
    """A ratio between them has as many rounds as one of them to the fast one."""
    device, spec = Device(noise=0.02), TimingSpec(rel_precision=1e-6)
    works = {"a": device.work(0.1), "b": device.work(0.8), "c": device.work(0.9)}
    facts = measure(works, spec, device.clock())
    assert set(facts["b"].block_round) == set(facts["c"].block_round)
    assert set(facts["b"].block_round) < set(facts["a"].block_round)


def test_among_many_a_slow_subject_sits_nothing_out():
    """Its turns are a small part of a round: the others would gain little."""
    device, spec = Device(noise=0.02), TimingSpec(max_s=2.0, rel_precision=1e-6)
    works = {str(i): device.work(0.1) for i in range(5)} | {"slow": device.work(0.2)}
    counts = rounds_of(measure(works, spec, device.clock()))
    assert len(set(counts.values())) == 1


def test_a_narrow_interval_of_few_rounds_ends_nothing():
    device = Device(noise=1e-4)
    works = {"a": device.work(0.2), "b": device.work(0.2)}
    counts = rounds_of(measure(works, TimingSpec(min_blocks=4), device.clock()))
    assert counts == {"a": 8, "b": 8}


def test_a_very_slow_subject_still_gets_its_fewest_blocks():
    device, spec = Device(noise=0.02), TimingSpec(rel_precision=1e-6, min_blocks=6)
    facts = measure(three_works(device, 2.0), spec, device.clock())
    assert 6 <= len(facts["c"].block_s) < len(facts["b"].block_s)
    assert "few_blocks" not in facts["c"].flags


def test_of_two_subjects_none_sits_out():
    """There is no ratio in a round without the other."""
    device, spec = Device(), TimingSpec(rel_precision=1e-6)
    two = {"a": device.work(0.2), "c": device.work(2.0)}
    counts = rounds_of(measure(two, spec, device.clock()))
    assert len(set(counts.values())) == 1


@pytest.mark.parametrize("calls", [2, 20, 40, 60])
def test_a_clock_that_stops_while_three_are_timed_ends_it(calls):
    """Those that sit out have fewer blocks; nobody waits for them for ever."""
    device, spec = Device(noise=0.02), TimingSpec(rel_precision=1e-6)
    reading, stopped = device.clock(), []

    def now():
        if device.num_calls < calls:
            return reading.now()
        stopped.append(reading.now())
        return stopped[0]

    clock = Clock(now=now, synchronize=reading.synchronize)
    facts = measure(three_works(device, 0.5), spec, clock)
    assert all("clock_stopped" in timed.flags for timed in facts.values())
    assert device.num_calls < 1_000_000


def test_a_slow_subject_of_single_stream_makes_as_many_calls_as_the_others():
    device, spec = Device(), TimingSpec(single_stream_s=1.0)
    works = {"a": device.work(1e-3), "b": device.work(1e-3), "c": device.work(1e-2)}
    facts = measure(works, spec, device.clock(), scenario="single_stream")
    assert len({len(timed.block_s) for timed in facts.values()}) == 1


def test_orders_are_random_and_repeatable():
    """Two rounds come in different orders, and the same seed gives the same ones."""
    first = [abba(list("abcdef"), random.Random(5)) for _ in range(2)]
    generator = random.Random(5)
    assert first[0] == first[1] == abba(list("abcdef"), generator)
    assert abba(list("abcdef"), generator) != first[0]


def test_a_twofold_slowdown_is_found():
    """Work of 2 ms takes 2 times as long as work of 1 ms: found, with 1 far outside."""
    device = Device(noise=0.1)
    works = {"slow": device.work(2e-3), "fast": device.work(1e-3)}
    found, floor = ratio(measure(works, QUICK, device.clock()), "slow", "fast")
    assert found.low < 2.0 < found.high
    assert found.high - found.low < 0.2
    assert times.differs(found, floor)


def test_a_small_slowdown_is_found_while_the_machine_drifts():
    """5 % are found although the machine gets 30 % slower within each second."""
    device = Device(noise=0.03, drift_per_s=0.3)
    works = {"slow": device.work(1.05e-3), "fast": device.work(1e-3)}
    facts = measure(works, QUICK, device.clock())
    found, floor = ratio(facts, "slow", "fast")
    assert found.contains(1.05)
    assert times.differs(found, floor)


def test_equal_work_is_called_equal():
    """A against A, 200 times with noise and drift: called equal in at least 95 %."""
    equal = 0
    for seed in range(200):
        device = Device(noise=0.05, drift_per_s=0.1, rng=random.Random(seed))
        works = {"a": device.work(1e-2), "again": device.work(1e-2)}
        spec = TimingSpec(block_s=0.02, max_s=1.0, min_warmup_s=0.0)
        found, floor = ratio(measure(works, spec, device.clock(), seed=seed), "a", "again")
        equal += not times.differs(found, floor)
    assert equal >= 190


def test_progress_is_told_between_blocks():
    """Stages come in order, fractions never fall within timing and never pass 1."""
    device = Device()
    told = []
    measure(
        {"a": device.work(1e-3), "b": device.work(1e-3)},
        QUICK,
        device.clock(),
        on_progress=lambda *what: told.append(what),
    )
    assert [(stage, key) for stage, key, _ in told[:2]] == [("warm-up", "a"), ("warm-up", "b")]
    fractions = [fraction for stage, _, fraction in told if stage == "timing"]
    assert fractions == sorted(fractions)
    assert fractions[-1] <= 1.0


def test_events_of_the_device_are_kept_beside_the_wall_clock():
    """Where a device has a clock of its own, each block has its seconds by it too."""
    device = Device()
    clock = Clock(device.now, device.synchronize, lambda: device.busy_until_s, lambda a, b: b - a)
    facts = measure({"a": device.work(1e-3)}, QUICK, clock)["a"]
    assert facts.event_s is not None
    assert facts.event_s == pytest.approx(facts.block_s, rel=0.02)


def test_warm_up_estimates_the_time_of_a_call():
    """A call of 3 µs is told from the clock by doubling the calls until a block is 20 ms."""
    device = Device(launch_s=1e-7)
    warmup = warm_up(device.work(3e-6), TimingSpec(), device.clock())
    assert warmup.steady
    assert warmup.call_s == pytest.approx(3e-6, rel=0.02)
