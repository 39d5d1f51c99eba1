"""Statistics of times and of ratios."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.stats.times import (
    Interval,
    by_round,
    call_times,
    calls_per_s,
    differs,
    geometric_interval,
    mean_interval,
    noise_floor,
    paired_ratio,
    quantile,
    round_ratios,
    trimmed_interval,
)

TIMES = st.lists(st.floats(min_value=1e-6, max_value=1e3), min_size=1, max_size=40)


@given(TIMES, st.floats(min_value=0, max_value=1))
def test_quantile_is_numpys(values, fraction):
    """Linear interpolation between order statistics, as numpy does it."""
    assert quantile(values, fraction) == pytest.approx(np.quantile(values, fraction))


def test_throughput_is_calls_over_seconds():
    """10 calls in 1 s and 10 in 3 s are 5 calls a second, not the mean of 10 and 3.3."""
    assert calls_per_s([1.0, 3.0], [10, 10]) == 5.0


def test_blocks_of_a_broken_clock_are_left_out_of_statistics():
    """Zero and negative seconds count neither as calls nor as seconds."""
    assert calls_per_s([1.0, 0.0, -5.0], [10, 10, 10]) == 10.0
    assert calls_per_s([0.0], [10]) is None
    assert call_times([1.0, 0.0, -5.0], [10, 10, 10]) == [0.1]


@given(st.lists(st.floats(min_value=-100, max_value=100), min_size=2, max_size=30))
def test_mean_interval_is_students(values):
    """The bounds are those of scipy's t distribution."""
    found = mean_interval(values)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    half = scipy_stats.t.ppf(0.975, len(values) - 1) * error
    assert found.estimate == pytest.approx(np.mean(values), abs=1e-9)
    assert found.high - found.low == pytest.approx(2 * half, abs=1e-6)


def test_one_sample_has_an_unbounded_interval():
    """One ratio says nothing of its precision: 0 to infinity."""
    found = geometric_interval([1.2])
    assert (found.estimate, found.low, found.high) == (pytest.approx(1.2), 0.0, math.inf)


def test_ratios_are_averaged_as_logarithms():
    """Twice as slow and twice as fast make 1, not 1.25."""
    assert geometric_interval([2.0, 0.5]).estimate == pytest.approx(1.0)


@given(st.lists(st.floats(min_value=0.1, max_value=10), min_size=5, max_size=60))
def test_the_trimmed_mean_and_its_interval_are_scipys(ratios):
    """A fifth is trimmed at each end, exactly; the winsorised variance gives the interval."""
    del ratios[len(ratios) // 5 * 5 :]
    found = trimmed_interval(ratios)
    logs = np.log(ratios)
    n, h = len(logs), len(logs) * 3 // 5
    winsorised = scipy_stats.mstats.winsorize(logs, (0.2, 0.2))
    error = winsorised.std(ddof=1) * math.sqrt((n - 1) / (h * (h - 1)))
    half = scipy_stats.t.ppf(0.975, h - 1) * error
    low, high = scipy_stats.trim_mean(logs, 0.2) + np.array([-half, half])
    assert math.log(found.estimate) == pytest.approx(scipy_stats.trim_mean(logs, 0.2), abs=1e-9)
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((low, high), abs=1e-6)
    assert found.num_samples == len(ratios)


def test_nothing_is_trimmed_of_four():
    """The interval over a few ratios is Student's."""
    ratios = [0.9, 1.0, 1.1, 2.0]
    assert trimmed_interval(ratios) == geometric_interval(ratios)


def test_rounds_in_which_one_row_was_held_up_hardly_move_the_ratio():
    """A row that loses its core for as long as the call in every eighth round is 10 % slower."""
    rng = random.Random(5)
    a = {r: [rng.lognormvariate(0, 0.02)] for r in range(40)}
    b = {r: [1.1 * rng.lognormvariate(0, 0.02) * (2 if r % 8 == 0 else 1)] for r in range(40)}
    assert paired_ratio(b, a).estimate == pytest.approx(1.1, rel=0.02)
    assert geometric_interval(round_ratios(b, a)).estimate > 1.18


def test_the_interval_of_equal_rows_with_outliers_covers_1_in_95_percent():
    """Over 1,000 simulated sittings of 30 rounds, with a heavy-tailed spread."""
    generator = np.random.default_rng(1)
    sittings = np.exp(0.05 * generator.standard_t(3, (1000, 30)))
    covered = sum(trimmed_interval(list(ratios)).contains(1.0) for ratios in sittings)
    assert 930 <= covered <= 975


def test_ratio_and_its_inverse_have_inverse_intervals():
    """Which row is the base does not matter."""
    rng = random.Random(3)
    a = {r: [rng.uniform(1, 1.1)] for r in range(8)}
    b = {r: [rng.uniform(2, 2.2)] for r in range(8)}
    up, down = paired_ratio(b, a), paired_ratio(a, b)
    assert up.estimate == pytest.approx(1 / down.estimate)
    assert (up.low, up.high) == (pytest.approx(1 / down.high), pytest.approx(1 / down.low))


def test_pairing_cancels_what_both_rows_suffer():
    """Rounds that are 1, 2, 3 … times as slow for both leave a ratio of 2 without any spread."""
    a = {r: [1.0 * (r + 1)] for r in range(5)}
    b = {r: [2.0 * (r + 1)] for r in range(5)}
    found = paired_ratio(b, a)
    assert (found.low, found.high) == (pytest.approx(2.0), pytest.approx(2.0))


def test_only_rounds_that_both_rows_have_are_compared():
    """A round whose clock broke for one row is left out for both."""
    found = paired_ratio({0: [1.0], 1: [9.0]}, {0: [1.0], 2: [5.0]})
    assert found.num_samples == 1


def test_blocks_are_sorted_by_round():
    """Seconds a call, zero and negative ones left out."""
    assert by_round([2.0, 4.0, 0.0], [2, 2, 2], [0, 1, 1]) == {0: [1.0], 1: [2.0]}


def test_noise_floor_is_the_spread_of_a_row_against_itself():
    """First and second turn 2 % apart, either way: the floor is the end of that interval."""
    rounds = {r: [1.0, 1.02] if r % 2 else [1.02, 1.0] for r in range(10)}
    error = math.log(1.02) * math.sqrt(10 / 9) * math.sqrt(9 / (6 * 5))  # four of ten trimmed
    half = scipy_stats.t.ppf(0.975, 5) * error
    assert noise_floor([(rounds, rounds)]) == pytest.approx(math.exp(half) - 1, rel=1e-6)
    assert noise_floor([({0: [1.0, 1.0]}, {0: [1.0, 1.0]})]) is None


@pytest.mark.parametrize("noise", [(0.05, 0.05), (0.08, 0.01)])
def test_the_noise_floor_is_as_wide_as_the_interval_of_two_equal_subjects(noise):
    """Over 400 simulated sittings of equal work, both have a median width within 10 %."""
    generator = np.random.default_rng(0)
    floors, widths = [], []
    for _ in range(400):
        times = np.exp(generator.normal(0.0, np.reshape(noise, (2, 1, 1)), (2, 8, 2)))
        one, two = ({r: list(turns) for r, turns in enumerate(subject)} for subject in times)
        floor, ratio = noise_floor([(one, two)]), paired_ratio(one, two)
        assert floor is not None
        floors.append(math.log1p(floor))
        widths.append(max(abs(math.log(ratio.low)), abs(math.log(ratio.high))))
    assert np.median(floors) == pytest.approx(np.median(widths), rel=0.1)


def test_a_difference_must_pass_interval_and_floor():
    """1.03 ± 0.01 is a difference under a floor of 1 % and none under one of 5 %."""
    ratio = Interval(1.03, 1.02, 1.04, 10)
    assert differs(ratio, 0.01)
    assert not differs(ratio, 0.05)
    assert not differs(Interval(1.03, 0.99, 1.07, 10), 0.01)
    assert differs(Interval(0.5, 0.49, 0.51, 10), None)
