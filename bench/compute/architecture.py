"""What a built model is seen to be: the shapes of its state, the classes it tells apart."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from bench.errors import UserError


def architecture_digest(model: nn.Module) -> str:
    """Return the SHA-256 of the names and shapes of a model's state, 16 hex digits of it."""
    lines = (f"{name} {tuple(value.shape)}\n" for name, value in model.state_dict().items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def check_logits(model: nn.Module, name: str, image: Tensor, num_classes: int) -> None:
    """Raise UserError unless an image (1, C, H, W) gives logits (1, num_classes)."""
    with torch.no_grad():
        logits = model(image)
    if not isinstance(logits, Tensor):
        raise UserError(
            f"{name} returns {type(logits).__name__}, not logits: wrap it in a module that"
            " returns a tensor (B, classes)"
        )
    if logits.ndim != 2 or len(logits) != len(image):
        raise UserError(f"{name} returns {tuple(logits.shape)} for one image, not (1, classes)")
    if logits.shape[1] != num_classes:
        raise UserError(
            f"{name} tells {logits.shape[1]} classes apart, and {num_classes} are wanted"
        )
