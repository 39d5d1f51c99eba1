"""An epoch's plan follows from (seed, epoch) alone and draws what its papers describe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from bench.data import EpochPlan, plan_epoch
from bench.spec.recipe import Recipe

EVERYTHING = Recipe(
    name="everything",
    batch_size=50,
    crop_padding=4,
    flip=True,
    cutout_size=8,
    random_erasing_prob=0.5,
    mixup_alpha=0.4,
)
NUM = 20000


def drawn(value: Tensor | None) -> np.ndarray:
    assert value is not None
    return value.numpy()


def same(one: EpochPlan, two: EpochPlan, name: str) -> bool:
    first, second = getattr(one, name), getattr(two, name)
    return bool(torch.equal(first, second))


@pytest.fixture(scope="module")
def plan() -> EpochPlan:
    return plan_epoch(NUM, EVERYTHING, seed=3, epoch=1)


def test_the_order_is_a_permutation(plan: EpochPlan) -> None:
    """Every image is seen exactly once, and not in its own place."""
    assert sorted(plan.order.tolist()) == list(range(NUM))
    assert (plan.order == torch.arange(NUM)).sum() < 10


@pytest.mark.parametrize(
    "name", ["order", "crop", "flip", "cutout", "erasing", "mix_partner", "mix_kept"]
)
def test_a_plan_follows_from_seed_and_epoch(plan: EpochPlan, name: str) -> None:
    """The same seed and epoch draw the same; another of either draws something else."""
    assert same(plan, plan_epoch(NUM, EVERYTHING, seed=3, epoch=1), name)
    assert not same(plan, plan_epoch(NUM, EVERYTHING, seed=4, epoch=1), name)
    assert not same(plan, plan_epoch(NUM, EVERYTHING, seed=3, epoch=2), name)
    assert not same(plan, plan_epoch(NUM, EVERYTHING, seed=1, epoch=3), name)


def test_torch_has_no_part_in_it(plan: EpochPlan) -> None:
    """Neither torch's nor numpy's global generator is used or moved."""
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1]
    assert same(plan, plan_epoch(NUM, EVERYTHING, seed=3, epoch=1), "crop")
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_the_first_plan_is_the_one_written_here() -> None:
    """Seed 0 and epoch 0 draw this order, whichever the machine and the versions."""
    plan = plan_epoch(10, Recipe(name="test", batch_size=5), seed=0, epoch=0)
    assert plan.order.tolist() == [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]


def test_switching_one_augmentation_leaves_the_others_draws(plan: EpochPlan) -> None:
    """Without cutout, erasing and mixup, the order, the crops and the flips are the same."""
    changed = EVERYTHING.changed(cutout_size=0, random_erasing_prob=0.0, mixup_alpha=0.0)
    less = plan_epoch(NUM, changed, seed=3, epoch=1)
    assert all(same(plan, less, name) for name in ("order", "crop", "flip"))
    assert less.cutout is less.erasing is less.mix_partner is less.mix_kept is None


def test_the_reference_recipe_draws_an_order_only() -> None:
    """What is off is None."""
    plan = plan_epoch(100, Recipe(name="test"), seed=0, epoch=0)
    assert plan.crop is plan.flip is plan.cutout is plan.erasing is plan.mix_kept is None


def test_crops_have_the_distribution_of_torchvisions_random_crop(plan: EpochPlan) -> None:
    """All 81 windows of a pad-4 crop come equally often, and top and left are independent."""
    crop = drawn(plan.crop)
    assert (crop.min(), crop.max()) == (0, 8)
    counts = np.bincount(crop[:, 0] * 9 + crop[:, 1], minlength=81)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_flips_have_the_distribution_of_torchvisions_random_flip(plan: EpochPlan) -> None:
    """Half of the images are mirrored, independently of where they are cropped."""
    flip = drawn(plan.flip)
    assert stats.binomtest(int(flip.sum()), NUM, 0.5).pvalue > 1e-3
    table = stats.contingency.crosstab(flip, drawn(plan.crop)[:, 0]).count
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_draws_do_not_repeat_from_epoch_to_epoch(plan: EpochPlan) -> None:
    """What happens in one epoch tells nothing of the next: flips agree half of the time."""
    later = plan_epoch(NUM, EVERYTHING, seed=3, epoch=2)
    agree = int((drawn(plan.flip) == drawn(later.flip)).sum())
    assert stats.binomtest(agree, NUM, 0.5).pvalue > 1e-3


def test_cutout_centres_lie_anywhere(plan: EpochPlan) -> None:
    """Every row and column of a 32-pixel image is the centre equally often."""
    pixels = (drawn(plan.cutout) * 32).astype(int)
    assert (pixels.min(), pixels.max()) == (0, 31)
    for axis in (0, 1):
        counts = np.bincount(pixels[:, axis], minlength=32)
        assert stats.chisquare(counts).pvalue > 1e-3


def test_erased_boxes_lie_in_the_image_and_in_the_papers_ranges(plan: EpochPlan) -> None:
    """Half have a box of 2 % to 40 % of the area and an aspect between 0.3 and 1 / 0.3."""
    boxes = drawn(plan.erasing).astype(np.float64)
    erased = boxes.any(axis=1)
    assert stats.binomtest(int(erased.sum()), NUM, 0.5).pvalue > 1e-3
    top, bottom, left, right = boxes[erased].T
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    area, aspect = (bottom - top) * (right - left), (bottom - top) / (right - left)
    assert 0.02 - 1e-5 <= area.min() < 0.025
    assert 0.3 < area.max() <= 0.4 + 1e-5
    assert aspect.min() >= 0.3 - 1e-3
    assert aspect.max() <= 1 / 0.3 + 1e-2


def test_a_chance_of_one_erases_every_image() -> None:
    """With probability 1 no image is spared."""
    recipe = Recipe(name="test", random_erasing_prob=1.0)
    assert drawn(plan_epoch(500, recipe, 0, 0).erasing).any(axis=1).all()


def test_mixup_pairs_are_permutations_of_each_batch(plan: EpochPlan) -> None:
    """Each batch of 50 is mixed with itself in another order, each image used once."""
    partners = drawn(plan.mix_partner).reshape(-1, 50)
    assert (np.sort(partners, axis=1) == np.arange(NUM).reshape(-1, 50)).all()
    assert (partners == np.arange(NUM).reshape(-1, 50)).mean() < 0.05


def test_mixup_draws_one_lambda_a_batch_from_beta(plan: EpochPlan) -> None:
    """Lambda is constant in a batch and follows Beta(0.4, 0.4) (Kolmogorov-Smirnov)."""
    kept = drawn(plan.mix_kept).reshape(-1, 50)
    assert (kept == kept[:, :1]).all()
    assert stats.kstest(kept[:, 0], stats.beta(0.4, 0.4).cdf).pvalue > 1e-3


def test_mixup_keeps_to_the_batch_that_is_cut_short() -> None:
    """The last, smaller batch is mixed with itself as well."""
    plan = plan_epoch(105, EVERYTHING, seed=0, epoch=0)
    assert sorted(drawn(plan.mix_partner)[100:].tolist()) == [100, 101, 102, 103, 104]
