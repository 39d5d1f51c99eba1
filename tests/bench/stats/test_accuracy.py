"""The statistics of accuracy against known answers and in simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from scipy.special import ndtr

from bench.errors import UserError
from bench.stats import accuracy
from bench.stats.decide import holm
from bench.stats.luck import pooled, spread_of, stated
from bench.stats.times import Interval


def test_wilson_known_answer():
    """9,455 of 10,000 is 94.55 % (94.09 to 94.98)."""
    interval = accuracy.wilson(9455, 10_000)
    assert interval.estimate == 0.9455
    assert interval.low == pytest.approx(0.940877, abs=1e-6)
    assert interval.high == pytest.approx(0.949781, abs=1e-6)


@given(st.integers(1, 20_000), st.floats(0, 1))
def test_wilson_agrees_with_scipy_and_stays_within_0_and_1(total, share):
    """The independent implementation gives the same ends."""
    correct = round(share * total)
    interval = accuracy.wilson(correct, total)
    theirs = scipy_stats.binomtest(correct, total).proportion_ci(method="wilson")
    assert (interval.low, interval.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


@pytest.mark.parametrize(("correct", "total"), [(1, 0), (-1, 10), (11, 10)])
def test_wilson_refuses_what_is_no_fraction(correct, total):
    """More right answers than images, or no images, is an error."""
    with pytest.raises(UserError, match="not a fraction"):
        accuracy.wilson(correct, total)


@pytest.mark.parametrize(("b", "c", "p"), [(180, 220, 0.051), (150, 200, 0.009)])
def test_mcnemar_known_answers(b, c, p):
    """180 against 220 just misses 5 %; 150 against 200 does not; the order does not matter."""
    assert round(accuracy.mcnemar(b, c), 3) == p
    assert accuracy.mcnemar(b, c) == accuracy.mcnemar(c, b)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_exact_sign_test(b, c):
    """It equals scipy's two-sided binomial test, and 1 without any disagreement."""
    expected = scipy_stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert accuracy.mcnemar(b, c) == pytest.approx(expected, abs=1e-12)


def hits(total: int, only_first: int, only_second: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two models' hits with the given numbers of discordant images, 80 % else right."""
    rest = total - only_first - only_second
    both = np.arange(rest) < 0.8 * rest
    first = np.concatenate([np.ones(only_first, bool), np.zeros(only_second, bool), both])
    second = np.concatenate([np.zeros(only_first, bool), np.ones(only_second, bool), both])
    return first, second


def test_paired_difference_known_answer():
    """150 against 200 of 10,000 is +0.50 points; the normal's interval is 0.13 to 0.87."""
    found = accuracy.paired(*hits(10_000, 150, 200))
    assert found.interval.estimate == pytest.approx(0.005)
    assert found.interval.low == pytest.approx(0.0013, abs=2e-4)
    assert found.interval.high == pytest.approx(0.0087, abs=2e-4)
    assert found.p is None  # of the two networks only
    assert found.exploratory


def test_swapping_the_models_turns_the_sign():
    """Better by x one way is worse by x the other way."""
    first, second = hits(2_000, 60, 90)
    there, back = accuracy.paired(first, second), accuracy.paired(second, first)
    assert there.interval.estimate == -back.interval.estimate
    assert there.interval.low == pytest.approx(-back.interval.high, abs=5e-4)
    assert there.p == back.p


def test_equal_models_are_not_different():
    """The same hits give a difference of exactly zero and p = 1, with and without seeds."""
    first, _ = hits(500, 20, 30)
    arm = np.stack([first, first])
    for found, p in ((accuracy.paired(first, first), None), (accuracy.difference(arm, arm), 1.0)):
        assert (found.interval.estimate, found.interval.low, found.interval.high) == (0, 0, 0)
        assert found.p == p


def test_the_same_predictions_always_give_the_same_numbers():
    """Two calls agree to the last bit."""
    first, second = hits(500, 20, 30)
    draw = np.random.default_rng(0)
    arms = [draw.random((3, 500)) < 0.8, draw.random((3, 500)) < 0.82]
    assert accuracy.paired(first, second) == accuracy.paired(first, second)
    assert accuracy.contrast(arms, [-1, 1]) == accuracy.contrast(arms, [-1, 1])


# A probit world: image i is right for seed s when the sum of a constant, the image's ease, the
# model's knack for it, the seed's luck and noise is positive. The true difference is known.
WORLDS = {
    "noise of single images": {"knack": 0.2, "luck": 0.0, "noise": 0.3},
    "lucky seeds": {"knack": 0.2, "luck": 0.05, "noise": 0.3},
    "images alone": {"knack": 0.3, "luck": 0.0, "noise": 0.0},
}
EASE, BASE = 1.0, 1.2


def true_accuracy(world: dict[str, float], bonus: float) -> float:
    spread = math.sqrt(EASE**2 + sum(value**2 for value in world.values()))
    return float(ndtr((BASE + bonus) / spread))


def draw_arms(
    draw: np.random.Generator, world: dict[str, float], bonuses: list[float], seeds: int, n: int
) -> list[np.ndarray]:
    """Return hits (seeds, n) of one model for each bonus, on the same images."""
    ease = EASE * draw.standard_normal(n)
    return [
        BASE
        + bonus
        + ease
        + world["knack"] * draw.standard_normal(n)
        + world["luck"] * draw.standard_normal((seeds, 1))
        + world["noise"] * draw.standard_normal((seeds, n))
        > 0
        for bonus in bonuses
    ]


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        ("noise of single images", 3),
        ("lucky seeds", 3),
        ("lucky seeds", 5),
        ("images alone", 1),
    ],
)
def test_intervals_of_differences_cover_the_truth(name, seeds):
    """93 to 97 of 100 intervals hold the true difference, whatever the noise comes from."""
    world, draw, trials = WORLDS[name], np.random.default_rng(5), 1500
    truth = true_accuracy(world, 0.05) - true_accuracy(world, 0.0)
    covered = 0
    for _ in range(trials):
        found = accuracy.difference(*draw_arms(draw, world, [0.0, 0.05], seeds, 600)).interval
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / trials <= 0.97


def test_interactions_cover_the_truth():
    """A contrast of four models with three seeds each covers too."""
    world, draw, trials = WORLDS["lucky seeds"], np.random.default_rng(6), 1200
    bonuses, weights = [0.0, 0.1, 0.2, 0.3], [1.0, -1.0, -1.0, 1.0]
    truth = sum(w * true_accuracy(world, b) for w, b in zip(weights, bonuses, strict=True))
    covered = 0
    for _ in range(trials):
        found = accuracy.contrast(draw_arms(draw, world, bonuses, 3, 500), weights).interval
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / trials <= 0.97


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9455, 0.99])
def test_wilson_covers_the_truth(share):
    """At every accuracy 93 to 97 of 100 Wilson intervals hold the true one."""
    draw, total = np.random.default_rng(8), 2_000
    counts = draw.binomial(total, share, 4_000)
    ends = {k: accuracy.wilson(int(k), total) for k in set(counts.tolist())}
    covered = np.mean([ends[k].low <= share <= ends[k].high for k in counts.tolist()])
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_family_raises_false_alarms_in_at_most_5_percent(seeds):
    """Four equally good models, six comparisons: rarely is any of them called different."""
    world = {"knack": 0.3, "luck": 0.03, "noise": 0.3}
    draw, trials, alarms = np.random.default_rng(9), 500, 0
    for _ in range(trials):
        arms = draw_arms(draw, world, [0.0] * 4, seeds, 400)
        luck = pooled([spread_of(arm) for arm in draw_arms(draw, world, [0.0] * 3, 3, 400)])
        found = [accuracy.difference(arms[i], arms[j], luck).p for i in range(4) for j in range(i)]
        alarms += min(holm(found)) < 0.05
    assert alarms / trials <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / trials)


def test_a_planted_half_point_is_found_with_the_power_of_theory():
    """10,000 images, 3.0 % against 3.5 % discordant: theory gives a power of 0.50."""
    total, b, c = 10_000, 0.030, 0.035
    spread = math.sqrt(b + c)
    theory = float(ndtr(((c - b) * math.sqrt(total) - 1.96 * spread) / spread))
    assert theory == pytest.approx(0.5, abs=0.01)
    counts = np.random.default_rng(10).multinomial(total, [b, c, 1 - b - c], 4_000)
    found = np.mean([accuracy.mcnemar(int(x), int(y)) < 0.05 for x, y, _ in counts])
    assert found == pytest.approx(theory, abs=0.03)


def test_a_planted_half_point_over_seeds_is_found_with_the_power_of_theory():
    """Five seeds of 0.2 points spread each: Student's t finds 0.5 points in about 9 of 10."""
    draw, trials, n, seeds = np.random.default_rng(11), 300, 4_000, 5
    found = 0
    for _ in range(trials):
        # The luck of a seed moves a whole share of the images over the edge, equal for all images.
        place = draw.permutation(n) / n
        levels = [base + 0.002 * draw.standard_normal((seeds, 1)) for base in (0.8, 0.805)]
        arms = [place < level for level in levels]
        found += accuracy.difference(*arms).p < 0.05
    t = scipy_stats.nct(df=8, nc=0.005 / (0.002 * math.sqrt(2 / seeds)))
    theory = 1 - t.cdf(scipy_stats.t.ppf(0.975, 8))
    assert found / trials == pytest.approx(theory, abs=0.06)


def test_a_share_of_a_gap_known_answers():
    """All of a gap is 100 % of it, exactly; of one that may be nothing no share is known."""
    whole = contrast([np.arange(2000) < 1600, np.arange(2000) < 1700], 0.01)
    nothing = replace(whole, interval=Interval(0.0, 0.0, 0.0, 9), error=0.0)
    found = accuracy.share_of(whole, nothing, whole, 9.0)
    assert (found.low, found.high) == pytest.approx((1.0, 1.0))
    vague = contrast([np.arange(2000) < 1600, np.arange(2000) < 1700], 0.05)
    assert math.isinf(accuracy.share_of(vague, nothing, vague, 9.0).high)


def contrast(arms, seed_sd):
    return accuracy.contrast([arm[None] for arm in arms], [-1.0, 1.0], stated(seed_sd))
