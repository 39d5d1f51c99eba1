"""The luck of training: how far one seed's accuracy lies from the mean of many.

An accuracy of one seed is a draw. What it is drawn from is known from models of the same study
that were trained with several seeds, or is what the user states; without either nothing can be
said of a model, only of the network that was trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hits = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Luck:
    """The standard deviation over seeds of a test accuracy (a fraction), and how well it is known.

    ``freedom`` are its degrees of freedom, infinite for a ``stated`` one. ``noise`` is the part of
    its square that is the noise of single images, which the sampling of images holds already.
    ``elsewhere`` is that of models that were not all trained as those it is used for.
    """

    sd: float
    freedom: float
    noise: float = 0.0
    stated: bool = False
    elsewhere: bool = False

    @property
    def beyond_images(self) -> float:
        """Return the standard deviation that would be left on endlessly many test images."""
        return math.sqrt(max(0.0, self.sd**2 - self.noise))


@dataclass(frozen=True)
class SeedSpread:
    """How an arm of several seeds spreads: the variance of one seed's accuracy, and its parts.

    ``noise`` is the part of ``variance`` that is the noise of single images; None where hits are
    not known image by image.
    """

    num_seeds: int
    variance: float
    noise: float | None


def spread_of(arm: Hits) -> SeedSpread:
    """Split the spread of an arm's seeds (S, N), S ≥ 2, into luck and noise of single images.

    A two-way analysis of variance without replication; the sums of squares of zeros and ones need
    no pass over the array beyond its two means.
    """
    num_seeds, num_images = arm.shape
    seed_means, image_means = arm.mean(axis=1), arm.mean(axis=0)
    mean = float(seed_means.mean())
    total = num_seeds * num_images * mean * (1 - mean)
    of_seeds = num_images * float(((seed_means - mean) ** 2).sum())
    of_images = num_seeds * float(((image_means - mean) ** 2).sum())
    rest = max(0.0, total - of_seeds - of_images) / ((num_seeds - 1) * max(1, num_images - 1))
    return SeedSpread(num_seeds, float(seed_means.var(ddof=1)), rest / num_images)


def spread_of_shares(shares: Sequence[float]) -> SeedSpread:
    """Return the spread of accuracies of several seeds whose single images are not known."""
    return SeedSpread(len(shares), float(np.var(shares, ddof=1)), None)


def pooled(spreads: Sequence[SeedSpread]) -> Luck | None:
    """Return the luck pooled over arms of several seeds; None without any.

    Noise is pooled over the arms that know it, and taken as 0, which is cautious, where none does.
    """
    freedom = sum(spread.num_seeds - 1 for spread in spreads)
    if not freedom:
        return None
    variance = sum((s.num_seeds - 1) * s.variance for s in spreads) / freedom
    known = [(s.num_seeds - 1, s.noise) for s in spreads if s.noise is not None]
    weight = sum(n for n, _ in known)
    noise = sum(n * value for n, value in known) / weight if weight else 0.0
    return Luck(math.sqrt(variance), float(freedom), noise)


def stated(sd: float) -> Luck:
    """Return the luck that a user states, as a fraction."""
    return Luck(sd, math.inf, stated=True)
