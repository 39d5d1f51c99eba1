"""Inductor: what it needs, what its cache holds, and how to forget what was compiled."""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench.machine import devices


def from_cache() -> Callable[[], bool | None]:
    """Begin to watch; the returned function tells if all code compiled since came from a cache.

    Inductor keeps on disk what it made for earlier processes; None when nothing was compiled, or
    when this version of torch does not say.
    """
    before = _cache_counts()

    def end() -> bool | None:
        hits, misses = (after - b for after, b in zip(_cache_counts(), before, strict=True))
        return misses == 0 if hits + misses else None

    return end


def _cache_counts() -> tuple[int, int]:
    """Return how often Inductor found code in its cache, and how often not, in this process."""
    utils = sys.modules.get("torch._dynamo.utils")  # there once something was compiled
    counts = getattr(utils, "counters", {})
    hits, misses = (
        counts.get("inductor", {}).get(f"fxgraph_cache_{what}", 0)
        + counts.get("aot_autograd", {}).get(f"autograd_cache_{what}", 0)
        for what in ("hit", "miss")
    )
    return hits, misses


def prepare_compiler() -> None:
    """Let a sitting compile many models and shapes, each for its own shape.

    Dynamo counts compilations by the Python code of ``forward``, which all models here share; past
    its limit it would run eager without a word. A second shape would get code for any shape.
    """
    import torch._dynamo.config as config

    config.automatic_dynamic_shapes = False
    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    setattr(config, limit, 10_000)
    total = f"accumulated_{limit}"
    if hasattr(config, total):
        setattr(config, total, 10_000)
    if hasattr(config, "fail_on_recompile_limit_hit"):
        config.fail_on_recompile_limit_hit = True


def options(device: str) -> dict[str, bool]:
    """Return the options of Inductor that a device needs for right results.

    On mps it would choose channels_last for itself, in which BatchNorm's gradients are wrong there
    before the corrections of 2026.
    """
    return {"layout_optimization": False} if devices.kind(device) == "mps" else {}


def forget_compiled() -> None:
    """Free what was compiled so far; sessions made before must not be called again."""
    if dynamo := sys.modules.get("torch._dynamo"):
        dynamo.reset()
