"""Batches made on the device are those that torchvision's transforms would make."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional as TF

from bench import data
from bench.data import (
    Dataset,
    Normalization,
    normalization,
    num_steps,
    place,
    plan_epoch,
    share,
    train_batches,
)
from bench.data.dataset import Split, make_dataset
from bench.errors import UserError
from bench.spec.recipe import Recipe

CIFAR = Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
HALF = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
BYTES = Normalization((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))  # gives 0 … 255 back, exactly
PLAIN = Recipe(name="plain", batch_size=16)
CROPPED = Recipe(name="cropped", batch_size=16, crop_padding=4, flip=True)
MIXED = CROPPED.changed(mixup_alpha=1.0, cutout_size=8, random_erasing_prob=0.5)
FORMATS = [torch.contiguous_format, torch.channels_last]
Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture(scope="module")
def split() -> Split:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (70, 3, 32, 32), dtype=torch.uint8, generator=random)
    return Split(images, torch.arange(70) % 10)


def batches(split: Split, recipe: Recipe, scale: Normalization = BYTES, **options: int) -> Batches:
    plan = plan_epoch(len(split), recipe, seed=5, epoch=0)
    placed = place(split, "cpu", recipe.crop_padding)
    return list(train_batches(placed, plan, recipe, scale, num_classes=10, **options))


def pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def joined(batches: Batches) -> Tensor:
    return torch.cat([images for images, _ in batches])


def equal(one: Batches, two: Batches) -> bool:
    pairs = list(zip(one, two, strict=True))
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)


@pytest.mark.parametrize("padding", [1, 4])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_crops_and_flips_equal_torchvisions(
    split: Split, padding: int, memory_format: torch.memory_format
) -> None:
    """For the offsets of the plan every byte is that of torchvision's pad, crop and hflip."""
    recipe = CROPPED.changed(crop_padding=padding)
    plan = plan_epoch(len(split), recipe, seed=5, epoch=0)
    placed = place(split, "cpu", padding, memory_format)
    made = joined(list(train_batches(placed, plan, recipe, BYTES)))
    assert plan.crop is not None
    assert plan.flip is not None
    for position, index in enumerate(plan.order.tolist()):
        top, left = plan.crop[position].tolist()
        expected = TF.crop(TF.pad(pil(split.images[index]), [padding]), top, left, 32, 32)
        if plan.flip[position]:
            expected = TF.hflip(expected)
        assert torch.equal(made[position], TF.pil_to_tensor(expected).float())


@pytest.mark.parametrize("scale", [CIFAR, HALF, Normalization((0.1, 0.5, 0.9), (0.05, 0.5, 0.3))])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_normalisation_equals_totensor_and_normalize(
    scale: Normalization, memory_format: torch.memory_format
) -> None:
    """All 256 levels of every channel come out as from ToTensor and Normalize, within 1e-6."""
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    placed = place(Split(levels.contiguous(), torch.zeros(1).long()), "cpu", 0, memory_format)
    ((made, _),) = data.test_batches(placed, 1, scale)
    chain = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(list(scale.mean), list(scale.std))]
    )
    expected = chain(pil(levels[0]))
    tolerance = 1e-6 * max(1.0, float(expected.abs().max()) / 4)
    assert (made[0] - expected).abs().max() <= tolerance
    assert made.dtype == torch.float32


def test_a_padded_pixel_is_black_before_normalisation() -> None:
    """Padding with zeros comes first: a padded pixel becomes (0 - mean) / std."""
    white = Split(torch.full((40, 3, 8, 8), 255, dtype=torch.uint8), torch.zeros(40).long())
    made = joined(batches(white, CROPPED, HALF))
    assert set(made.unique().tolist()) == {-1.0, 1.0}


def test_without_augmentation_images_come_whole_in_the_plans_order(split: Split) -> None:
    """The reference recipe shuffles, and nothing else."""
    plan = plan_epoch(70, PLAIN, seed=5, epoch=0)
    made = batches(split, PLAIN)
    assert torch.equal(joined(made), split.images[plan.order].float())
    assert torch.equal(torch.cat([labels for _, labels in made]), split.labels[plan.order])
    assert [len(labels) for _, labels in made] == [16, 16, 16, 16, 6]


@pytest.mark.parametrize("recipe", [PLAIN, CROPPED, MIXED], ids=lambda recipe: recipe.name)
def test_an_epoch_continues_at_any_step(split: Split, recipe: Recipe) -> None:
    """From start_step on, the batches are those of the epoch done at once."""
    whole = batches(split, recipe)
    for step in range(6):
        assert equal(batches(split, recipe, start_step=step), whole[step:])


@pytest.mark.parametrize("recipe", [PLAIN, CROPPED, MIXED])
def test_the_memory_format_changes_no_value(split: Split, recipe: Recipe) -> None:
    """channels_last batches are equal, and lie in channels_last."""
    plan = plan_epoch(70, recipe, seed=5, epoch=0)
    usual, last = (
        list(
            train_batches(
                place(split, "cpu", recipe.crop_padding, memory_format),
                plan,
                recipe,
                CIFAR,
                num_classes=10,
            )
        )
        for memory_format in FORMATS
    )
    assert equal(usual, last)
    assert all(images.is_contiguous() for images, _ in usual)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in last)


def test_both_ways_to_cut_windows_are_equal(split: Split) -> None:
    """Row by row, as on a CPU, and byte by byte, as elsewhere, give the same bytes."""
    from bench.data.placing import _by_byte, _by_row

    flat = split.images.view(-1)
    starts = torch.tensor([0, 1, 31, 1000, flat.numel() - 32])
    assert torch.equal(_by_row(flat, starts, 32), _by_byte(flat, starts, 32))
    assert torch.equal(_by_row(flat, starts, 32)[1], flat[1:33])


@pytest.mark.parametrize("world_size", [2, 3, 4])
@pytest.mark.parametrize("recipe", [CROPPED, MIXED], ids=lambda recipe: recipe.name)
def test_the_shares_of_all_processes_are_the_batches_of_one(
    split: Split, recipe: Recipe, world_size: int
) -> None:
    """Put together in the order of ranks, shares equal the batch that one process would see."""
    alone = batches(split, recipe)
    shares = [batches(split, recipe, rank=r, world_size=world_size) for r in range(world_size)]
    for step, (images, targets) in enumerate(alone):
        assert torch.equal(torch.cat([share[step][0] for share in shares]), images)
        assert torch.equal(torch.cat([share[step][1] for share in shares]), targets)


def test_shares_are_disjoint_cover_the_batch_and_are_even() -> None:
    """A batch of 10 for four processes is cut 2, 3, 2, 3; a last batch of 3 is cut 0, 1, 1, 1."""
    assert [share(1, 23, 10, r, 4) for r in range(4)] == [
        slice(10, 12),
        slice(12, 15),
        slice(15, 17),
        slice(17, 20),
    ]
    assert [share(2, 23, 10, r, 4) for r in range(4)] == [
        slice(20, 20),
        slice(20, 21),
        slice(21, 22),
        slice(22, 23),
    ]


@pytest.mark.parametrize(
    ("num_images", "drop_last", "steps"),
    [(70, False, 5), (70, True, 4), (64, False, 4), (16, True, 1)],
)
def test_steps_honour_drop_last(num_images: int, drop_last: bool, steps: int) -> None:
    """A last batch that is cut short counts, unless the recipe drops it."""
    assert num_steps(num_images, PLAIN.changed(drop_last=drop_last)) == steps


def test_drop_last_leaves_out_the_short_batch(split: Split) -> None:
    """With drop_last every batch is full."""
    made = batches(split, PLAIN.changed(drop_last=True))
    assert [len(labels) for _, labels in made] == [16] * 4


def test_a_batch_larger_than_the_set_is_refused() -> None:
    """The error names both sizes."""
    with pytest.raises(UserError) as caught:
        num_steps(10, PLAIN)
    assert str(caught.value) == "batch size 16 is larger than the training set (10 images)"


def test_test_batches_hold_every_image_once_in_order(split: Split) -> None:
    """No augmentation, no shuffling, and the last batch is as large as is left."""
    made = list(data.test_batches(place(split, "cpu"), 32, BYTES))
    assert [len(labels) for _, labels in made] == [32, 32, 6]
    assert torch.equal(joined(made), split.images.float())
    assert torch.equal(torch.cat([labels for _, labels in made]), split.labels)


def test_making_batches_leaves_the_set_as_it_was(split: Split) -> None:
    """Nothing is done in place to the images that stay."""
    before = split.images.clone()
    for recipe in (PLAIN, MIXED):
        batches(split, recipe, CIFAR)
    list(data.test_batches(place(split, "cpu"), 32, CIFAR))
    assert torch.equal(split.images, before)


@pytest.mark.parametrize("size", [7, 8])
def test_cutout_zeroes_a_square_that_may_stick_out(split: Split, size: int) -> None:
    """Around each centre size×size pixels become 0, less what lies outside of the image."""
    recipe = PLAIN.changed(cutout_size=size)
    plan = plan_epoch(70, recipe, seed=5, epoch=0)
    made, whole = joined(batches(split, recipe, CIFAR)), joined(batches(split, PLAIN, CIFAR))
    assert plan.cutout is not None
    for image, expected, centre in zip(made, whole, plan.cutout, strict=True):
        row, column = (centre * 32).long().tolist()
        top, left = row - size // 2, column - size // 2
        rows = slice(max(top, 0), max(top + size, 0))
        columns = slice(max(left, 0), max(left + size, 0))
        expected[:, rows, columns] = 0
        assert torch.equal(image, expected)


def test_random_erasing_zeroes_each_images_box(split: Split) -> None:
    """The box of the plan, rounded to pixels, becomes 0; spared images stay whole."""
    recipe = PLAIN.changed(random_erasing_prob=0.5)
    plan = plan_epoch(70, recipe, seed=5, epoch=0)
    made, whole = joined(batches(split, recipe, CIFAR)), joined(batches(split, PLAIN, CIFAR))
    assert plan.erasing is not None
    num_spared = 0
    for image, expected, box in zip(made, whole, plan.erasing, strict=True):
        top, bottom, left, right = (box * 32).round().long().tolist()
        num_spared += (top, bottom, left, right) == (0, 0, 0, 0)
        expected[:, top:bottom, left:right] = 0
        assert torch.equal(image, expected)
    assert 20 < num_spared < 50


def test_mixup_mixes_augmented_images_and_their_labels(split: Split) -> None:
    """x = k * own + (1 - k) * partner; targets are shares of the two classes and sum to 1."""
    recipe = CROPPED.changed(mixup_alpha=1.0)
    plan = plan_epoch(70, recipe, seed=5, epoch=0)
    own = joined(batches(split, CROPPED, CIFAR))
    labels = split.labels[plan.order]
    made = batches(split, recipe, CIFAR)
    targets = torch.cat([targets for _, targets in made])
    assert plan.mix_partner is not None
    assert plan.mix_kept is not None
    for position, (partner, kept) in enumerate(
        zip(plan.mix_partner.tolist(), plan.mix_kept.tolist(), strict=True)
    ):
        expected = kept * own[position] + (1 - kept) * own[partner]
        assert (joined(made)[position] - expected).abs().max() < 1e-5
        shares = torch.zeros(10)
        shares[labels[position]] += kept
        shares[labels[partner]] += 1 - kept
        assert (targets[position] - shares).abs().max() < 1e-6


def test_mixups_targets_suit_cross_entropy(split: Split) -> None:
    """With lambda the loss of a batch is that of both labels, weighed: the paper's equation."""
    recipe = PLAIN.changed(mixup_alpha=1.0)
    plan = plan_epoch(70, recipe, seed=5, epoch=0)
    (images, targets), *_ = batches(split, recipe, CIFAR)
    logits = torch.randn(len(images), 10, generator=torch.Generator().manual_seed(0))
    labels = split.labels[plan.order]
    assert plan.mix_partner is not None
    assert plan.mix_kept is not None
    kept = float(plan.mix_kept[0])
    loss = torch.nn.functional.cross_entropy
    expected = kept * loss(logits, labels[:16]) + (1 - kept) * loss(
        logits, labels[plan.mix_partner[:16]]
    )
    assert float(loss(logits, targets)) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("recipe", [PLAIN, CROPPED, MIXED])
def test_a_set_that_does_not_fit_is_copied_batch_by_batch(split: Split, recipe: Recipe) -> None:
    """It stays in host memory, says so, and gives the same batches."""
    plan = plan_epoch(70, recipe, seed=5, epoch=0)
    placed = place(split, "cpu", recipe.crop_padding, device_bytes=300_000)
    assert placed.on_host
    assert placed.warning is not None
    assert "too large for cpu" in placed.warning
    assert "stays in host memory" in placed.warning
    made = list(train_batches(placed, plan, recipe, BYTES, num_classes=10))
    assert equal(made, batches(split, recipe))


def test_a_test_split_that_does_not_fit_is_copied_too(split: Split) -> None:
    """Every test image comes once, in order."""
    placed = place(split, "cpu", device_bytes=300_000)
    made = list(data.test_batches(placed, 32, BYTES))
    assert torch.equal(joined(made), split.images.float())


def test_a_set_that_fits_is_held_on_the_device(split: Split) -> None:
    """With more than twice its size free there is no warning."""
    placed = place(split, "cpu", device_bytes=70 * 3072 * 2)
    assert not placed.on_host
    assert placed.warning is None


def test_copying_ahead_ends_with_whoever_takes_the_batches(split: Split) -> None:
    """Leaving an epoch early leaves no thread behind."""
    before = threading.active_count()
    plan = plan_epoch(70, PLAIN, seed=5, epoch=0)
    placed = place(split, "cpu", device_bytes=1)
    taken = train_batches(placed, plan, PLAIN, BYTES)
    assert isinstance(taken, Iterator)
    assert len(list(islice(taken, 2))) == 2
    taken.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before


def test_half_and_pixels_normalise_as_the_recipe_says(split: Split) -> None:
    """half is (x - 0.5) / 0.5; pixels is the mean and deviation of the training pixels."""
    dataset = make_dataset("x", "X", split, split, tuple("abcdefghij"))
    assert normalization(PLAIN.changed(normalization="half"), dataset) == HALF
    assert normalization(PLAIN, dataset) == Normalization(dataset.pixel_mean, dataset.pixel_std)


def test_normalised_training_pixels_have_mean_0_and_deviation_1(split: Split) -> None:
    """That is what the pixels' statistics are for."""
    dataset: Dataset = make_dataset("x", "X", split, split, tuple("abcdefghij"))
    made = joined(batches(split, PLAIN, normalization(PLAIN, dataset))).double()
    assert made.mean((0, 2, 3)).abs().max() < 1e-5
    assert (made.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5


def test_a_channel_of_one_value_becomes_zero() -> None:
    """A deviation of 0 never divides: the logits would be NaN."""
    images = torch.full((20, 3, 8, 8), 7, dtype=torch.uint8)
    grey = Split(images, torch.zeros(20).long())
    dataset = make_dataset("x", "X", grey, grey, ("a",))
    made = joined(batches(grey, PLAIN, normalization(PLAIN, dataset)))
    assert np.allclose(made.numpy(), 0, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("device_bytes", [None, 1])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_cuda_makes_the_batches_of_the_cpu(
    split: Split, memory_format: torch.memory_format, device_bytes: int | None
) -> None:
    """Held on the GPU or copied to it, batches are those of the CPU within 1e-6."""
    plan = plan_epoch(70, MIXED, seed=5, epoch=0)
    placed = place(split, "cuda:0", 4, memory_format, device_bytes)
    made = train_batches(placed, plan, MIXED, CIFAR, num_classes=10)
    for (images, targets), (expected, shares) in zip(
        made, batches(split, MIXED, CIFAR), strict=True
    ):
        assert images.device.type == targets.device.type == "cuda"
        assert images.is_contiguous(memory_format=memory_format)
        assert (images.cpu() - expected).abs().max() < 1e-6
        assert (targets.cpu() - shares).abs().max() < 1e-6
