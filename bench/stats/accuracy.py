"""Statistics of accuracy: intervals, paired tests on the same images, contrasts over seeds.

Counts, fractions and arrays in, numbers out; no torch, no files. Intervals are at 95 % unless
said. N is the number of test images, S of seeds. Random draws start from a fixed seed, so that
the same predictions always give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bench.errors import UserError
from bench.stats.decide import equivalence, holm, two_sided
from bench.stats.luck import Hits, Luck, SeedSpread, pooled, spread_of, spread_of_shares
from bench.stats.sequential import at_look, half_width
from bench.stats.times import CONFIDENCE, Interval

NUM_DRAWS = 4_000


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


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (McNemar 1947; the sign test).

    The arguments count the images that only the first, and only the second model gets right.
    """
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    tail = float(special.bdtr(min(only_first, only_second), discordant, 0.5))
    return min(1.0, 2 * tail)


@dataclass(frozen=True)
class Difference:
    """A difference of accuracies (fractions) with its interval and two-sided p-value.

    Where the luck of training is not known (``luck`` None) it is one of the trained networks, not
    of the models: ``p`` is then None. ``exploratory`` is set when an arm has one seed only.
    ``error`` and ``freedom`` are the standard error and its degrees of freedom; ``image_error`` is
    the part of it that more seeds do not take away. ``method`` says how it was found.
    """

    interval: Interval
    p: float | None
    method: str
    exploratory: bool
    luck: Luck | None
    error: float
    freedom: float
    image_error: float = 0.0
    look: int = 0

    def at_look(self, look: int) -> Difference:
        """Return it as it counts at a look of several (`bench.stats.sequential`); 0 is the only."""
        if look == 0 or self.luck is None or self.p is None:
            return self
        half = half_width(self.error, self.freedom, look)
        middle = self.interval.estimate
        return replace(
            self,
            interval=replace(self.interval, low=middle - half, high=middle + half),
            p=at_look(self.p, look),
            method=f"{self.method}, at look {look}",
            look=look,
        )

    def p_same(self, margin: float | None) -> float | None:
        """Return the p-value of equivalence within a margin; None without margin or luck."""
        if margin is None or self.luck is None:
            return None
        p = equivalence(self.interval.estimate, self.error, self.freedom, margin)
        return at_look(p, self.look) if self.look else p


def corrected(
    family: Sequence[Difference | None], margin: float | None
) -> list[tuple[float | None, float | None]]:
    """Return the p-values of difference and of equivalence of a family, each after Holm.

    None for what has none: no difference, one of networks alone, or no margin.
    """
    told = [found for found in family if found is not None and found.p is not None]
    adjusted = iter(holm([found.p or 0.0 for found in told]))
    same = iter(holm([found.p_same(margin) or 0.0 for found in told]) if margin else ())
    return [
        (next(adjusted), next(same, None)) if found is not None and found.p is not None
        else (None, None)
        for found in family
    ]  # fmt: skip


def paired(first: Hits, second: Hits) -> Difference:
    """Return how much better the network of ``second`` (N,) is than that of ``first`` (N,).

    The interval is the paired bootstrap's over images. Resampling images only moves the two counts
    of discordant images, so those are drawn in their place. Nothing of it tells what another
    training of the same two models would give.
    """
    num_images = len(first)
    only_first = int(np.count_nonzero(first & ~second))
    only_second = int(np.count_nonzero(second & ~first))
    rest = num_images - only_first - only_second
    shares = np.array([only_first, only_second, rest]) / num_images
    draws = np.random.default_rng(0).multinomial(num_images, shares, NUM_DRAWS)
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile((draws[:, 1] - draws[:, 0]) / num_images, tails)
    estimate = (only_second - only_first) / num_images
    error = math.sqrt(max(0.0, (only_first + only_second) / num_images - estimate**2) / num_images)
    interval = Interval(estimate, float(low), float(high), num_images)
    return Difference(
        interval, None, "these networks, bootstrap over images", True, None, error, num_images - 1
    )


def difference(first: Hits, second: Hits, luck: Luck | None = None) -> Difference:
    """Return how much better ``second`` (S₂, N) is than ``first`` (S₁, N) on the same images."""
    if len(first) == len(second) == 1 and luck is None:
        return paired(first[0], second[0])
    return contrast([first, second], [-1.0, 1.0], luck)


def contrast(
    arms: Sequence[Hits], weights: Sequence[float], luck: Luck | None = None
) -> Difference:
    """Return Σ weight · accuracy over ``arms``, each (Sₖ, N) on the same N images.

    The variance has two parts: that of the seeds, and that of the images beyond the noise that the
    seeds' spread holds already (counting it twice widens the interval: Owen 2007). Where every arm
    has several seeds their own spreads are taken; otherwise ``luck``, for all arms alike, since
    one seed has no spread and no arm counts as having none. Student's t with Satterthwaite's
    degrees of freedom (1946).
    """
    num_images = arms[0].shape[1]
    of_images = sum(w * arm.mean(axis=0) for arm, w in zip(arms, weights, strict=True))
    estimate = float(np.mean(of_images))
    raw = float(np.var(of_images, ddof=1)) / num_images if num_images > 1 else math.inf
    exploratory = any(len(arm) < 2 for arm in arms)
    if not exploratory:
        spreads = [spread_of(arm) for arm in arms]
        seeds = _own_seeds(spreads, weights)
        luck = pooled(spreads)
    elif luck is not None:
        seeds = _luck_of_seeds(luck, [len(arm) for arm in arms], weights)
    else:
        seeds = _Seeds(0.0, 0.0, 0.0, "these networks, images alone")
    image_variance = max(0.0, raw - seeds.noise)
    variance = image_variance + seeds.variance
    parts = raw**2 / max(1, num_images - 1) + seeds.squares
    freedom = max(1.0, variance**2 / parts) if parts else float(num_images - 1)
    known = luck is not None
    return _of_t(
        estimate, variance, freedom, num_images, seeds.method, exploratory, luck if known else None,
        math.sqrt(image_variance),
    )  # fmt: skip


@dataclass(frozen=True)
class _Seeds:
    """The seeds' part of a contrast's variance: how much of it is the noise of single images.

    ``squares`` is Σ variance² / degrees of freedom over its independent terms.
    """

    variance: float
    noise: float
    squares: float
    method: str


def _own_seeds(spreads: Sequence[SeedSpread], weights: Sequence[float]) -> _Seeds:
    parts = [w**2 / s.num_seeds for s, w in zip(spreads, weights, strict=True)]
    variances = [part * s.variance for part, s in zip(parts, spreads, strict=True)]
    noise = sum(part * (s.noise or 0.0) for part, s in zip(parts, spreads, strict=True))
    squares = sum(v**2 / (s.num_seeds - 1) for v, s in zip(variances, spreads, strict=True))
    return _Seeds(sum(variances), noise, squares, "t over seeds and images")


def _luck_of_seeds(luck: Luck, counts: Sequence[int], weights: Sequence[float]) -> _Seeds:
    scale = sum(w**2 / count for count, w in zip(counts, weights, strict=True))
    variance = scale * luck.sd**2
    squares = 0.0 if math.isinf(luck.freedom) else variance**2 / luck.freedom
    return _Seeds(variance, scale * luck.noise, squares, method_of(luck))


def method_of(luck: Luck) -> str:
    """Return in words where the luck of training was taken from."""
    if luck.stated:
        return f"t, stated seed sd {100 * luck.sd:.2g} points"
    other = ", not all trained alike" if luck.elsewhere else ""
    return f"t, pooled seed sd {100 * luck.sd:.2g} points (df {luck.freedom:.0f}{other})"


def _of_t(
    estimate: float, variance: float, freedom: float, count: int, method: str, exploratory: bool,
    luck: Luck | None, image_error: float,
) -> Difference:  # fmt: skip
    error = math.sqrt(variance)
    half = float(special.stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * error
    interval = Interval(estimate, estimate - half, estimate + half, count)
    p = None if luck is None else two_sided(estimate, error, freedom)
    return Difference(interval, p, method, exploratory, luck, error, freedom, image_error)


def unpaired(
    first: Sequence[tuple[int, int]],
    second: Sequence[tuple[int, int]],
    luck: Luck | None = None,
) -> Difference | None:
    """Return how much better ``second`` is than ``first``, from counts alone.

    Each holds (correct, total) of one seed or more. Their own spreads when both have several, else
    ``luck``, each beside the images' binomial variance, which is wider than a paired one; without
    luck Newcombe's interval from Wilson's for these networks (Newcombe 1998, method 10). None
    without counts.
    """
    if not first or not second:
        return None
    shares = [[k / n for k, n in arm] for arm in (first, second)]
    estimate = float(np.mean(shares[1]) - np.mean(shares[0]))
    exploratory = min(len(first), len(second)) < 2
    if not exploratory:
        spreads = [spread_of_shares(share) for share in shares]
        seeds, luck = _own_seeds(spreads, [1.0, 1.0]), pooled(spreads)
    elif luck is not None:
        seeds = _luck_of_seeds(luck, [len(first), len(second)], [1.0, 1.0])
    else:
        return _newcombe(first[0], second[0])
    images = sum(
        float(np.mean(s) * (1 - np.mean(s))) / arm[0][1]
        for s, arm in zip(shares, (first, second), strict=True)
    )
    variance = seeds.variance + images
    freedom = variance**2 / seeds.squares if seeds.squares else math.inf
    return _of_t(
        estimate, variance, freedom, first[0][1], f"unpaired, {seeds.method}", exploratory, luck,
        math.sqrt(images),
    )  # fmt: skip


def _newcombe(first: tuple[int, int], second: tuple[int, int]) -> Difference:
    one, two = wilson(*first), wilson(*second)
    estimate = two.estimate - one.estimate
    low = estimate - math.hypot(two.estimate - two.low, one.high - one.estimate)
    high = estimate + math.hypot(two.high - two.estimate, one.estimate - one.low)
    interval = Interval(estimate, low, high, first[1])
    error = (high - low) / (2 * 1.96)
    method = "these networks, unpaired, Newcombe's interval"
    return Difference(interval, None, method, True, None, error, first[1] - 1)


def share_of(part: Difference, rest: Difference, whole: Difference, freedom: float) -> Interval:
    """Return what share of a whole a part is, the rest being what is left of it.

    Fieller's interval (1954): the covariance of part and whole follows from the variance of the
    rest. ``freedom`` are the degrees of freedom of part − share · whole, whose t it is: images that
    part and whole have in common cancel in it, and what is left may be known far less well than
    either. Its ends are open where the whole could be nothing.
    """
    of_part, of_whole = part.error**2, whole.error**2
    shared = (of_part + of_whole - rest.error**2) / 2
    total, share = whole.interval.estimate, part.interval.estimate / whole.interval.estimate
    t = float(special.stdtrit(freedom, 0.5 + CONFIDENCE / 2))
    g = t * t * of_whole / total**2
    if g >= 1:
        return Interval(share, -math.inf, math.inf, whole.interval.num_samples)
    alike = shared / of_whole if of_whole else 0.0
    spread = of_part - 2 * share * shared + share**2 * of_whole - g * (of_part - alike * shared)
    half = t / abs(total) * math.sqrt(max(0.0, spread)) / (1 - g)
    middle = (share - g * alike) / (1 - g)
    return Interval(share, middle - half, middle + half, whole.interval.num_samples)


def has_learnt(correct: int, total: int, num_classes: int, loss: float | None = None) -> bool:
    """Tell whether a model does better than guessing one of ``num_classes``.

    Not when Wilson's interval of its accuracy reaches down to chance, nor when its mean loss is
    above that of a uniform guess, log K, while its odds of being right are below twice those of a
    guess. A loss above log K alone is no failure to learn: it is the mean of what is unbounded, and
    a few images that are wrong with great confidence, or weights in a coarse precision, take it
    there beside an accuracy of 95 %; what is claimed of models here are accuracies.
    """
    chance = 1 / num_classes
    found = wilson(correct, total)
    if found.low <= chance:
        return False
    hopeless = loss is not None and loss > math.log(num_classes)
    share = found.estimate
    return not (hopeless and share * (1 - chance) < 2 * chance * (1 - share))


NUM_BINS = 15  # of the calibration error, as in Guo et al. 2017, section 4.1


def calibration_error(confidence: NDArray[np.float32], correct: NDArray[np.bool_]) -> float:
    """Return the expected calibration error over 15 equal bins (Guo et al. 2017, equation 3)."""
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = np.bincount(bins, weights=correct.astype(float) - confidence, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(confidence))
