"""Ratios over processes: what one of them may decide, and what several do."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.stats.decide import holm
from bench.stats.replicates import Turn, floor_of, in_pairs, judged, replicated


def turns(sides: str, seconds=None):
    """Return a turn for each letter, a for base and b for new, a minute apart."""
    times = seconds or [1.0] * len(sides)
    return [
        Turn(f"{n:03}", side == "b", s)
        for n, (side, s) in enumerate(zip(sides, times, strict=True))
    ]


def test_one_process_decides_nothing():
    """No interval, no p-value, no equivalence."""
    found = replicated([1.5])
    assert (found.interval.low, found.interval.high) == (0.0, math.inf)
    assert (found.p, found.p_same(0.05)) == (None, None)


def test_several_processes_give_students_t_on_logarithms():
    """1.0, 1.1 and 1.2 against scipy's one-sample test."""
    ratios = [1.0, 1.1, 1.2]
    theirs = scipy_stats.ttest_1samp(np.log(ratios), 0.0)
    found = replicated(ratios)
    assert found.p == pytest.approx(theirs.pvalue)
    ends = theirs.confidence_interval()
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (math.exp(ends.low), math.exp(ends.high))
    )


def test_no_ratio_of_a_family_spreads_far_less_than_the_others():
    """Three rows of 1, 1 and 0.01 %: the third is taken to spread by two thirds of a per cent."""
    spread = np.array([1, -1, 1, -1, 0.5]) / 100
    rows = [replicated(np.exp(0.03 + factor * spread)) for factor in (1, 1, 0.01)]
    found = judged(rows, 0.05)
    assert [one.ratio for one in found[:2]] == rows[:2]
    assert found[2].ratio == replace(rows[2], error=2 / 3 * rows[0].error)
    assert [one.p for one in found] == holm([one.ratio.p for one in found])
    assert [one.p_same for one in found] == holm([one.ratio.p_same(0.05) for one in found])
    assert judged(rows[2:], 0.05)[0].ratio == rows[2]
    assert judged([], 0.05) == []


def test_pairs_are_neighbours_in_time():
    """ABBA pairs the first two and the last two, base first; AABB are no turns, nor ABAB."""
    assert in_pairs(turns("abba", [1.0, 2.0, 3.0, 4.0])) == [(1.0, 2.0), (4.0, 3.0)]
    assert in_pairs(turns("aabb")) is None
    assert in_pairs(turns("abababab")) is None
    assert in_pairs(turns("abbaba")) is None
    shuffled = turns("abba", [1.0, 2.0, 3.0, 4.0])[::-1]
    assert in_pairs(shuffled) == [(1.0, 2.0), (4.0, 3.0)]


def test_a_pair_with_a_starved_process_is_left_out_of_pairs_and_floor():
    """The second of ABBAAB: one pair less, and both of its neighbours tell nothing."""
    told = turns("abbaab", [1.0, 2.0, 90.0, 1.0, 1.0, 2.0])
    told[2] = replace(told[2], starved=True)
    assert in_pairs(told) == [(1.0, 2.0), (1.0, 2.0)]
    assert floor_of(told) is None
    longer = turns("abbaabba", [1.0, 1.0, 90.0, 1.0, 1.02, 1.0, 1.02, 1.0])
    longer[2] = replace(longer[2], starved=True)
    half = scipy_stats.t.ppf(0.975, 2) * math.log(1.02) / math.sqrt(3)
    assert floor_of(longer) == pytest.approx(math.expm1(half))


def test_the_floor_is_that_of_neighbours_of_one_side():
    """In ABBAAB the second and third, fourth and fifth are A/A: 2 % apart, over three pairs."""
    spread = math.log(1.02)
    found = floor_of(turns("abbaab", [1.0, 1.0, 1.02, 1.0, 1.02, 1.0]))
    half = scipy_stats.t.ppf(0.975, 2) * spread / math.sqrt(3)
    assert found == pytest.approx(math.expm1(half))
    assert floor_of(turns("ab")) is None
