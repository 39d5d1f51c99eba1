"""The Pareto front of points, and where models of noisy accuracy probably lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def on_front(top1: Floats, burden: Floats) -> NDArray[np.bool_]:
    """Return for each of M models (…, M) whether no other dominates it."""
    one, other = top1[..., None, :], top1[..., :, None]
    cheap, dear = burden[..., None, :], burden[..., :, None]
    dominated = (other >= one) & (dear <= cheap) & ((other > one) | (dear < cheap))
    return np.asarray(~dominated.any(axis=-2))


WIDEST, STEPS = 30.0, 600
PRIOR_SCALE = 5.0  # of the spread between models, in standard errors: nearly flat


def partially_pooled(values: Floats, errors: Floats) -> Floats:
    """Return draws (D, M) of what M models are, from their ``values`` (M,) and draws of errors.

    The best of several noisy values is partly the luckiest, so that draws around the values alone
    would be too sure of it. Models are taken as drawn from a normal distribution, whose spread is
    drawn from its posterior under a half-Cauchy prior (Gelman 2006), and pulled towards their mean
    by the share of the spread that is noise. Where models are far apart that is hardly any.
    """
    count = len(values)
    if count < 2:
        return values + errors
    apart = errors - errors.mean(axis=1, keepdims=True)
    noise = float((apart**2).sum() / len(errors) / (count - 1))
    if noise <= 0:
        return values + errors
    spreads = np.linspace(WIDEST / STEPS, WIDEST, STEPS) * np.sqrt(noise)
    total = spreads**2 + noise
    squares = float(((values - values.mean()) ** 2).sum())
    log = -(count - 1) / 2 * np.log(total) - squares / (2 * total)
    log -= np.log1p(spreads**2 / (PRIOR_SCALE**2 * noise))
    shares = np.cumsum(np.exp(log - log.max()))
    draw = np.random.default_rng(3).random(len(errors))
    chosen = spreads[np.searchsorted(shares / shares[-1], draw).clip(0, STEPS - 1)]
    kept = (chosen**2 / (chosen**2 + noise))[:, None]
    pulled = values.mean() + kept * (values - values.mean())
    return np.asarray(pulled + np.sqrt(kept) * errors)
