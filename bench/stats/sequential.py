"""Adding seeds until a question is answered, without looking until chance answers it.

Testing after every seed that was added finds a difference between equal models sooner or later.
Here every look spends a part of the level, and all parts of endlessly many looks add up to it
(alpha spending, Lan and DeMets 1983; with the union bound, which holds however the looks depend on
each other, in place of their joint distribution).
"""

from __future__ import annotations

import math
from typing import Literal

from bench.stats.decide import LEVEL

Step = Literal["answered", "go on", "give up"]


def at_look(p: float, look: int) -> float:
    """Return a p-value as it counts at a look, the first being 1.

    The parts of the level are 6 / (π² k²), which add up to one. What this returns is corrected
    over a family like any p-value, and below 5 % in at most 5 % of all series of looks in which
    there is nothing to find.
    """
    if look < 1:
        raise ValueError(f"looks are counted from 1, not {look}")
    return min(1.0, p * (math.pi * look) ** 2 / 6)


def seeds_at_look(look: int, first: int = 3) -> int:
    """Return with how many seeds a model the k-th look is made: half as many more each time.

    Few looks spend little, and most of the seeds of the last one are new.
    """
    seeds = first
    for _ in range(look - 1):
        seeds = math.ceil(1.5 * seeds)
    return seeds


def step(p: float, p_same: float | None, look: int, most_seeds: int, first: int = 3) -> Step:
    """Return what to do after a look: p-values are corrected over the family, not over the looks.

    Answered is a question whose models differ, or are the same within a margin. ``most_seeds`` is
    how many a model may have: given up is what the next look would need more for.
    """
    if min(at_look(p, look), 1.0 if p_same is None else at_look(p_same, look)) < LEVEL:
        return "answered"
    return "go on" if seeds_at_look(look + 1, first) <= most_seeds else "give up"
