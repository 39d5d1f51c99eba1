"""Residual networks with channel attention: building them, and reading weights from anywhere.

Names are imported when they are first asked for, because torch takes seconds, and those that ask
for names and facts alone (`facts`, `attention_of`, `Attention`, …) do not need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from senet.architecture import Architecture
    from senet.attention import Attention
    from senet.catalogue import NETWORKS, attention_of, facts, names, stems_of
    from senet.errors import ModelError
    from senet.layers import STEMS, SqueezeExcitation
    from senet.weight_files import read_architecture, read_weights, save_weights
    from senet.weights import load_weights
    from senet.zoo import MODELS, build, describe, is_se, resolve

_HOMES = {
    "architecture": ("Architecture",),
    "attention": ("Attention",),
    "catalogue": ("NETWORKS", "attention_of", "facts", "names", "stems_of"),
    "errors": ("ModelError",),
    "layers": ("STEMS", "SqueezeExcitation"),
    "weight_files": ("read_architecture", "read_weights", "save_weights"),
    "weights": ("load_weights",),
    "zoo": ("MODELS", "build", "describe", "is_se", "resolve"),
}

__all__ = [
    "MODELS",
    "NETWORKS",
    "STEMS",
    "Architecture",
    "Attention",
    "ModelError",
    "SqueezeExcitation",
    "attention_of",
    "build",
    "describe",
    "facts",
    "is_se",
    "load_weights",
    "names",
    "read_architecture",
    "read_weights",
    "resolve",
    "save_weights",
    "stems_of",
]


def __getattr__(name: str) -> Any:
    for module, names_in_it in _HOMES.items():
        if name in names_in_it:
            return getattr(import_module(f"senet.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
