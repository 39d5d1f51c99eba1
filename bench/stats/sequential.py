"""Adding seeds until a question is answered, without looking until chance answers it.

Testing after every seed that was added finds a difference between equal models sooner or later.
Here every look spends a part of the level, and all parts of endlessly many looks add up to it
(alpha spending, Lan and DeMets 1983; with the union bound, which holds however the looks depend on
each other, in place of their joint distribution). The intervals of all looks together then hold the
truth in 95 % of series, whatever made one stop (repeated intervals, Jennison and Turnbull 1989).
"""

from __future__ import annotations

import math
from typing import Literal

from scipy import special

from bench.stats.decide import LEVEL

FIRST = 3  # seeds a model: fewer hardly say how far seeds are apart
Step = Literal["decided", "narrow", "hidden", "go on"]


def at_look(p: float, look: int) -> float:
    """Return a p-value as it counts at a look, the first being 1.

    The parts of the level are 6 / (π² k²), which add up to one. What this returns is corrected
    over a family like any p-value, and below 5 % in at most 5 % of all series of looks in which
    there is nothing to find.
    """
    if look < 1:
        raise ValueError(f"looks are counted from 1, not {look}")
    return min(1.0, p * (math.pi * look) ** 2 / 6)


def half_width(error: float, freedom: float, look: int, family: int = 1) -> float:
    """Return half the width of the interval of one of ``family`` differences at a look.

    All intervals of all differences at all looks together hold the truth in 95 % of series.
    """
    level = LEVEL / at_look(1e-9, look) * 1e-9 / family
    return error and -float(special.stdtrit(freedom, level / 2)) * error


def next_look(seeds: int, most: int) -> int:
    """Return with how many seeds a model the look behind one with ``seeds`` is made.

    Half as many more each time: few looks spend little, and most seeds of the last one are new.
    """
    return min(most, math.ceil(1.5 * seeds))


def step(
    estimate: float,
    error: float,
    freedom: float,
    image_error: float,
    *,
    wanted: float,
    look: int,
    family: int = 1,
) -> Step:
    """Return what a look at a difference tells; everything but looks is in one unit.

    ``decided`` is its sign, ``narrow`` an interval of ± ``wanted`` at most. ``hidden`` is what no
    number of seeds would tell by the next look: ``image_error``, the part of ``error`` that the
    test images leave, is too large for either.
    """
    half = half_width(error, freedom, look, family)
    if abs(estimate) > half:
        return "decided"
    if half <= wanted:
        return "narrow"
    least = half_width(image_error, math.inf, look + 1, family)
    return "hidden" if least > max(wanted, abs(estimate)) else "go on"
