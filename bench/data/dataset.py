"""What a data set is here: two splits of uint8 images, and the facts about them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.data.stored import Stored
from bench.record.run import DatasetFacts, Storage

LEVELS = 256
CHUNK = 4096  # images: bincount widens what it counts to 8 bytes


@dataclass(frozen=True)
class Split:
    """Images, uint8 (N, 3, H, W), contiguous, on the CPU or not in memory; labels, int64 (N,)."""

    images: Tensor | Stored
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def taken(self, chosen: Tensor) -> Split:
        """Return the images at some positions (M,), those that are not in memory unread."""
        images = self.images
        some = images[chosen] if isinstance(images, Tensor) else images.taken(chosen)
        return Split(some, self.labels[chosen])

    def chunks(self, size: int = 256) -> Iterator[Tensor]:
        """Yield all images in order, a part at a time."""
        if isinstance(self.images, Tensor):
            yield from self.images.split(size)
        else:
            yield from self.images.batches(torch.arange(len(self)).split(size))


@dataclass(frozen=True)
class Dataset:
    """A training and a test split, the classes that labels count, and what identifies them.

    ``digest`` is the SHA-256 of all pixels and labels. ``pixel_mean`` and ``pixel_std`` are those
    of the training pixels (empty where there are none), in [0, 1]; the deviation is that of the
    pixels, not the mean of the images' own deviations that is often quoted in its place. ``notes``
    are warnings: what was passed over, and what makes an accuracy on these images mean less.
    ``num_skipped`` are the images that could not be read and were asked to be passed over.
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
    num_skipped: int = 0

    @property
    def storage(self) -> Storage:
        """Return where the images to test on are held, as are those to train on."""
        images = self.test.images
        return "memory" if isinstance(images, Tensor) else images.storage

    @property
    def image_size(self) -> int:
        return int(self.train.images.shape[-1])


def make_dataset(
    name: str, label: str, train: Split, test: Split, classes: tuple[str, ...]
) -> Dataset:
    """Return the data set with its digest and the statistics of its training pixels."""
    assert isinstance(train.images, Tensor), "of others the statistics are kept"
    mean, std = pixel_statistics(train.images)
    return Dataset(name, label, train, test, classes, digest(train, test), mean, std)


def digest(*splits: Split) -> str:
    """Return the SHA-256 over shape, pixels and labels (little-endian int64) of the splits."""
    sha = hashlib.sha256()
    for split in splits:
        for part in digested(split, split.chunks()):
            sha.update(part)
    return sha.hexdigest()


def digested(split: Split, chunks: Iterable[Tensor]) -> Iterator[Any]:
    """Yield what a digest is made of: shape, pixels and labels of a split."""
    yield repr(tuple(split.images.shape)).encode()
    for chunk in chunks:
        yield chunk.numpy().data
    yield split.labels.numpy().astype("<i8").data


def pixel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of uint8 images (N, C, H, W), in [0, 1]."""
    levels = Levels(images.shape[1])
    for chunk in images.split(CHUNK):
        levels.add(chunk)
    return levels.statistics()


class Levels:
    """Exact counts of the 256 levels of each channel: every machine gets the same digits."""

    def __init__(self, num_channels: int = 3) -> None:
        self.counts = np.zeros((num_channels, LEVELS), dtype=np.int64)

    def add(self, images: Tensor) -> None:
        """Count uint8 images (N, C, H, W)."""
        for channel, counts in enumerate(self.counts):
            counts += np.bincount(images[:, channel].numpy().ravel(), minlength=LEVELS)

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of each channel, in [0, 1]."""
        means, stds = zip(*map(_statistics, self.counts.tolist()), strict=True)
        return tuple(means), tuple(stds)


def _statistics(levels: list[int]) -> tuple[float, float]:
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
        storage=dataset.storage,
        num_skipped=dataset.num_skipped,
    )


def first_balanced(split: Split, limit: int | None) -> Split:
    """Return the first ``limit`` images of an order that deals one image of each class in turn.

    The order depends on the labels alone: the k-th image of every class comes before the
    (k + 1)-th of any, classes in the order of their labels, so that a smaller limit is always the
    beginning of a larger one.
    """
    if limit is None or limit >= len(split):
        return split
    return split.taken(torch.from_numpy(_balanced_order(split.labels.numpy())[:limit]))


def _balanced_order(labels: np.ndarray) -> np.ndarray:
    """Return the indices (N,) of labels (N,) in the order that limits take images from."""
    by_class = np.argsort(labels, kind="stable")
    grouped = labels[by_class]
    starts = np.searchsorted(grouped, grouped, side="left")
    turn = np.empty_like(by_class)
    turn[by_class] = np.arange(len(labels)) - starts  # the how-manieth image of its class
    return np.lexsort((labels, turn))


def survey(splits: Mapping[str, Split], classes: tuple[str, ...]) -> dict[str, Any]:
    """Look at every image of the splits once, and return what follows from all.

    These are the digest, mean and deviation of the training pixels, and as notes: where every
    image of a split, or of a class, is of one colour throughout, and how many are in both.
    """
    sha, levels = hashlib.sha256(), Levels()
    notes: list[str] = []
    hashes: dict[str, list[bytes]] = {}
    for name, split in splits.items():
        plain: list[Tensor] = []
        seen = hashes[name] = []

        def look(
            chunk: Tensor, name: str = name, plain: list[Tensor] = plain, seen: list[bytes] = seen
        ) -> Tensor:
            if name == "train":
                levels.add(chunk)
            flat = chunk.flatten(2)
            plain.append((flat == flat[:, :, :1]).all(dim=2).all(dim=1))
            seen += map(_hash, chunk.numpy())
            return chunk

        for part in digested(split, map(look, split.chunks())):
            sha.update(part)
        notes += _constant(name, torch.cat(plain), split.labels, classes)
    known = set(hashes.get("train", []))
    if both := sum(hash_ in known for hash_ in hashes["test"]):
        notes.append(
            f"{both} of {len(splits['test'])} test images are in the training split too, pixel for"
            " pixel: the accuracy is too high"
        )
    mean, std = levels.statistics() if known else ((), ())
    return {"digest": sha.hexdigest(), "mean": mean, "std": std, "notes": notes}


def _constant(name: str, plain: Tensor, labels: Tensor, classes: tuple[str, ...]) -> Iterator[str]:
    """Say where every image of a split, or of a class, is of one colour throughout."""
    if bool(plain.all()):
        yield f"every image in {name} is of one constant colour"
        return
    for label, of_class in enumerate(classes):
        if bool(plain[labels == label].all()):
            yield f"every image of class {of_class!r} in {name} is of one constant colour"


def _hash(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.data, digest_size=16).digest()
