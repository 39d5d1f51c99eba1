"""Where models come from, by the prefix of their name: a new source is one function and one line.

Whatever a prefix stands for, what comes out is a module: images (B, C, H, W) -> logits (B, K).
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase

from bench.compute.sources.exported_files import onnx, pt2
from bench.compute.sources.source import PRETRAINED, Source, Wanted
from bench.compute.sources.timm_models import hf_hub, timm
from bench.compute.sources.torchvision_models import torchvision
from bench.compute.sources.user_code import py
from bench.errors import UserError, did_you_mean
from bench.spec.model_name import ModelName

__all__ = ["PRETRAINED", "SOURCES", "Source", "Wanted", "listed", "source"]

# What each function says of its source in its docstring is what users are told of it.
SOURCES: dict[str, Callable[[], Source]] = {
    "torchvision": torchvision,
    "timm": timm,
    "hf-hub": hf_hub,
    "py": py,
    "onnx": onnx,
    "pt2": pt2,
}


def source(prefix: str) -> Source:
    """Return the source of a prefix; UserError for an unknown one or a missing extra."""
    if prefix not in SOURCES:
        known = [f"{known}:" for known in SOURCES]
        hint = did_you_mean(f"{prefix}:", known, "; ours have none")
        raise UserError(f"unknown prefix {prefix + ':'!r}; choose from: {', '.join(known)}{hint}")
    return SOURCES[prefix]()


def listed(pattern: ModelName) -> list[str]:
    """Return the names of a source that match a pattern such as ``timm:se*``; UserError if none."""
    names = [f"{pattern.prefix}:{name}" for name in source(pattern.prefix).names()]
    if not names:
        raise UserError(f"what {pattern.prefix}: has cannot be listed")
    found = [name for name in names if fnmatchcase(name, pattern.full)]
    if not found:
        raise UserError(f"no model matches {pattern.full}; {pattern.prefix}: has {len(names)}")
    return found
