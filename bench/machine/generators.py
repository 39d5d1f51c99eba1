"""All that a network may draw from while it is trained: torch's, Python's and NumPy's generators.

Dropout and stochastic depth draw from torch's; a user's own modules may draw from the others.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from bench.machine.devices import kind


def seed(number: int) -> None:
    """Begin every generator from a number."""
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number % (1 << 32))


def states(device: str) -> dict[str, Tensor]:
    """Return the states of the generators that a model on ``device`` may draw from, as tensors."""
    found = {"cpu": torch.get_rng_state(), "python": _python(), "numpy": _numpy()}
    match kind(device):
        case "cuda":
            found["cuda"] = torch.cuda.get_rng_state(device)
        case "mps":
            found["mps"] = torch.mps.get_rng_state()
    return found


def restore(saved: dict[str, Tensor], device: str) -> None:
    """Put the generators into the states that `states` gave; earlier ones had torch's alone."""
    torch.set_rng_state(saved["cpu"])
    match kind(device):
        case "cuda":
            torch.cuda.set_rng_state(saved["cuda"], device)
        case "mps":
            torch.mps.set_rng_state(saved["mps"])
    if "python" in saved:
        *internal, gauss = saved["python"].tolist()
        random.setstate((3, tuple(map(int, internal)), None if gauss != gauss else gauss))
    if "numpy" in saved:
        *keys, position, has_gauss, gauss = saved["numpy"].tolist()
        key = np.array(keys, dtype=np.uint32)
        np.random.set_state(("MT19937", key, int(position), int(has_gauss), gauss))


def _python() -> Tensor:
    """Return Python's state: whole numbers below 2³², which float64 has exactly, and a fraction."""
    _, internal, gauss = random.getstate()
    none = float("nan")
    return torch.tensor([*internal, none if gauss is None else gauss], dtype=torch.float64)


def _numpy() -> Tensor:
    state = np.random.get_state(legacy=False)
    keys, position = state["state"]["key"].tolist(), state["state"]["pos"]
    return torch.tensor([*keys, position, state["has_gauss"], state["gauss"]], dtype=torch.float64)
