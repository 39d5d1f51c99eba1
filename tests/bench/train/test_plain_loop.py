"""The plain loop: what people write, with the same recipe as the fast engine."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import pytest
import torch
from torch import nn

from bench import data
from bench.compute import training_state
from bench.compute.training_state import Training
from bench.compute.training_step import Setting
from bench.data import Normalization, Split
from bench.errors import UserError
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec, ModelSpec, RunSpec
from bench.spec.values import validated
from bench.train import loop, plain_loop
from tests.conftest import build_tiny

RECIPE = Recipe(name="plain", epochs=2, batch_size=8, lr=0.05, milestones=(1,))
HALF = Normalization((0.5,) * 3, (0.5,) * 3)


def images(num: int = 29) -> Split:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (num, 3, 8, 8), generator=random, dtype=torch.uint8)
    return Split(pixels, torch.randint(10, (num,), generator=random))


def new_training(seed: int = 0) -> Training:
    torch.manual_seed(seed)
    return plain_loop.start(build_tiny(stem="cifar", num_classes=10), RECIPE, "cpu")


def run(training: Training, recipe: Recipe = RECIPE, num: int = 29, **options: Any) -> list[Any]:
    given = {"seed": 0, "device": "cpu"} | options
    taken = plain_loop.train(training, images(num), recipe, HALF, **given)
    training.history.extend(facts for facts in taken if facts is not None)
    return training.history


def test_both_engines_see_the_same_pixels() -> None:
    """Without augmentation ToTensor and Normalize give what the on-device pipeline gives."""
    split = images()
    plain = plain_loop.PlainImages(split, plain_loop.make_transform(RECIPE, HALF, 8))
    placed = data.place(split, "cpu")
    ours = torch.cat([batch for batch, _ in data.test_batches(placed, 10, HALF)])
    theirs = torch.stack([plain[i][0] for i in range(29)])
    torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=1e-6)
    assert [plain[i][1] for i in range(29)] == split.labels.tolist()


def test_the_transforms_are_torchvisions_for_what_the_recipe_asks() -> None:
    recipe = RECIPE.changed(crop_padding=4, flip=True)
    names = [type(t).__name__ for t in plain_loop.make_transform(recipe, HALF, 8).transforms]
    assert names == ["RandomCrop", "RandomHorizontalFlip", "ToTensor", "Normalize"]
    plain = [type(t).__name__ for t in plain_loop.make_transform(RECIPE, HALF, 8).transforms]
    assert plain == ["ToTensor", "Normalize"]


def test_one_whole_batch_teaches_both_engines_the_same() -> None:
    """With a batch of all images, the order in which they are drawn does not matter."""
    recipe = RECIPE.changed(batch_size=29, epochs=3)
    split, plain = images(), new_training()
    epochs = run(plain, recipe)
    torch.manual_seed(0)
    fast = training_state.start(
        build_tiny(stem="cifar", num_classes=10), recipe, device="cpu", precision="fp32"
    )
    placed = data.place(split, "cpu")

    def batches(epoch: int, step: int) -> Any:
        plan = data.plan_epoch(29, recipe, 0, epoch)
        return data.train_batches(placed, plan, recipe, HALF, step)

    watch = loop.Stopwatch(fast, "cpu")
    taken = loop.train(fast, batches, recipe, Setting(), num_images=29, watch=watch)
    found = [facts for facts in taken if facts is not None]
    assert [e.loss for e in epochs] == pytest.approx([e.loss for e in found], rel=1e-5)
    assert [(e.epoch, e.lr, e.top1, e.num_images) for e in epochs] == [
        (e.epoch, e.lr, e.top1, e.num_images) for e in found
    ]
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(value, fast.model.state_dict()[name], msg=name)


def test_every_image_is_seen_once_an_epoch_in_another_order() -> None:
    seen: list[list[int]] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build_tiny(stem="cifar", num_classes=10)

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            seen.append([round(float(x)) for x in (given[:, 0, 0, 0] * 127.5 + 127.5)])
            logits: torch.Tensor = self.inner(given)
            return logits

    training = plain_loop.start(Spy(), RECIPE, "cpu")
    run(training)
    first, second = list(chain(*seen[:4])), list(chain(*seen[4:]))
    expected = sorted(images().images[:, 0, 0, 0].tolist())
    assert sorted(first) == sorted(second) == expected
    assert first != second


def test_it_goes_on_bit_for_bit_after_a_saved_epoch() -> None:
    recipe = RECIPE.changed(crop_padding=2, flip=True)
    saved: list[dict[str, Any]] = []
    whole = new_training()
    for facts in plain_loop.train(whole, images(), recipe, HALF, seed=0, device="cpu"):
        if facts is not None:
            whole.history.append(facts)
            saved.append(copy.deepcopy(training_state.state(whole)))
    again = new_training(seed=5)
    training_state.restore(again, saved[0])
    run(again, recipe)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    assert [e.loss for e in again.history] == [e.loss for e in whole.history]


def test_a_last_batch_of_one_image_is_left_out() -> None:
    assert [e.num_images for e in run(new_training(), num=17)] == [16, 16]


def test_time_between_epochs_is_not_in_them() -> None:
    now, training = [0.0], new_training()
    clock = lambda: now[0]  # noqa: E731
    for facts in plain_loop.train(
        training, images(), RECIPE, HALF, seed=0, device="cpu", clock=clock
    ):
        now[0] += 1.0 if facts is None else 1000.0
        if facts is not None:
            assert facts.epoch_wall_s == 4.0


def test_a_loss_that_is_not_finite_ends_the_training_as_diverged() -> None:
    training = new_training()
    with torch.no_grad():
        next(training.model.parameters()).fill_(float("nan"))
    with pytest.raises(loop.Diverged, match="the training loss is nan in epoch 1"):
        run(training)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "bf16"}, "plain trains with precision fp32 only"),
        ({"runtime": "compile"}, "plain trains with runtime eager only"),
        ({"world_size": 2}, "plain trains with world_size 1 only"),
        ({"recipe": RECIPE.changed(mixup_alpha=0.2)}, "plain has no mixup_alpha"),
        ({"recipe": RECIPE.changed(ema_decay=0.9)}, "plain has no ema_decay"),
    ],
)
def test_what_the_plain_loop_does_not_do_is_refused(changes: dict[str, Any], message: str) -> None:
    base = {"model": ModelSpec(name="resnet18"), "data": DataSpec(), "recipe": RECIPE}
    with pytest.raises(UserError, match=message):
        plain_loop.check(validated(RunSpec, base | {"engine": "plain"} | changes))


def test_the_engine_is_part_of_a_runs_identity() -> None:
    base = {"model": ModelSpec(name="resnet18"), "data": DataSpec(), "recipe": RECIPE}
    fast, plain = (validated(RunSpec, base | {"engine": e}) for e in ("fast", "plain"))
    assert fast.digest() != plain.digest()
