"""All the randomness of one epoch, drawn before it begins.

A plan follows from (seed, epoch) alone: not from the device, the number of processes, or how much
of the epoch has been done, so that training can stop and go on at any step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.spec import Recipe

# Each purpose has a stream of its own: switching one on leaves the others' draws as they were.
STREAMS = ("order", "crop", "flip")


@dataclass(frozen=True)
class EpochPlan:
    """What happens to the i-th image of an epoch, on the CPU.

    ``order`` (N,) int64 is which image it is; ``crop`` (N, 2) int64 is the window's top and left
    in the padded image; ``flip`` (N,) bool says whether it is mirrored. What a recipe leaves out
    is ``None``.
    """

    order: Tensor
    crop: Tensor | None = None
    flip: Tensor | None = None

    def __len__(self) -> int:
        return len(self.order)


def plan_epoch(num_images: int, recipe: Recipe, seed: int, epoch: int) -> EpochPlan:
    """Draw the order and the augmentation of one epoch over ``num_images`` images."""
    order = _stream("order", seed, epoch).permutation(num_images)
    return EpochPlan(
        order=torch.from_numpy(order.astype(np.int64)),
        crop=_plan_crop(num_images, recipe.crop_padding, _stream("crop", seed, epoch)),
        flip=_plan_flip(num_images, recipe.flip, _stream("flip", seed, epoch)),
    )


def _stream(purpose: str, seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, epoch, STREAMS.index(purpose)]))


def _plan_crop(num: int, padding: int, random: np.random.Generator) -> Tensor | None:
    if padding == 0:
        return None
    return torch.from_numpy(random.integers(0, 2 * padding + 1, size=(num, 2), dtype=np.int64))


def _plan_flip(num: int, flip: bool, random: np.random.Generator) -> Tensor | None:
    if not flip:
        return None
    heads: npt.NDArray[np.bool_] = random.integers(0, 2, size=num, dtype=np.int8) == 1
    return torch.from_numpy(heads)
