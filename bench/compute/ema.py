"""The moving average of a model's weights, which often classifies better than the last ones."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Average:
    """A model that follows another; ``gain`` (), on the device, is how far it goes in a step."""

    model: nn.Module
    gain: Tensor


def start(model: nn.Module, device: str) -> Average:
    """Return an average that begins with the model's weights."""
    followed = copy.deepcopy(model).requires_grad_(False).eval()
    return Average(followed, torch.zeros((), device=device))


def set_gain(average: Average, decay: float, num_steps: int) -> None:
    """Set the gain of the step after ``num_steps`` steps: 1 - min(decay, (1 + n) / (10 + n)).

    Early on the average follows closely, so that it does not remember the random beginning
    (TensorFlow's ExponentialMovingAverage with num_updates does the same).
    """
    average.gain.fill_(1 - min(decay, (1 + num_steps) / (10 + num_steps)))


@torch.no_grad()
def follow(average: Average, model: nn.Module) -> None:
    """Move the average towards the model: a += gain * (w - a); counters are copied."""
    ours, theirs = _numbers(average.model), _numbers(model)
    difference = torch._foreach_sub(theirs, ours)
    torch._foreach_mul_(difference, average.gain)
    torch._foreach_add_(ours, difference)
    for ours_counted, counted in zip(_counters(average.model), _counters(model), strict=True):
        ours_counted.copy_(counted)


def _numbers(model: nn.Module) -> list[Tensor]:
    tensors = (*model.parameters(), *model.buffers())
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]


def _counters(model: nn.Module) -> list[Tensor]:
    return [buffer for buffer in model.buffers() if not buffer.is_floating_point()]
