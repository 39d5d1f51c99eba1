"""Statistics of accuracy: intervals for one model, and how many runs a difference needs.

Counts and fractions in, numbers out; no torch, no files. Intervals are at 95 % unless said.
"""

from __future__ import annotations

import math

from scipy import special

from bench.errors import UserError
from bench.stats import CONFIDENCE, Interval


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
