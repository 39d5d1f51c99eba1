"""What a user might write: a classifier without BatchNorm that draws from three generators."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Convolution, dropout, and a residual branch that is left out now and then."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.branch = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(2, width)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K) of images (B, 3, H, W)."""
        x = self.norm(self.conv(images)).relu()
        if self.training:
            x = x * (1 + 0.01 * random.random() + 0.01 * float(np.random.rand()))
            keep = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.8
            x = x + keep * self.branch(x)
        else:
            x = x + 0.8 * self.branch(x)
        logits: Tensor = self.head(self.drop(x.mean((2, 3))))
        return logits


def make(num_classes: int = 10, width: int = 8) -> nn.Module:
    """Return the network."""
    return Small(num_classes, width)


def no_module(num_classes: int) -> object:
    """Return something else."""
    return [num_classes]


def raising() -> nn.Module:
    """Fail."""
    raise RuntimeError("no such weights\nand more")


def of_seven() -> nn.Module:
    """Return a network of another number of classes."""
    return Small(7, 8)


def returning_pairs(num_classes: int) -> nn.Module:
    """Return a network that returns no tensor."""

    class Pair(Small):
        def forward(self, images: Tensor) -> Tensor:
            return (super().forward(images), images)  # type: ignore[return-value]

    return Pair(num_classes, 8)


def asking(num_classes: int) -> nn.Module:
    """Return a network that cannot be traced without values."""

    class Asking(Small):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images * (2 if images.sum().item() > 0 else 1))

    return Asking(num_classes, 8)


not_callable = 3
