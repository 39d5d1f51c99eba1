"""What a model's identity says: versions, SE blocks, depth, order."""

from __future__ import annotations

import re
from collections.abc import Hashable

from bench.record.environment import Environment
from bench.spec.run import ModelSpec


def versions(env: Environment) -> dict[str, str | None]:
    """Return the versions of what computes the numbers."""
    return {name: env.packages.get(name) for name in ("torch", "torchvision")}


def has_se(model: ModelSpec) -> bool:
    """Return whether the model has SE blocks."""
    return model.reduction is not None or model.name.startswith("se_")


def depth(model: ModelSpec) -> int | None:
    """Return the number of layers that a model is named after."""
    digits = re.search(r"(\d+)$", model.name)
    return int(digits[1]) if digits and len(digits[1]) < 6 else None


def model_order(model: ModelSpec) -> tuple[Hashable, ...]:
    """Return the sort key of a model: shallow before deep, plain before SE, then by name."""
    rank = depth(model)
    return (
        rank is None,
        rank or 0,
        has_se(model),
        model.name,
        model.stem,
        model.num_classes,
        model.image_size,
        model.reduction or 0,
        bool(model.se_bias),
        model.se_divisor or 0,
    )
