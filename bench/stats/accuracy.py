"""Statistics of accuracy: intervals, paired tests on the same images, contrasts over seeds.

Counts, fractions and arrays in, numbers out; no torch, no files. Intervals are at 95 % unless
said. N is the number of test images, S of seeds. Random draws start from a fixed seed, so that
the same predictions always give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bench.errors import UserError
from bench.stats.times import CONFIDENCE, Interval

NUM_DRAWS = 4_000
NUM_BINS = 8
Hits = NDArray[np.bool_]


def wilson(correct: int, total: int, confidence: float = CONFIDENCE) -> Interval:
    """Return a fraction with Wilson's score interval (Wilson 1927; Brown, Cai, DasGupta 2001).

    It stays inside 0 and 1 and keeps its coverage near both ends, where the usual normal
    approximation does not. Raises UserError when ``correct`` is not within 0 and ``total``.
    """
    if total <= 0 or not 0 <= correct <= total:
        raise UserError(f"{correct} of {total} is not a fraction of images")
    z = float(special.ndtri(0.5 + confidence / 2))
    p, spread = correct / total, z * z / total
    middle = (p + spread / 2) / (1 + spread)
    half = z * math.sqrt(p * (1 - p) / total + spread / (4 * total)) / (1 + spread)
    low = 0.0 if correct == 0 else middle - half
    high = 1.0 if correct == total else middle + half
    return Interval(p, low, high, total)


# (z_0.975 + z_0.8)² · 2: the two-sample size at the 5 % level with 80 % power.
SEEDS_FACTOR = 15.7


def seeds_needed(seed_sd: float, difference: float) -> int | None:
    """Return how many seeds each of two models needs for a difference of this size to be seen.

    ``seed_sd`` is the standard deviation over seeds in the unit of ``difference``; power 80 %,
    level 5 %, never fewer than two. None for a difference of zero, which no number resolves.
    """
    if difference == 0:
        return None
    return max(2, math.ceil(SEEDS_FACTOR * (seed_sd / difference) ** 2))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (McNemar 1947; the sign test).

    The arguments count the images that only the first, and only the second model gets right.
    """
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    tail = float(special.bdtr(min(only_first, only_second), discordant, 0.5))
    return min(1.0, 2 * tail)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979): the family errs in at most 5 %."""
    count, running = len(p_values), 0.0
    adjusted = [0.0] * count
    for rank, i in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (count - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


@dataclass(frozen=True)
class Difference:
    """A difference of accuracies (fractions) with its interval and two-sided p-value.

    ``exploratory`` is set when a model has one seed only, so that the interval knows the luck of
    the images but not that of the training. ``method`` says how it was found; ``seed_sd`` is the
    standard deviation over seeds, pooled over the models that have several.
    """

    interval: Interval
    p: float
    method: str
    exploratory: bool
    seed_sd: float | None


def paired(first: Hits, second: Hits) -> Difference:
    """Return how much better ``second`` (N,) is than ``first`` (N,) on the same images.

    The interval is the paired bootstrap's, the p-value McNemar's. Resampling images only moves
    the two counts of discordant images, so those are drawn in their place.
    """
    num_images = len(first)
    only_first = int(np.count_nonzero(first & ~second))
    only_second = int(np.count_nonzero(second & ~first))
    rest = num_images - only_first - only_second
    shares = np.array([only_first, only_second, rest]) / num_images
    draws = np.random.default_rng(0).multinomial(num_images, shares, NUM_DRAWS)
    low, high = np.quantile((draws[:, 1] - draws[:, 0]) / num_images, _tails())
    estimate = (only_second - only_first) / num_images
    return Difference(
        Interval(estimate, float(low), float(high), num_images),
        mcnemar(only_first, only_second),
        "exact McNemar, paired bootstrap over images",
        exploratory=True,
        seed_sd=None,
    )


def _tails() -> list[float]:
    return [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]


def difference(first: Hits, second: Hits) -> Difference:
    """Return how much better ``second`` (S₂, N) is than ``first`` (S₁, N) on the same images."""
    if len(first) == len(second) == 1:
        return paired(first[0], second[0])
    return contrast([first, second], [-1.0, 1.0])


def contrast(arms: Sequence[Hits], weights: Sequence[float]) -> Difference:
    """Return Σ weight · accuracy over ``arms``, each (Sₖ, N) on the same N images.

    A hierarchical bootstrap: seeds are drawn within each arm, images once for all arms. Two
    corrections make it cover 95 % with the three or five seeds that people have. The deviations
    of the seeds are stretched by √(S / (S − 1)), because a mean of few values lies too close to
    them (Davison and Hinkley 1997, section 3.8). The deviations of the images are shrunk by the
    noise that one seed's verdict on one image has, which the drawn seeds carry already (Owen 2007
    shows how counting it twice widens the interval). The quantiles are then stretched from the
    normal's to those of Student's t with Satterthwaite's degrees of freedom.
    """
    num_images = arms[0].shape[1]
    of_images = np.zeros(num_images)
    seeds = []
    for arm, weight in zip(arms, weights, strict=True):
        image_means = arm.mean(axis=0)
        of_images += weight * image_means
        seeds += [_seed_spread(arm, image_means, weight)] if len(arm) > 1 else []
    estimate = float(of_images.mean())
    raw = float(of_images.var(ddof=1)) / num_images
    image_variance = max(0.0, raw - sum(spread.noise for spread in seeds))
    variance = image_variance + sum(spread.variance for spread in seeds)
    freedom = _satterthwaite(variance, raw, num_images, seeds)
    draw = np.random.default_rng(0)
    shrink = math.sqrt(image_variance / raw) if raw else 0.0
    draws = shrink * _image_draws(draw, of_images)
    for spread in seeds:
        draws += _seed_draws(draw, spread)
    stretch = float(special.stdtrit(freedom, 0.975) / special.ndtri(0.975))
    low, high = estimate + stretch * np.quantile(draws, _tails())
    p = 2 * float(special.stdtr(freedom, -abs(estimate) / math.sqrt(variance))) if variance else 1.0
    return Difference(
        Interval(estimate, float(low), float(high), num_images),
        p,
        "hierarchical bootstrap over seeds and images" if seeds else "bootstrap over images",
        exploratory=any(len(arm) < 2 for arm in arms),
        seed_sd=pooled_sd([arm.mean(axis=1) for arm in arms]),
    )


@dataclass(frozen=True)
class _SeedSpread:
    """One arm's part of the variance that comes from its seeds.

    ``deviations`` (S,) are those of the seeds' accuracies from their mean, times the arm's weight;
    ``noise`` is the part of ``variance`` that is the noise of single images.
    """

    deviations: NDArray[np.float64]
    variance: float
    noise: float


def _seed_spread(arm: Hits, image_means: NDArray[np.float64], weight: float) -> _SeedSpread:
    """Split the spread of an arm's seeds (S, N) into luck of training and noise of single images.

    A two-way analysis of variance without replication; the sums of squares of zeros and ones need
    no pass over the array beyond its two means.
    """
    num_seeds, num_images = arm.shape
    seed_means = arm.mean(axis=1)
    mean = float(seed_means.mean())
    total = num_seeds * num_images * mean * (1 - mean)
    of_seeds = num_images * float(((seed_means - mean) ** 2).sum())
    of_images = num_seeds * float(((image_means - mean) ** 2).sum())
    noise = max(0.0, total - of_seeds - of_images) / ((num_seeds - 1) * (num_images - 1))
    return _SeedSpread(
        deviations=weight * (seed_means - mean),
        variance=weight**2 * float(seed_means.var(ddof=1)) / num_seeds,
        noise=weight**2 * noise / (num_seeds * num_images),
    )


def _satterthwaite(
    variance: float, of_images: float, num_images: int, seeds: Sequence[_SeedSpread]
) -> float:
    """Return the degrees of freedom of a sum of variances (Satterthwaite 1946)."""
    parts = of_images**2 / (num_images - 1)
    parts += sum(spread.variance**2 / (len(spread.deviations) - 1) for spread in seeds)
    return max(1.0, variance**2 / parts) if parts else float(num_images - 1)


def _image_draws(draw: np.random.Generator, of_images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return deviations of the mean over resampled images.

    Equal images are drawn together; where contrasts of many runs give many values, neighbours
    within an eighth of the range are, and the spread that this takes away is given back.
    """
    values, counts = np.unique(of_images.round(9), return_counts=True)
    num_images, spread = len(of_images), float(of_images.std())
    if len(values) > NUM_BINS:
        edges = np.linspace(values[0], values[-1], NUM_BINS + 1)[1:-1]
        bins = np.searchsorted(edges, of_images)
        counts = np.bincount(bins, minlength=NUM_BINS)
        sums = np.bincount(bins, weights=of_images, minlength=NUM_BINS)
        values = sums / np.maximum(counts, 1)
    shares = counts / num_images
    kept = math.sqrt(float(shares @ (values - of_images.mean()) ** 2))
    drawn = draw.multinomial(num_images, shares, NUM_DRAWS)
    deviations = drawn @ values / num_images - of_images.mean()
    return np.asarray(deviations * (spread / kept if kept else 1.0))


def _seed_draws(draw: np.random.Generator, spread: _SeedSpread) -> NDArray[np.float64]:
    num_seeds = len(spread.deviations)
    chosen = draw.integers(0, num_seeds, (NUM_DRAWS, num_seeds))
    stretch = math.sqrt(num_seeds / (num_seeds - 1))
    return np.asarray(stretch * spread.deviations[chosen].mean(axis=1))


def pooled_sd(groups: Sequence[NDArray[np.float64]]) -> float | None:
    """Return the standard deviation within groups, pooled; None when none has two values."""
    several = [np.asarray(group) for group in groups if len(group) > 1]
    if not several:
        return None
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in several)
    return math.sqrt(squares / sum(len(group) - 1 for group in several))


def unpaired(
    first: Sequence[tuple[int, int]], second: Sequence[tuple[int, int]]
) -> Difference | None:
    """Return how much better ``second`` is than ``first``, from counts alone.

    Each holds (correct, total) of one seed or more. Welch's t over seeds when both have several,
    else Newcombe's interval from Wilson's (Newcombe 1998, method 10) for the first seeds, which is
    wider than a paired one. None without counts.
    """
    if not first or not second:
        return None
    shares = [np.array([k / n for k, n in arm]) for arm in (first, second)]
    if min(len(first), len(second)) > 1:
        return _welch(*shares)
    one, two = (wilson(*arm[0]) for arm in (first, second))
    estimate = two.estimate - one.estimate
    low = estimate - math.hypot(two.estimate - two.low, one.high - one.estimate)
    high = estimate + math.hypot(two.high - two.estimate, one.estimate - one.low)
    pooled = (first[0][0] + second[0][0]) / (first[0][1] + second[0][1])
    spread = math.sqrt(pooled * (1 - pooled) * (1 / first[0][1] + 1 / second[0][1]))
    p = 2 * float(special.ndtr(-abs(estimate) / spread)) if spread else 1.0
    interval = Interval(estimate, low, high, first[0][1])
    return Difference(interval, p, "unpaired, Newcombe's interval", True, pooled_sd(shares))


def _welch(first: NDArray[np.float64], second: NDArray[np.float64]) -> Difference:
    parts = [float(arm.var(ddof=1)) / len(arm) for arm in (first, second)]
    estimate, variance = float(second.mean() - first.mean()), sum(parts)
    squares = sum(p**2 / (len(arm) - 1) for p, arm in zip(parts, (first, second), strict=True))
    freedom = variance**2 / squares if squares else 1.0
    half = float(special.stdtrit(freedom, 0.975)) * math.sqrt(variance)
    p = 2 * float(special.stdtr(freedom, -abs(estimate) / math.sqrt(variance))) if variance else 1.0
    interval = Interval(estimate, estimate - half, estimate + half, len(first) + len(second))
    return Difference(
        interval, p, "unpaired, Welch's t over seeds", False, pooled_sd([first, second])
    )


def seed_error(arm: Hits) -> float:
    """Return the standard error of an arm's mean (S, N) that comes from the luck of its seeds.

    The noise of single images is taken out; 0 for one seed, of whose luck nothing is known.
    """
    if len(arm) < 2:
        return 0.0
    spread = _seed_spread(arm, arm.mean(axis=0), 1.0)
    return math.sqrt(max(0.0, spread.variance - spread.noise))


NUM_BINS = 15  # of the calibration error, as in Guo et al. 2017, section 4.1


def calibration_error(confidence: NDArray[np.float32], correct: NDArray[np.bool_]) -> float:
    """Return the expected calibration error over 15 equal bins (Guo et al. 2017, equation 3)."""
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = np.bincount(bins, weights=correct.astype(float) - confidence, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(confidence))
