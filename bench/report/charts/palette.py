"""One colour a model, everywhere: told apart by people with any common colour blindness.

Okabe and Ito's palette (2008) and Paul Tol's muted scheme. Shape and fill repeat what the colour
says: a circle is the CIFAR stem and a square the ImageNet stem, filled with attention, hollow
without.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from bench.report.read.models import kind
from bench.spec.run import ModelSpec

COLOURS: dict[str, str] = {
    "resnet18": "#56B4E9",
    "se_resnet18": "#E69F00",
    "resnet34": "#999933",
    "se_resnet34": "#882255",
    "resnet50": "#0072B2",
    "se_resnet50": "#D55E00",
    "resnet101": "#009E73",
    "se_resnet101": "#CC79A7",
    "resnet152": "#5A4FCF",
    "se_resnet152": "#7F7F7F",
}
# Where charts set kinds of attention against each other, the network's name is on the label.
KIND_COLOURS: dict[str, str] = {
    "se": "#D55E00",
    "eca": "#0072B2",
    "cbam": "#009E73",
    "ge_theta_minus": "#E69F00",
    "ge_theta": "#CC79A7",
    "ge_theta_plus": "#882255",
    "simam": "#56B4E9",
}
OTHERS = ("#44AA99", "#AA4499", "#117733", "#AA6E28", "#332288", "#88CCEE", "#CC6677", "#555555")


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return the colour of each model name; known models always have the same.

    Other names start from a colour of their own, given by the name, and step aside for each other
    as long as there are colours left.
    """
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(set(names)):
        start = int(hashlib.sha256(name.encode()).hexdigest(), 16)
        order = [OTHERS[(start + step) % len(OTHERS)] for step in range(len(OTHERS))]
        free = [colour for colour in order if colour not in taken]
        chosen[name] = COLOURS.get(name) or (free or order)[0]
        taken.add(chosen[name])
    return chosen


def marker(model: ModelSpec) -> str:
    """Return matplotlib's marker for a model's stem."""
    return "o" if model.stem == "cifar" else "s"


def line_style(model: ModelSpec) -> str:
    """Return solid for models with attention, dashed for those without."""
    return "-" if kind(model) != "none" else "--"


def kind_colour(model: ModelSpec) -> str:
    """Return the colour of the model's kind of attention, whatever the network."""
    return KIND_COLOURS.get(kind(model), "#555555")
