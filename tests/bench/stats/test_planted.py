"""Planted truths: what is claimed is held against what is so, under the noise that there is.

Each test draws many studies whose truth is known and counts how often the claim is wrong. The
short form of each runs always; the long one (marked slow: ``make simulations``) has a dozen times
the trials, so that its bounds have a third of the room for luck. With -s each prints its figures.
"""

import math

import numpy as np
import pytest
from scipy.special import stdtr

from bench.stats import accuracy
from bench.stats.decide import holm, seeds_needed
from bench.stats.luck import pooled, spread_of, stated
from bench.stats.pareto import partially_pooled
from bench.stats.replicates import Turn, floor_of, in_pairs, replicated
from bench.stats.times import paired_ratio, rate_interval, sitting_interval

SHORT_OR_LONG = pytest.mark.parametrize(
    "trials", [400, pytest.param(5000, marks=pytest.mark.slow)], ids=["short", "long"]
)
SEED_SD = 0.005
N = 2_000


def room(trials: int, share: float = 0.05) -> float:
    """Return what a share of so many trials may be off by luck: three standard errors."""
    return 3 * math.sqrt(share * (1 - share) / trials)


def tell(what: str, value: float) -> float:
    """Print a figure for who runs this with -s, and return it."""
    print(f"\n    {what}: {100 * value:.1f} %", end="")  # noqa: T201
    return value


def arm(draw: np.random.Generator, ease: np.ndarray, level: float, seeds: int) -> np.ndarray:
    """Return hits (seeds, N) about ``level``: seeds move it by SEED_SD, images are their own."""
    levels = level + SEED_SD * draw.standard_normal((seeds, 1))
    # The share of images below a level is that level; a tenth as much noise is the seed's own.
    return ease + 0.02 * draw.standard_normal((seeds, len(ease))) < levels


def images(draw: np.random.Generator) -> np.ndarray:
    return draw.random(N)


def luck_of_others(draw, ease, models=4, seeds=3):
    """Return the luck pooled over other models of the study."""
    return pooled([spread_of(arm(draw, ease, 0.78 + 0.01 * m, seeds)) for m in range(models)])


@pytest.mark.parametrize("seeds", [(1, 1), (3, 1), (3, 3)])
@SHORT_OR_LONG
def test_models_that_are_equal_are_rarely_called_better(seeds, trials):
    """One seed each, three against one, three each: at most 5 % false, 93 to 97 % covered."""
    draw = np.random.default_rng(0)
    false = covered = 0
    for _ in range(trials):
        ease = images(draw)
        one, two = (arm(draw, ease, 0.8, count) for count in seeds)
        found = accuracy.difference(one, two, luck_of_others(draw, ease))
        false += found.p < 0.05
        covered += found.interval.contains(0.0)
    assert tell("false", false / trials) <= 0.05 + room(trials)
    assert 0.93 - room(trials) <= tell("covered", covered / trials) <= 0.97 + room(trials)


@SHORT_OR_LONG
def test_a_stated_seed_sd_that_is_true_serves_as_well(trials):
    """One seed each, no other model: at most 5 % false."""
    draw, false = np.random.default_rng(1), 0
    for _ in range(trials):
        ease = images(draw)
        one, two = (arm(draw, ease, 0.8, 1) for _ in range(2))
        false += accuracy.difference(one, two, stated(SEED_SD)).p < 0.05
    assert tell("false", false / trials) <= 0.05 + room(trials)


@SHORT_OR_LONG
def test_nothing_is_judged_from_one_seed_where_its_luck_is_unknown(trials):
    """However far apart two networks are: there is no p-value that could be small."""
    draw = np.random.default_rng(2)
    for _ in range(trials // 10):
        ease = images(draw)
        found = accuracy.difference(arm(draw, ease, 0.7, 1), arm(draw, ease, 0.9, 1))
        assert found.p is None


@SHORT_OR_LONG
def test_reports_of_equal_models_hold_no_false_verdict(trials):
    """Six equal models with one seed, 15 comparisons: any false one in at most 5 % of reports."""
    draw, false, studies = np.random.default_rng(3), 0, trials // 2
    for _ in range(studies):
        ease = images(draw)
        arms = [arm(draw, ease, 0.8, 1) for _ in range(6)]
        luck = luck_of_others(draw, ease)
        found = [accuracy.difference(arms[i], arms[j], luck).p for i in range(6) for j in range(i)]
        false += min(holm(found)) < 0.05
    assert tell("reports with a false verdict", false / studies) <= 0.05 + room(studies)


@SHORT_OR_LONG
def test_shares_of_a_gap_cover_the_truth(trials):
    """Stem +8 and SE +1 points, one seed in each of four corners: 93 to 97 % covered.

    So are the shares of the gap that they are, 8 and 1 of 9.
    """
    draw, covered, of_gap = np.random.default_rng(4), 0, 0
    for _ in range(trials):
        ease = images(draw)
        corners = [arm(draw, ease, level, 1) for level in (0.7, 0.78, 0.71, 0.79)]
        luck = luck_of_others(draw, ease)
        stem, se = (
            accuracy.contrast(corners, weights, luck)
            for weights in ([-0.5, 0.5, -0.5, 0.5], [-0.5, -0.5, 0.5, 0.5])
        )
        covered += stem.interval.contains(0.08) + se.interval.contains(0.01)
        whole = accuracy.contrast([corners[0], corners[3]], [-1.0, 1.0], luck)
        share = stem.interval.estimate / whole.interval.estimate
        beside = [share - 0.5, 0.5, -0.5, 0.5 - share]  # the stem less its share of the whole
        freedom = accuracy.contrast(corners, beside, luck).freedom
        of_gap += accuracy.share_of(stem, se, whole, freedom).contains(8 / 9)
        of_gap += accuracy.share_of(se, stem, whole, freedom).contains(1 / 9)
    for count in (covered, of_gap):
        share = tell("covered", count / (2 * trials))
        assert 0.93 - room(trials) <= share <= 0.97 + room(trials)


@pytest.mark.parametrize("models", [2, 4])
@SHORT_OR_LONG
def test_chances_of_being_the_best_are_what_they_say(models, trials):
    """Models a point apart with a seed sd of half of one: said and so agree within 5 points."""
    draw, said, so, studies = np.random.default_rng(5), [], [], 2 * trials
    for _ in range(studies):
        truth = 0.8 + 0.01 * draw.standard_normal(models)
        values = truth + SEED_SD * draw.standard_normal(models)
        freedom = 8
        known = SEED_SD * math.sqrt(draw.chisquare(freedom) / freedom)
        scale = np.sqrt(freedom / draw.chisquare(freedom, 500))[:, None]
        errors = known * scale * draw.standard_normal((500, models))
        winners = partially_pooled(values, errors).argmax(axis=1)
        best = int(values.argmax())
        said.append((winners == best).mean())
        so.append(best == int(truth.argmax()))
    tell("said", np.mean(said))
    assert np.mean(said) == pytest.approx(
        tell("so", np.mean(so)), abs=0.05 + room(studies, 0.25) / 2
    )
    sure = np.array(said) > 0.9
    assert np.mean(np.array(so)[sure]) >= np.mean(np.array(said)[sure]) - 0.05 - room(studies, 0.1)


@pytest.mark.parametrize("family", [1, 15])
@SHORT_OR_LONG
def test_seeds_needed_are_enough(family, trials):
    """A difference of two seed sds is found in 80 % or more at the family's level."""
    count, found = seeds_needed(SEED_SD, 2 * SEED_SD, family), 0
    draw = np.random.default_rng(6)
    for _ in range(trials):
        ease = (np.arange(N) + 0.5) / N
        levels = (0.8, 0.8 + 2 * SEED_SD)
        one, two = (ease < x + SEED_SD * draw.standard_normal((count, 1)) for x in levels)
        spreads = [spread_of(one), spread_of(two)]
        variance = sum(s.variance / count for s in spreads)
        freedom = variance**2 / sum((s.variance / count) ** 2 / (count - 1) for s in spreads)
        t = (two.mean() - one.mean()) / math.sqrt(variance)
        found += 2 * float(stdtr(freedom, -abs(t))) < 0.05 / family
    assert tell("found", found / trials) >= 0.8 - room(trials, 0.2)


# Machines: what one process's median is multiplied with, and what its blocks are.
MACHINES = {
    "quiet": {"sitting": 0.0, "state": 0.0, "drift": 0.0, "phi": 0.0},
    "sitting effect of 2 %": {"sitting": 0.02, "state": 0.0, "drift": 0.0, "phi": 0.0},
    "slow state of 3 %": {"sitting": 0.0, "state": 0.03, "drift": 0.0, "phi": 0.0},
    "drift of 1 % a process": {"sitting": 0.005, "state": 0.0, "drift": 0.01, "phi": 0.0},
    "autocorrelated": {"sitting": 0.01, "state": 0.0, "drift": 0.0, "phi": 0.8},
}


def ar1(draw: np.random.Generator, count: int, phi: float) -> np.ndarray:
    noise = draw.standard_normal(count)
    values = noise.copy()
    for i in range(1, count):
        values[i] = phi * values[i - 1] + math.sqrt(1 - phi**2) * noise[i]
    return values


def process(draw: np.random.Generator, machine: dict[str, float], number: int) -> np.ndarray:
    """Return the 20 block times of one process, about 1 s but for what the machine does."""
    log = machine["sitting"] * draw.standard_normal() + machine["drift"] * number
    log += machine["state"] * (draw.random() < 0.5)
    return np.exp(log + 0.01 * ar1(draw, 20, machine["phi"]))


@pytest.mark.parametrize("machine", MACHINES)
@SHORT_OR_LONG
def test_identical_code_is_rarely_called_slower_or_faster(machine, trials):
    """Five processes a side in turns, six rows: a job with a false row in at most 5 %."""
    draw, false = np.random.default_rng(7), 0
    jobs = trials // 2
    for _ in range(jobs):
        found = []
        for _ in range(6):
            sides = [side for n in range(5) for side in ((0, 1) if n % 2 == 0 else (1, 0))]
            turns = [
                Turn(f"{n:03}", bool(side), float(np.median(process(draw, MACHINES[machine], n))))
                for n, side in enumerate(sides)
            ]
            ratio = replicated([new / base for base, new in in_pairs(turns)])
            beyond = abs(ratio.log) > math.log1p(floor_of(turns))
            found.append(ratio.p if beyond else 1.0)
        false += min(holm(found)) < 0.05
    assert tell("jobs with a false row", false / jobs) <= 0.05 + room(jobs)


@pytest.mark.parametrize("machine", ["sitting effect of 2 %", "slow state of 3 %"])
@SHORT_OR_LONG
def test_speed_ratios_over_sittings_cover_the_truth(machine, trials):
    """Two equal rows in five shared sittings, each with effects of its own: at most 5 % false."""
    draw, covered = np.random.default_rng(8), 0
    for _ in range(trials):
        ratios = []
        for number in range(5):
            one, two = (process(draw, MACHINES[machine], number)[:10] for _ in range(2))
            rounds = [{r: [float(t)] for r, t in enumerate(times)} for times in (one, two)]
            ratios.append(paired_ratio(*rounds).estimate)
        covered += replicated(ratios).interval.contains(1.0)
    assert tell("covered", covered / trials) >= 0.95 - room(trials)


@SHORT_OR_LONG
def test_a_true_change_of_5_percent_is_found(trials):
    """Sittings 1 % apart, five pairs: found in 9 of 10."""
    draw, found, machine = np.random.default_rng(9), 0, {**MACHINES["quiet"], "sitting": 0.01}
    for _ in range(trials):
        pairs = [
            (np.median(process(draw, machine, 0)), 1.05 * np.median(process(draw, machine, 0)))
            for _ in range(5)
        ]
        found += replicated([new / base for base, new in pairs]).p < 0.05
    assert tell("found", found / trials) >= 0.9 - room(trials, 0.1)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
@SHORT_OR_LONG
def test_the_interval_of_a_sitting_covers_its_own_rate(phi, trials):
    """Autocorrelated blocks: 93 to 97 % hold what longer timing in that sitting would give."""
    draw, rates, calls = np.random.default_rng(10), 0, 0
    for _ in range(trials):
        times = np.exp(0.02 * ar1(draw, 60, phi))
        rates += rate_interval([(float(t), 64) for t in times]).contains(64 / math.exp(0.0002))
        calls += sitting_interval(times.tolist()).contains(1.0)
    for covered in (rates, calls):
        assert 0.93 - room(trials) <= tell("covered", covered / trials) <= 0.97 + room(trials)
