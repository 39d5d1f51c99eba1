"""Hold training images out, so that choices and targets never look at the test set."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch

from bench.data import Split
from bench.errors import UserError
from bench.record.run import ValidationFacts

SEED = 20171020  # of every split: which images are held out depends on the labels alone


def hold_out(split: Split, share: float) -> tuple[Split, Split | None, ValidationFacts | None]:
    """Return the images to train on, those held out, and what identifies these.

    Each class gives its share, to the nearest image. Raises UserError when that leaves one of the
    two without any.
    """
    if share == 0:
        return split, None, None
    num = num_held_out(len(split), share)
    if not 0 < num < len(split):
        raise UserError(
            f"a validation split of {share:g} of {len(split)} images leaves"
            f" {num} to validate on and {len(split) - num} to train on"
        )
    held = np.sort(_order(split.labels.numpy())[:num])
    left = np.setdiff1d(np.arange(len(split)), held, assume_unique=True)
    digest = hashlib.sha256(held.astype("<i8").tobytes()).hexdigest()
    facts = ValidationFacts(num_images=num, digest=digest)
    return split.taken(torch.from_numpy(left)), split.taken(torch.from_numpy(held)), facts


def num_held_out(num_images: int, share: float) -> int:
    """Return how many of the training images a validation split takes."""
    return round(num_images * share)


def _order(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return an order in which every beginning has all classes in their proportion."""
    shuffled = np.random.Generator(np.random.PCG64(SEED)).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, starts, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    place = np.arange(len(labels)) - np.repeat(starts, counts)
    position = (place + 0.5) / np.repeat(counts, counts)  # of an image within its class, in (0, 1)
    return np.asarray(by_class[np.argsort(position, kind="stable")], dtype=np.int64)
