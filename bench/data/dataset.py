"""What a data set is here: two splits held whole as uint8 tensors, and the facts about them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.record.run import DatasetFacts

LEVELS = 256
CHUNK = 4096


@dataclass(frozen=True)
class Split:
    """Images, uint8 (N, 3, H, W), contiguous, on the CPU; labels, int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A training and a test split, the classes that labels count, and what identifies them.

    ``digest`` is the SHA-256 of all pixels and labels. ``pixel_mean`` and ``pixel_std`` are those
    of the training pixels, per channel, in [0, 1]; the deviation is that of the pixels, not the
    mean of the images' own deviations that is often quoted in its place. ``notes`` are warnings:
    what was passed over, and what makes an accuracy on these images mean less.
    """

    name: str
    label: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    digest: str
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    notes: tuple[str, ...] = ()

    @property
    def image_size(self) -> int:
        return int(self.train.images.shape[-1])


def make_dataset(
    name: str, label: str, train: Split, test: Split, classes: tuple[str, ...]
) -> Dataset:
    """Return the data set with its digest and the statistics of its training pixels."""
    mean, std = pixel_statistics(train.images)
    return Dataset(name, label, train, test, classes, digest(train, test), mean, std)


def digest(*splits: Split) -> str:
    """Return the SHA-256 over shape, pixels and labels (little-endian int64) of the splits."""
    sha = hashlib.sha256()
    for split in splits:
        sha.update(repr(tuple(split.images.shape)).encode())
        sha.update(split.images.numpy().data)
        sha.update(split.labels.numpy().astype("<i8").data)
    return sha.hexdigest()


def pixel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of uint8 images (N, C, H, W), in [0, 1].

    Both come from exact counts of the 256 levels, so that every machine gets the same digits.
    """
    statistics = [_channel_statistics(images[:, channel]) for channel in range(images.shape[1])]
    means, stds = zip(*statistics, strict=True)
    return tuple(means), tuple(stds)


def _channel_statistics(channel: Tensor) -> tuple[float, float]:
    counts = np.zeros(LEVELS, dtype=np.int64)
    for start in range(0, len(channel), CHUNK):  # bincount widens what it counts to 8 bytes
        pixels = channel[start : start + CHUNK].numpy().ravel()
        counts += np.bincount(pixels, minlength=LEVELS)
    levels = [int(count) for count in counts]
    total = sum(levels)
    first = sum(level * count for level, count in enumerate(levels))
    second = sum(level * level * count for level, count in enumerate(levels))
    variance = (second * total - first * first) / (total * total)
    return first / (total * 255), math.sqrt(variance) / 255


def facts(dataset: Dataset) -> DatasetFacts:
    """Return what a record says of the data set."""
    return DatasetFacts(
        name=dataset.name,
        label=dataset.label,
        digest=dataset.digest,
        num_train=len(dataset.train),
        num_test=len(dataset.test),
        classes=dataset.classes,
        image_size=dataset.image_size,
        pixel_mean=dataset.pixel_mean,
        pixel_std=dataset.pixel_std,
    )


def first_balanced(split: Split, limit: int | None) -> Split:
    """Return the first ``limit`` images of an order that deals one image of each class in turn.

    The order depends on the labels alone: the k-th image of every class comes before the
    (k + 1)-th of any, classes in the order of their labels, so that a smaller limit is always the
    beginning of a larger one.
    """
    if limit is None or limit >= len(split):
        return split
    chosen = torch.from_numpy(_balanced_order(split.labels.numpy())[:limit])
    return Split(split.images[chosen], split.labels[chosen])


def _balanced_order(labels: np.ndarray) -> np.ndarray:
    """Return the indices (N,) of labels (N,) in the order that limits take images from."""
    by_class = np.argsort(labels, kind="stable")
    grouped = labels[by_class]
    starts = np.searchsorted(grouped, grouped, side="left")
    turn = np.empty_like(by_class)
    turn[by_class] = np.arange(len(labels)) - starts  # the how-manieth image of its class
    return np.lexsort((labels, turn))
