"""The images from which a quantiser learns the ranges of activations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.data import Dataset, Normalization, place, test_batches
from bench.data.dataset import Split
from bench.errors import UserError
from bench.record.deployment import CalibrationFacts


@dataclass(frozen=True)
class Calibration:
    """Normalised images (N, 3, H, W), float32 on the CPU, and the facts that identify them."""

    images: Tensor
    facts: CalibrationFacts

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield all images in batches of ``size``; the last one may be smaller."""
        yield from self.images.split(size)


def check(dataset: Dataset, num_images: int) -> None:
    """Raise UserError where the training split has fewer images than are asked for."""
    if num_images > len(dataset.train):
        raise UserError(
            f"calibration wants {num_images} training images; {dataset.label} has"
            f" {len(dataset.train)}"
        )


def from_training(
    dataset: Dataset, normalization: Normalization, num_images: int, seed: int
) -> Calibration:
    """Draw images from the training split, unaugmented; UserError where there are too few."""
    check(dataset, num_images)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(dataset.train), generator=generator)[:num_images]
    drawn = dataset.train.images[chosen]
    split = Split(drawn, dataset.train.labels[chosen])
    batches = test_batches(place(split, "cpu"), num_images, normalization)
    images = torch.cat([batch for batch, _ in batches]).contiguous()
    facts = CalibrationFacts(
        source="training split",
        num_images=num_images,
        seed=seed,
        digest=hashlib.sha256(drawn.numpy().tobytes()).hexdigest(),
    )
    return Calibration(images, facts)


def from_noise(image_size: int, num_images: int, seed: int) -> Calibration:
    """Return normal noise, which stands for normalised images where only the cost is asked for."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(num_images, 3, image_size, image_size, generator=generator)
    digest = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    facts = CalibrationFacts(source="noise", num_images=num_images, seed=seed, digest=digest)
    return Calibration(images, facts)
