"""Statistics of times and of ratios of times: medians, spreads, paired intervals.

Times are positive and skewed, so ratios are averaged as logarithms; blocks timed next to each
other are paired, so that what slows both of them down cancels. What slows only one of them, such
as another process that takes a core for a moment, makes a few rounds outliers: the ratio of a
sitting is a trimmed mean over its rounds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

CONFIDENCE = 0.95
# Where processes are in one of two states, as clocks are, a few of them fall into the same ones by
# chance and seem to know their ratio exactly: fewer sittings, or pairs of them, decide nothing.
FEWEST = 5
TRIMMED = 0.2  # of the rounds at each end, as Wilcox recommends (Robust Estimation, section 3.3)


@dataclass(frozen=True)
class Interval:
    """An estimate, the bounds of its interval, and how many samples it rests on.

    The bounds are infinitely far apart (``low`` 0 or -inf, ``high`` inf) with fewer than two
    samples.
    """

    estimate: float
    low: float
    high: float
    num_samples: int

    def contains(self, value: float) -> bool:
        """Tell whether ``value`` lies between the bounds."""
        return self.low <= value <= self.high


def quantile(values: Sequence[float], fraction: float) -> float:
    """Return the quantile by linear interpolation between the order statistics (numpy's)."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * fraction
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def iqr(values: Sequence[float]) -> float:
    """Return the distance between the quartiles."""
    return quantile(values, 0.75) - quantile(values, 0.25)


def call_times(block_s: Sequence[float], block_iters: Sequence[int]) -> list[float]:
    """Return the seconds of one call in each block whose clock went forward."""
    return [s / n for s, n in zip(block_s, block_iters, strict=True) if s > 0]


def calls_per_s(block_s: Sequence[float], block_iters: Sequence[int]) -> float | None:
    """Return Σ calls / Σ seconds over the blocks whose clock went forward, None without one.

    Times the batch size this is the throughput in img/s.
    """
    good = [(s, n) for s, n in zip(block_s, block_iters, strict=True) if s > 0]
    return sum(n for _, n in good) / math.fsum(s for s, _ in good) if good else None


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the mean with Student's t-interval."""
    n = len(values)
    if n < 2:
        return Interval(values[0] if values else math.nan, -math.inf, math.inf, n)
    mean = statistics.fmean(values)
    half = t_quantile(confidence, n - 1) * statistics.stdev(values, mean) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def t_quantile(confidence: float, freedom: float) -> float:
    """Return the two-sided critical value of Student's t-distribution."""
    from scipy.special import stdtrit  # a tenth of the import time of scipy.stats

    return float(stdtrit(freedom, 0.5 + confidence / 2))


def geometric_interval(ratios: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the geometric mean of positive ratios with the interval of their logarithms."""
    return _exp(mean_interval([math.log(ratio) for ratio in ratios], confidence))


def trimmed_interval(ratios: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the geometric mean of positive ratios, a fifth cut off each end, with its interval.

    The interval is Student's t with h − 1 degrees of freedom and the standard error
    s_w · √((n − 1) / (h (h − 1))) of the h ratios left of n, s_w being the winsorised standard
    deviation of the logarithms, which takes what was trimmed into account (Tukey and McLaughlin
    1963). The fifth is rounded down: below five ratios nothing is trimmed.
    """
    logs = sorted(math.log(ratio) for ratio in ratios)
    n = len(logs)
    cut = math.floor(TRIMMED * n)
    if cut == 0:
        return geometric_interval(ratios, confidence)
    middle = logs[cut : n - cut]
    mean = statistics.fmean(middle)
    winsorised = [middle[0]] * cut + middle + [middle[-1]] * cut
    h = len(middle)
    error = statistics.stdev(winsorised) * math.sqrt((n - 1) / (h * (h - 1)))
    half = t_quantile(confidence, h - 1) * error
    return _exp(Interval(mean, mean - half, mean + half, n))


def _exp(log: Interval) -> Interval:
    return Interval(
        math.exp(log.estimate),
        math.exp(log.low),
        math.exp(log.high) if log.high < 700 else math.inf,
        log.num_samples,
    )


Blocks = Mapping[int, Sequence[float]]
"""Seconds a call of each block, by the round in which the block was timed."""


def by_round(
    block_s: Sequence[float], block_iters: Sequence[int], block_round: Sequence[int]
) -> dict[int, list[float]]:
    """Sort the seconds a call of each block (those whose clock went forward) by round."""
    rounds: dict[int, list[float]] = {}
    for seconds, iters, which in zip(block_s, block_iters, block_round, strict=True):
        if seconds > 0:
            rounds.setdefault(which, []).append(seconds / iters)
    return rounds


def round_ratios(numerator: Blocks, denominator: Blocks) -> list[float]:
    """Return, for each round that both have, the ratio of their (geometric) mean times."""
    common = sorted(numerator.keys() & denominator.keys())
    return [math.exp(_mean_log(numerator[r]) - _mean_log(denominator[r])) for r in common]


def _mean_log(values: Sequence[float]) -> float:
    return statistics.fmean(math.log(value) for value in values)


def paired_ratio(
    numerator: Blocks, denominator: Blocks, confidence: float = CONFIDENCE
) -> Interval:
    """Return how many times longer ``numerator`` takes: the trimmed mean over the rounds.

    Rounds in one process are correlated: this is the precision of one sitting. The interval over
    fresh processes is `geometric_interval` of each process's ratio.
    """
    return trimmed_interval(round_ratios(numerator, denominator), confidence)


def noise_floor(pairs: Sequence[tuple[Blocks, Blocks]]) -> float | None:
    """Return the A/A noise floor: how far from 1 a ratio of equal work may come out here.

    ``pairs`` are the two subjects of a ratio, in each sitting that they shared. Each round times
    both of them twice. The first time against the second compares a subject with itself, with half
    the samples that a comparison of the two has; the mean of both comparisons is as uncertain as
    the ratio of the round. The floor is the farther end of the interval of these means, minus 1.
    None when there are less than two such rounds.
    """
    found = []
    for one, other in pairs:
        for which in sorted(one.keys() & other.keys()):
            if min(len(one[which]), len(other[which])) >= 2:
                (a, b), (c, d) = halves(one[which]), halves(other[which])
                found.append(math.sqrt(a / b * c / d))
    if len(found) < 2:
        return None
    interval = trimmed_interval(found)
    return max(interval.high, 1 / interval.low) - 1


def halves(times: Sequence[float]) -> tuple[float, float]:
    """Return the geometric means of the first and of the second half of a round's times."""
    middle = len(times) // 2
    return math.exp(_mean_log(times[:middle])), math.exp(_mean_log(times[-middle:]))


def differs(ratio: Interval, floor: float | None) -> bool:
    """Tell whether a ratio is a difference: 1 is outside its interval and its noise floor."""
    distance = max(ratio.estimate, 1 / ratio.estimate) - 1
    return not ratio.contains(1.0) and distance > (floor or 0.0)


def log_error(interval: Interval) -> float | None:
    """Return the standard error of a positive value's logarithm; None where its ends are open."""
    if not 0 < interval.low <= interval.high < math.inf:
        return None
    return math.log(interval.high / interval.low) / (2 * 1.96)


def product(values: Sequence[Interval], weights: Sequence[float]) -> Interval:
    """Return the product of values to the power of weights; open ends stay open."""
    pairs = list(zip(values, weights, strict=True))
    log = math.fsum(weight * math.log(value.estimate) for value, weight in pairs)
    errors = [log_error(value) for value in values]
    if None in errors:
        return Interval(math.exp(log), 0.0, math.inf, len(values))
    half = 1.96 * math.hypot(*(w * (e or 0.0) for e, w in zip(errors, weights, strict=True)))
    return Interval(math.exp(log), math.exp(log - half), math.exp(log + half), len(values))


def kaplan_meier_median(reached: list[float], missed: list[float]) -> float | None:
    """Return the time by which half had got there; None when fewer did before they were given up.

    ``reached`` holds the times of those who did, ``missed`` how long the others were watched
    (Kaplan and Meier 1958).
    """
    left = 1.0
    for seconds in sorted(set(reached)):
        waiting = sum(1 for time in (*reached, *missed) if time >= seconds)
        left *= 1 - reached.count(seconds) / waiting
        if left <= 0.5 + 1e-12:
            return seconds
    return None


TimedImages = list[tuple[float, int]]  # seconds and images of each block


def rate_interval(blocks: TimedImages) -> Interval:
    """Return Σ images / Σ seconds of one process; unbounded with a single block.

    The seconds an image are a ratio of two means, so their variance is that of the residuals of
    the seconds from what the images explain (Cochran, Sampling Techniques, section 2.11), with
    Student's t on the logarithm. Neighbouring blocks are alike, which `dependence` allows for: it
    is the precision of this sitting's own rate and says nothing of another sitting's.
    """
    count, images = len(blocks), sum(n for _, n in blocks)
    each = math.fsum(s for s, _ in blocks) / images
    if count < 2:
        return Interval(1 / each, 0.0, math.inf, count)
    residuals = [s - each * n for s, n in blocks]
    alike = dependence(residuals)
    squares = math.fsum(r**2 for r in residuals) / (count - 1)
    error = math.sqrt(alike.inflation * squares / count) / (images / count)
    exponent = t_quantile(CONFIDENCE, alike.freedom) * error / each
    factor = math.exp(exponent) if exponent < 700 else math.inf
    return Interval(1 / each, 1 / each / factor, factor / each, count)


@dataclass(frozen=True)
class Dependence:
    """How much less samples in their order say than as many independent ones.

    ``inflation`` is the factor on the variance of their mean, ``freedom`` its degrees of freedom.
    """

    inflation: float
    freedom: float


def dependence(values: Sequence[float]) -> Dependence:
    """Return how alike neighbours are, as if the samples were autoregressive of first order.

    The lag-1 autocorrelation r is corrected for its bias of −(1 + 4r) / n (Marriott and Pope 1954)
    and taken between 0 and 0.95; n (1 − r) / (1 + r) samples would be as good if independent.
    """
    n = len(values)
    if n < 8:
        return Dependence(1.0, max(1, n - 1))
    mean = statistics.fmean(values)
    moved = [value - mean for value in values]
    squares = math.fsum(m * m for m in moved)
    lag1 = math.fsum(a * b for a, b in pairwise(moved)) / squares if squares else 0.0
    r = min(0.95, max(0.0, (lag1 + 1 / n) / (1 - 4 / n)))
    fewer = (1 + r) / (1 - r)
    # The sample's own variance is too small by the same likeness.
    return Dependence(fewer * (n - 1) / max(1.0, n - fewer), max(1.0, n / fewer - 1))


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median with its distribution-free 95 % interval; unbounded below six values.

    The ends lie between two order statistics, so that the coverage is near 95 % for every number
    of values, and not only where a pair of them happens to have it (Hettmansperger and Sheather
    1986). The samples are taken as independent; see `sitting_interval` for those that are not.
    """
    n, middle = len(values), quantile(values, 0.5)
    if n < 6:
        return Interval(middle, 0.0, math.inf, n)
    rank, outer, inner = _ranks(n)
    share = (outer - CONFIDENCE) / (outer - inner)
    inward = (n - rank) * share / (rank + (n - 2 * rank) * share)
    ordered = sorted(values)
    low = ordered[rank - 1] + inward * (ordered[rank] - ordered[rank - 1])
    high = ordered[n - rank] - inward * (ordered[n - rank] - ordered[n - rank - 1])
    return Interval(middle, low, high, n)


def sitting_interval(call_s: Sequence[float]) -> Interval:
    """Return the median time of one sitting's calls, in their order, with its interval.

    That of `median_interval`, wider by what neighbours have in common. It covers what longer timing
    in this same sitting would have given, and nothing else.
    """
    found, alike = median_interval(call_s), dependence(call_s)
    if found.low <= 0 or math.isinf(found.high):
        return found
    wider = math.sqrt(alike.inflation) * t_quantile(CONFIDENCE, alike.freedom) / 1.96
    low = math.log(found.estimate / found.low) * wider
    high = min(700.0, math.log(found.high / found.estimate) * wider)
    return Interval(
        found.estimate,
        found.estimate * math.exp(-low),
        found.estimate * math.exp(high),
        len(call_s),
    )


@cache
def _ranks(n: int) -> tuple[int, float, float]:
    """Return the largest rank k from both ends whose order statistics cover the median with 95 %.

    With it the coverage of the ranks k and k + 1: 1 − 2 · P(B < k), B binomial in n fair coins.
    """
    from scipy.special import bdtr

    rank = 1
    while 1 - 2 * bdtr(rank, n, 0.5) >= CONFIDENCE:
        rank += 1
    return rank, float(1 - 2 * bdtr(rank - 1, n, 0.5)), float(1 - 2 * bdtr(rank, n, 0.5))
