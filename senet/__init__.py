"""SE-ResNet and ResNet: building them, and reading weights from wherever they were trained."""

from senet.errors import ModelError
from senet.layers import STEMS, SqueezeExcitation
from senet.weights import load_weights, read_architecture, read_weights, save_weights
from senet.zoo import MODELS, Architecture, build, describe, is_se, resolve

__all__ = [
    "MODELS",
    "STEMS",
    "Architecture",
    "ModelError",
    "SqueezeExcitation",
    "build",
    "describe",
    "is_se",
    "load_weights",
    "read_architecture",
    "read_weights",
    "resolve",
    "save_weights",
]
