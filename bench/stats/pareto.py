"""The Pareto front of points."""

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
