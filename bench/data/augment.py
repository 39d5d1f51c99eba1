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

from bench.spec.recipe import Recipe

# Each purpose has a stream of its own: switching one on leaves the others' draws as they were.
STREAMS = ("order", "crop", "flip", "cutout", "erasing", "mixup")
ERASED_AREA = (0.02, 0.4)  # s_l and s_h of Zhong et al., section 4.2
ERASED_ASPECT = (0.3, 1 / 0.3)  # r_1 and r_2 there


@dataclass(frozen=True)
class EpochPlan:
    """What happens to the i-th image of an epoch; tensors on the CPU, ``None`` for what is off.

    ``order`` (N,) int64: which image it is. ``crop`` (N, 2) int64: the window's top and left in
    the padded image. ``flip`` (N,) bool: whether it is mirrored. ``cutout`` (N, 2) float32: the
    row and column of the square's centre. ``erasing`` (N, 4) float32: top, bottom, left and right
    of the erased box, all 0 for none. Both are fractions of the image's side, in [0, 1].
    ``mix_partner`` (N,) int64: which image of the same batch is mixed in, as a position of this
    epoch; ``mix_kept`` (N,) float32: Mixup's lambda, the same for a whole batch.
    """

    order: Tensor
    crop: Tensor | None = None
    flip: Tensor | None = None
    cutout: Tensor | None = None
    erasing: Tensor | None = None
    mix_partner: Tensor | None = None
    mix_kept: Tensor | None = None

    def __len__(self) -> int:
        return len(self.order)


def plan_epoch(num_images: int, recipe: Recipe, seed: int, epoch: int) -> EpochPlan:
    """Draw the order and the augmentation of one epoch over ``num_images`` images."""
    order = _stream("order", seed, epoch).permutation(num_images)
    partner, kept = _plan_mixup(num_images, recipe, _stream("mixup", seed, epoch))
    return EpochPlan(
        order=torch.from_numpy(order.astype(np.int64)),
        crop=_plan_crop(num_images, recipe.crop_padding, _stream("crop", seed, epoch)),
        flip=_plan_flip(num_images, recipe.flip, _stream("flip", seed, epoch)),
        cutout=_plan_cutout(num_images, recipe.cutout_size, _stream("cutout", seed, epoch)),
        erasing=_plan_erasing(
            num_images, recipe.random_erasing_prob, _stream("erasing", seed, epoch)
        ),
        mix_partner=partner,
        mix_kept=kept,
    )


def _stream(purpose: str, seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, epoch, STREAMS.index(purpose)]))


def _plan_crop(num: int, padding: int, random: np.random.Generator) -> Tensor | None:
    """Draw every place of the window with equal chance, as torchvision's RandomCrop does."""
    if padding == 0:
        return None
    return torch.from_numpy(random.integers(0, 2 * padding + 1, size=(num, 2), dtype=np.int64))


def _plan_flip(num: int, flip: bool, random: np.random.Generator) -> Tensor | None:
    if not flip:
        return None
    heads: npt.NDArray[np.bool_] = random.integers(0, 2, size=num, dtype=np.int8) == 1
    return torch.from_numpy(heads)


def _plan_cutout(num: int, size: int, random: np.random.Generator) -> Tensor | None:
    """Draw the centre of Cutout's square (DeVries and Taylor, arXiv 1708.04552, section 3.2).

    It may lie on any pixel, so that part of the square may fall outside of the image.
    """
    if size == 0:
        return None
    return torch.from_numpy(random.random((num, 2), dtype=np.float32))


def _plan_erasing(num: int, probability: float, random: np.random.Generator) -> Tensor | None:
    """Draw boxes after algorithm 1 of Random Erasing (Zhong et al., arXiv 1708.04896).

    An image is spared with 1 - ``probability``; otherwise its box's area, aspect and corner are
    drawn together, again and again until the box lies inside of the image.
    """
    if probability == 0:
        return None
    boxes = np.zeros((num, 4), np.float32)
    missing = np.flatnonzero(random.random(num) < probability)
    while len(missing):
        drawn = _draw_boxes(len(missing), random)
        inside = (drawn[:, 1] <= 1) & (drawn[:, 3] <= 1)
        boxes[missing[inside]] = drawn[inside]
        missing = missing[~inside]
    return torch.from_numpy(boxes)


def _draw_boxes(num: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    area = random.uniform(*ERASED_AREA, size=num)
    aspect = random.uniform(*ERASED_ASPECT, size=num)
    height, width = np.sqrt(area * aspect), np.sqrt(area / aspect)
    top, left = random.random(num), random.random(num)
    return np.stack([top, top + height, left, left + width], axis=1)


def _plan_mixup(
    num: int, recipe: Recipe, random: np.random.Generator
) -> tuple[Tensor | None, Tensor | None]:
    """Draw Mixup's pairs and lambdas (Zhang et al., arXiv 1710.09412).

    As in the authors' code, a batch is mixed with a permutation of itself and one lambda of
    Beta(alpha, alpha).
    """
    if recipe.mixup_alpha == 0:
        return None, None
    starts = np.arange(num) // recipe.batch_size * recipe.batch_size
    shuffled = np.lexsort((random.random(num), starts))  # shuffles inside each batch
    kept = random.beta(recipe.mixup_alpha, recipe.mixup_alpha, size=num // recipe.batch_size + 1)
    kept = kept[np.arange(num) // recipe.batch_size].astype(np.float32)
    return torch.from_numpy(shuffled.astype(np.int64)), torch.from_numpy(kept)
