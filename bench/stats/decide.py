"""What may be said: better, worse, the same, or not resolved; and how many seeds it would take.

Estimates with their standard errors in, decisions out. A difference is never called none because
a test failed to find it: *the same* is a finding of its own, by an equivalence test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from scipy import special

LEVEL = 0.05
POWER = 0.8
MOST_SEEDS = 10_000
Finding = Literal["more", "less", "same", "not resolved"]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979): the family errs in at most 5 %."""
    count, running = len(p_values), 0.0
    adjusted = [0.0] * count
    for rank, i in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (count - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def two_sided(estimate: float, error: float, freedom: float) -> float:
    """Return the p-value of Student's t for no difference; 1 without any spread."""
    if not error:
        return 1.0
    return 2 * float(special.stdtr(freedom, -abs(estimate) / error))


def equivalence(estimate: float, error: float, freedom: float, margin: float) -> float:
    """Return the p-value of a difference as large as ``margin`` or larger, either way.

    Two one-sided tests (Schuirmann 1987); the larger of both p-values. A small one says that the
    difference lies within the margin.
    """
    if margin <= 0 or math.isinf(error) or math.isnan(error):
        return 1.0
    inside = margin - abs(estimate)
    if not error:
        return 0.0 if inside > 0 else 1.0
    return float(special.stdtr(freedom, -inside / error))


def finding(estimate: float, p: float | None, p_same: float | None) -> Finding:
    """Return what two corrected p-values allow: that of a difference, and that of equivalence.

    None is a test that was not made. A difference that is one stays one, however small.
    """
    if p is not None and p < LEVEL:
        return "more" if estimate > 0 else "less"
    return "same" if p_same is not None and p_same < LEVEL else "not resolved"


def power(num_seeds: int, effect: float, image_error: float = 0.0, level: float = LEVEL) -> float:
    """Return how probably a difference is found with ``num_seeds`` trainings of either model.

    ``effect`` is the difference and ``image_error`` its standard error from the test images, both
    in standard deviations over seeds; no number of seeds makes the images' part smaller. Two-sided
    test by the noncentral t (Cohen 1988, section 2.5).
    """
    variance = 2 / num_seeds
    total = variance + image_error**2
    freedom = 2 * (num_seeds - 1) * (total / variance) ** 2
    critical = float(special.stdtrit(freedom, 1 - level / 2))
    centre = min(30.0, abs(effect) / math.sqrt(total))  # beyond, the function has no numbers
    above = 1 - float(special.nctdtr(freedom, centre, critical))
    return above + float(special.nctdtr(freedom, centre, -critical))


def seeds_needed(
    seed_sd: float, difference: float, family: int = 1, image_error: float = 0.0
) -> int | None:
    """Return how many seeds each of two models needs for a difference of this size to be found.

    ``seed_sd`` is the standard deviation over seeds and ``image_error`` the standard error from the
    test images, in the unit of ``difference``. Power 80 % at the level that the smallest p-value of
    a ``family`` of comparisons must pass (5 % over their number); never fewer than two. None for a
    difference of zero, and for one that the images hide whatever is trained.
    """
    if difference == 0:
        return None
    seed_sd = max(seed_sd, abs(difference) * 1e-6)  # no luck at all: the images alone decide
    effect, hidden = difference / seed_sd, image_error / seed_sd
    level = LEVEL / max(1, family)

    def enough(num_seeds: int) -> bool:
        return power(num_seeds, effect, hidden, level) >= POWER

    high = 2
    while not enough(high):
        high *= 2
        if high > MOST_SEEDS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return max(2, high)
