"""The on-device input pipeline: a whole set held as uint8, a few vectorised operations a batch.

B, C, H, W: batch, channels, height, width. Images are cropped and flipped as bytes, then become
(x / 255 - mean) / std, as ToTensor and Normalize make them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.augment import EpochPlan
from bench.data.dataset import Dataset, Split
from bench.errors import UserError
from bench.spec import Recipe

HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation per channel, of pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class DeviceSplit:
    """A split on a device: images uint8 (N, 3, H, W), labels int64 (N,)."""

    images: Tensor
    labels: Tensor
    device: str
    warning: str | None = None

    def __len__(self) -> int:
        return len(self.labels)


def place(split: Split, device: str) -> DeviceSplit:
    """Copy a split to the device that will train on it."""
    return DeviceSplit(split.images.to(device), split.labels.to(device), device)


def normalization(recipe: Recipe, dataset: Dataset) -> Normalization:
    """Return what the recipe subtracts and divides by."""
    if recipe.normalization == "half":
        return Normalization(HALF, HALF)
    return Normalization(dataset.pixel_mean, dataset.pixel_std)


def num_steps(num_images: int, recipe: Recipe) -> int:
    """Return the steps of one epoch; a batch larger than the set is refused (UserError)."""
    if recipe.batch_size > num_images:
        raise UserError(
            f"batch size {recipe.batch_size} is larger than the training set of {num_images} images"
        )
    return (
        num_images // recipe.batch_size if recipe.drop_last else -(-num_images // recipe.batch_size)
    )


def train_batches(
    split: DeviceSplit,
    plan: EpochPlan,
    recipe: Recipe,
    normalization: Normalization,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the augmented images, float32 (B, 3, H, W), and labels of each step from ``start_step``.

    With several processes each gets its share of every global batch of ``recipe.batch_size``.
    """
    images = _pad(split.images, recipe.crop_padding)
    scale, shift = _scale_and_shift(normalization, split.device)
    on_device = EpochPlan(*(None if t is None else t.to(split.device) for t in vars(plan).values()))
    for step in range(start_step, num_steps(len(plan), recipe)):
        span = share(step, len(plan), recipe.batch_size, rank, world_size)
        chosen = on_device.order[span]
        batch = _crop(images, chosen, on_device.crop, span, split.images.shape[-1])
        batch = _flip(batch, on_device.flip, span)
        yield _normalize(batch, scale, shift, memory_format), split.labels[chosen]


def test_batches(
    split: DeviceSplit,
    batch_size: int,
    normalization: Normalization,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image once, in order and unaugmented, float32 (B, 3, H, W), with its label."""
    scale, shift = _scale_and_shift(normalization, split.device)
    for start in range(0, len(split), batch_size):
        span = slice(start, min(start + batch_size, len(split)))
        yield _normalize(split.images[span], scale, shift, memory_format), split.labels[span]


def share(step: int, num_images: int, batch_size: int, rank: int, world_size: int) -> slice:
    """Return the positions of the epoch that one process takes in one step.

    The shares of a step are disjoint, cover its batch, and differ by one image at most.
    """
    start = step * batch_size
    size = min(batch_size, num_images - start)
    return slice(start + rank * size // world_size, start + (rank + 1) * size // world_size)


def _pad(images: Tensor, padding: int) -> Tensor:
    # Zeros before normalisation, as torchvision's RandomCrop pads the raw image.
    return F.pad(images, (padding,) * 4) if padding else images


def _crop(images: Tensor, chosen: Tensor, crop: Tensor | None, span: slice, size: int) -> Tensor:
    if crop is None:
        return images[chosen]
    windows = images.unfold(2, size, 1).unfold(3, size, 1)  # (N, 3, top, left, H, W), a view
    channel = torch.arange(images.shape[1], device=images.device)
    top, left = crop[span, 0, None], crop[span, 1, None]
    return windows[chosen[:, None], channel, top, left]


def _flip(batch: Tensor, flip: Tensor | None, span: slice) -> Tensor:
    if flip is None:
        return batch
    return torch.where(flip[span, None, None, None], batch.flip(3), batch)


def _scale_and_shift(normalization: Normalization, device: str) -> tuple[Tensor, Tensor]:
    scale = [1 / (255 * std) for std in normalization.std]
    shift = [-mean / std for mean, std in zip(normalization.mean, normalization.std, strict=True)]
    return (
        torch.tensor(scale, device=device).view(1, -1, 1, 1),
        torch.tensor(shift, device=device).view(1, -1, 1, 1),
    )


def _normalize(
    batch: Tensor, scale: Tensor, shift: Tensor, memory_format: torch.memory_format
) -> Tensor:
    return batch.to(torch.float32, memory_format=memory_format).mul_(scale).add_(shift)
