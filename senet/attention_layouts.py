"""How the gates of SE's rivals are called in the weights of others, and which kind a file has.

timm puts any attention under ``se`` as this project does. Its ECA has our keys; its CBAM has 1×1
convolutions for FC layers, without bias, and a convolution with BatchNorm one level deeper.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

RENAMES = (
    (re.compile(r"\.se\.spatial\.conv\.conv\."), ".se.spatial.conv."),
    (re.compile(r"\.se\.spatial\.conv\.bn\."), ".se.spatial.bn."),
)
# 1×1 convolutions over one position, which are FC layers here.
FC_WEIGHT = re.compile(r"\.se\.channel\.fc[12]\.weight$")

# What only a kind has among its keys, the most telling first; SimAM and θ- have no weights at all.
_MARKS = (
    ("cbam", ".se.channel."),
    ("ge_theta_plus", ".se.mlp."),
    ("ge_theta", ".se.gather."),
    ("eca", ".se.conv."),
    ("se", ".se.fc1."),
)


def kind_of(keys: Collection[str]) -> str:
    """Return the kind of attention that canonical keys are of, as far as keys tell: or none."""
    return next((kind for kind, mark in _MARKS if any(mark in key for key in keys)), "none")


def kind_hint(model: Mapping[str, Tensor], file: Mapping[str, Tensor]) -> str | None:
    """Return how the file's attention differs from the model's, where it is not about SE alone."""
    ours, theirs = kind_of(model), kind_of(file)
    if ours == theirs == "cbam" and _has_bias(model) != _has_bias(file):
        has = "a" if _has_bias(file) else "no"
        return f"the file's CBAM has {has} bias: attention cbam with bias={_has_bias(file)}"
    if ours == theirs or {ours, theirs} == {"se", "none"}:
        return None
    return f"the file is of a model with attention {theirs}, the model has {ours}"


def _has_bias(state: Mapping[str, Tensor]) -> bool:
    return any(key.endswith(".se.channel.fc1.bias") for key in state)
