"""Validation images: taken from the training set, always the same, in the classes' proportion."""

from __future__ import annotations

import hashlib

import pytest
import torch

from bench.data import Split
from bench.data.holdout import hold_out
from bench.errors import UserError


def numbered(labels: list[int]) -> Split:
    """Return a split whose i-th image shows i in its first pixel."""
    images = torch.zeros(len(labels), 3, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(len(labels), dtype=torch.uint8)
    return Split(images, torch.tensor(labels))


def indices(split: Split) -> list[int]:
    return [int(i) for i in split.images[:, 0, 0, 0]]


def test_the_two_parts_are_disjoint_and_cover_the_training_set() -> None:
    split = numbered([i % 4 for i in range(40)])
    left, held, facts = hold_out(split, 0.1)
    assert held is not None
    assert facts is not None
    assert (len(left), len(held), facts.num_images) == (36, 4, 4)
    assert sorted(indices(left) + indices(held)) == list(range(40))
    assert torch.equal(held.labels, split.labels[indices(held)])


def test_each_class_gives_its_share() -> None:
    split = numbered([0] * 60 + [1] * 30 + [2] * 10)
    _, held, _ = hold_out(split, 0.2)
    assert held is not None
    assert torch.bincount(held.labels).tolist() == [12, 6, 2]


def test_the_digest_is_that_of_the_indices_and_never_changes() -> None:
    split = numbered([i % 4 for i in range(40)])
    _, held, facts = hold_out(split, 0.1)
    assert held is not None
    assert facts is not None
    content = b"".join(i.to_bytes(8, "little") for i in indices(held))
    assert facts.digest == hashlib.sha256(content).hexdigest()
    assert indices(held) == [11, 17, 24, 38]


def test_no_split_leaves_the_training_set_alone() -> None:
    split = numbered([0, 1])
    assert hold_out(split, 0.0) == (split, None, None)


@pytest.mark.parametrize(
    ("share", "message"),
    [(0.01, "leaves 0 to validate on and 10"), (0.99, "leaves 10 to validate on and 0")],
)
def test_a_split_that_leaves_nothing_is_refused(share: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        hold_out(numbered([0, 1] * 5), share)
