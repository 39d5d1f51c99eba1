"""Intervals of times and rates: known answers, and that they cover the truth as often as they say.

Block times are drawn log-normal: 10 % of spread about a median of 1 s a call.
"""

import math

import numpy as np
import pytest
import record_factory as make
from scipy import stats as scipy_stats

from bench.report.read.pytest_json import _benchmark
from bench.report.read.timings import timing_of
from bench.stats import accuracy
from bench.stats.times import (
    geometric_interval,
    mean_interval,
    median_interval,
    paired_ratio,
    rate_interval,
)

SPREAD = 0.1
TRIALS = 2_000


def covered(intervals, truth):
    """Return the share of intervals that hold the truth."""
    return np.mean([interval.contains(truth) for interval in intervals])


def draws(shape, seed=0):
    return np.exp(SPREAD * np.random.default_rng(seed).standard_normal(shape))


def test_median_interval_known_answer():
    """Of 1 … 20 ranks 6 and 15 cover 95.86 %, 7 and 14 only 88.47 %: the ends lie 0.235 inwards."""
    found = median_interval([float(value) for value in range(20, 0, -1)])
    covers = [1 - 2 * scipy_stats.binom.cdf(rank - 1, 20, 0.5) for rank in (6, 7)]
    assert covers == pytest.approx([0.9586, 0.8847], abs=1e-4)
    share = (covers[0] - 0.95) / (covers[0] - covers[1])
    inward = 14 * share / (6 + 8 * share)
    assert (found.low, found.high) == pytest.approx((6 + inward, 15 - inward))
    assert inward == pytest.approx(0.235, abs=1e-3)


def test_a_median_of_five_has_no_ends():
    """Not even the smallest and the largest of five values cover 95 %."""
    assert median_interval([1.0] * 5).high == math.inf


@pytest.mark.parametrize("count", [6, 8, 10, 16, 20, 31, 100])
def test_intervals_of_medians_cover_the_truth(count):
    """93 to 97 of 100 hold the true median, however many blocks there are."""
    found = [median_interval(times.tolist()) for times in draws((TRIALS, count), count)]
    assert 0.93 <= covered(found, 1.0) <= 0.97


def test_rate_known_answer():
    """20 images in 2 s and 10 in 1.2 s are 30 / 3.2 img/s; residuals −0.133 and 0.133 s."""
    found = rate_interval([(2.0, 20), (1.2, 10)])
    assert found.estimate == pytest.approx(9.375)
    error = math.sqrt(2 * (2 / 15) ** 2 / 2) / 15 / (3.2 / 30)
    factor = math.exp(scipy_stats.t.ppf(0.975, 1) * error)
    assert (found.low, found.high) == pytest.approx((9.375 / factor, 9.375 * factor))


@pytest.mark.parametrize("count", [6, 16, 60])
def test_intervals_of_throughput_cover_the_truth(count):
    """Images over seconds: 93 to 97 of 100 hold what endless blocks would give."""
    truth = 64 / math.exp(SPREAD**2 / 2)
    calls = np.random.default_rng(1).integers(2, 4, (TRIALS, count))
    every = zip(draws((TRIALS, count), 1), calls, strict=True)
    found = [
        rate_interval([(t * n, int(64 * n)) for t, n in zip(times, number, strict=True)])
        for times, number in every
    ]
    assert 0.93 <= covered(found, truth) <= 0.97


def test_several_processes_give_the_interval_over_them():
    """Two processes of 1.0 and 1.1 s a call: Student's t over their two rates."""
    records = [make.profile_record(call_s=s, noise=0.0, batch_size=1, id=str(s)) for s in (1, 1.1)]
    found = timing_of(records).rate
    over = geometric_interval([1.0, 1 / 1.1])
    assert found.estimate == pytest.approx(40 / 42)
    assert found.high / found.estimate == pytest.approx(over.high / over.estimate)


def test_ratios_over_rounds_cover_the_truth():
    """Eight rounds in which both rows suffer alike: 93 to 97 of 100 intervals hold 1.1."""
    shared, one, two = (draws((TRIALS, 8), seed) for seed in (2, 3, 4))
    found = [
        paired_ratio(
            {r: [1.1 * s * x] for r, (s, x) in enumerate(zip(slow, a, strict=True))},
            {r: [s * x] for r, (s, x) in enumerate(zip(slow, b, strict=True))},
        )
        for slow, a, b in zip(shared, one, two, strict=True)
    ]
    assert 0.93 <= covered(found, 1.1) <= 0.97


def test_benchmarks_without_raw_times_cover_the_truth():
    """From median, IQR and 40 rounds alone: 93 to 97 of 100 intervals hold the true median."""
    found = []
    for times in draws((TRIALS, 40), 7):
        low, middle, high = np.quantile(times, [0.25, 0.5, 0.75])
        told = {"median": middle, "iqr": high - low, "rounds": 40}
        found.append(_benchmark({"fullname": "x", "stats": told}, {}).seconds)
    assert 0.93 <= covered(found, 1.0) <= 0.97


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_over_seeds_cover_the_truth(seeds):
    """Student's t over two, three and five seeds: 93 to 97 of 100 hold the true mean."""
    values = 0.9 + 0.003 * np.random.default_rng(8).standard_normal((TRIALS, seeds))
    found = [mean_interval(row.tolist()) for row in values]
    assert 0.93 <= covered(found, 0.9) <= 0.97


def test_unpaired_differences_cover_the_truth():
    """Newcombe's interval for one seed each, seeds beside images for several: 93 to 97 of 100."""
    draw = np.random.default_rng(9)
    counts = draw.binomial(2_000, [0.80, 0.83], (TRIALS, 2)).tolist()
    alone = [accuracy.unpaired([(a, 2_000)], [(b, 2_000)]).interval for a, b in counts]
    assert 0.93 <= covered(alone, 0.03) <= 0.97
    several = []
    for _ in range(TRIALS):  # all seeds of a model are tested on one draw of images
        arms = [
            (draw.random(2_000) < draw.normal(level, sd, (4, 1))).sum(axis=1)
            for level, sd in ((0.80, 0.005), (0.83, 0.003))
        ]
        counts = [[(int(k), 2_000) for k in arm] for arm in arms]
        several.append(accuracy.unpaired(*counts).interval)
    assert 0.93 <= covered(several, 0.03) <= 0.97
