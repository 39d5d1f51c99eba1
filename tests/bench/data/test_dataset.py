"""Data sets know their pixels: digest, statistics, limits, and names that do not exist."""

from __future__ import annotations

import pytest
import torch

from bench.data import DATASETS, facts, load
from bench.data.dataset import Split, digest, first_balanced, make_dataset, pixel_statistics
from bench.errors import UserError
from bench.spec.run import DataSpec


def random_split(num_images: int, num_classes: int = 3, seed: int = 0) -> Split:
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (num_images, 3, 4, 4), dtype=torch.uint8, generator=random)
    return Split(images, torch.randint(0, num_classes, (num_images,), generator=random))


def test_statistics_are_those_of_the_pixels() -> None:
    """Mean and deviation over all pixels of a channel, not the mean of per-image deviations."""
    images = random_split(100).images
    images[:50] //= 4  # dark images, so that per-image deviations would be smaller
    mean, std = pixel_statistics(images)
    pixels = images.double() / 255
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-12)


def test_statistics_of_half_black_half_white_images() -> None:
    """Half 0 and half 255 have mean 0.5 and deviation 0.5, exactly."""
    images = torch.zeros(6, 3, 2, 2, dtype=torch.uint8)
    images[:3] = 255
    assert pixel_statistics(images) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("change", ["pixel", "label", "split"])
def test_the_digest_changes_with_any_byte(change: str) -> None:
    """One pixel, one label, or an image moved between the splits makes another digest."""
    train, test = random_split(10), random_split(4, seed=1)
    before = digest(train, test)
    assert digest(train, test) == before
    if change == "pixel":
        train.images[7, 2, 3, 3] ^= 1
    elif change == "label":
        test.labels[3] += 1
    else:
        train, test = (
            Split(train.images[:-1], train.labels[:-1]),
            Split(
                torch.cat([train.images[-1:], test.images]),
                torch.cat([train.labels[-1:], test.labels]),
            ),
        )
    assert digest(train, test) != before


def test_limits_deal_one_image_of_each_class_in_turn() -> None:
    """The first images of a limit are the first of each class, then the second of each."""
    labels = torch.tensor([2, 2, 0, 0, 1, 0, 1])
    images = torch.arange(7, dtype=torch.uint8).view(7, 1, 1, 1).expand(7, 3, 1, 1)
    limited = first_balanced(Split(images, labels), 6)
    assert limited.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert limited.images[:, 0, 0, 0].tolist() == [2, 4, 0, 3, 6, 1]


def test_a_smaller_limit_is_the_beginning_of_a_larger_one() -> None:
    """The order that limits cut does not depend on the limit."""
    split = random_split(50)
    small, large = first_balanced(split, 11), first_balanced(split, 29)
    assert torch.equal(small.images, large.images[:11])


@pytest.mark.parametrize("limit", [None, 50, 51])
def test_a_limit_of_all_images_changes_nothing(limit: int | None) -> None:
    """Without a limit, or with one that is not reached, images stay in their own order."""
    split = random_split(50)
    assert first_balanced(split, limit) is split


def test_load_cuts_and_says_what_it_loaded() -> None:
    """Limits show in the facts, and the digest is that of the images that are left."""
    whole = load(DataSpec(name="shapes"))
    some = load(DataSpec(name="shapes", train_limit=100, test_limit=30, label="a few"))
    found = facts(some)
    assert (found.name, found.label) == ("shapes", "a few")
    assert (found.num_train, found.num_test, found.image_size) == (100, 30, 32)
    assert some.train.labels.bincount().tolist() == [10] * 10
    assert found.digest == digest(some.train, some.test) != whole.digest


def test_statistics_are_those_of_the_whole_training_split() -> None:
    """A limit leaves the normalisation as it was."""
    whole = load(DataSpec(name="shapes"))
    some = load(DataSpec(name="shapes", train_limit=100))
    assert (some.pixel_mean, some.pixel_std) == (whole.pixel_mean, whole.pixel_std)


def test_an_unknown_dataset_lists_the_known() -> None:
    """The error names what was asked for and all that there is."""
    with pytest.raises(UserError) as caught:
        load(DataSpec(name="imagenet22k"))
    assert str(caught.value) == (
        "unknown dataset 'imagenet22k'; choose from: cifar10, cifar100, folder, shapes,"
        " torchvision:NAME, hf:NAME"
    )
    assert set(DATASETS) == {"cifar10", "cifar100", "folder", "shapes", "torchvision:", "hf:"}


@pytest.mark.parametrize("name", ["cifar10", "folder", "shapes"])
def test_only_cifar100_has_coarse_labels(name: str) -> None:
    """Coarse labels of another data set are refused, not ignored."""
    with pytest.raises(UserError, match=f"{name} has no coarse labels"):
        load(DataSpec(name=name, labels="coarse", data_dir="."))


def test_make_dataset_states_its_image_size() -> None:
    """image_size is the side of the images."""
    dataset = make_dataset("x", "X", random_split(5), random_split(5), ("a", "b", "c"))
    assert dataset.image_size == 4
