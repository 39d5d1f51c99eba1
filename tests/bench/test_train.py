"""Training: the schedule, exactness, continuing, divergence."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import state, step, train
from bench.errors import UserError
from bench.spec import Recipe, get_recipe
from bench.state import Training
from bench.step import Setting
from tests.conftest import build_tiny

RECIPE = Recipe(name="test", epochs=3, batch_size=8, lr=0.05, milestones=(1, 2))
NUM_STEPS = 4
NUM_IMAGES = 29


def tiny(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_tiny(stem="cifar", num_classes=10)


def batches(epoch: int, step: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches that depend on epoch and step alone; the last of an epoch is smaller."""
    for i in range(step, NUM_STEPS):
        random = torch.Generator().manual_seed(100 * epoch + i)
        size = 8 if i < NUM_STEPS - 1 else 5
        labels = torch.randint(10, (size,), generator=random)
        yield torch.randn(size, 3, 8, 8, generator=random), labels


def new_training(recipe: Recipe = RECIPE, seed: int = 0) -> Training:
    return state.start(tiny(seed), recipe, device="cpu", precision="fp32")


def run(
    training: Training, recipe: Recipe = RECIPE, setting: Setting = Setting(), **options: Any
) -> list[Any]:
    return list(train.fit(training, batches, recipe, setting, num_images=NUM_IMAGES, **options))


def test_fit_takes_the_same_steps_as_a_loop_written_with_torchs_own_parts() -> None:
    training = new_training()
    epochs = run(training)
    model = tiny().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2], gamma=0.1)
    for epoch in range(3):
        loss_sum = 0.0
        for images, labels in batches(epoch, 0):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(labels)
        schedule.step()
        assert epochs[epoch].loss == pytest.approx(loss_sum / 29, rel=1e-5)
    for ours, theirs in zip(training.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_epoch_reports_its_images_rate_and_wall_time() -> None:
    ticks = itertools.count()
    facts = run(new_training(), clock=lambda: float(next(ticks)))[1]
    assert (facts.epoch, facts.num_images, facts.lr) == (2, 29, pytest.approx(0.005))
    assert facts.throughput == pytest.approx(29 / facts.epoch_wall_s)
    assert 0 <= facts.top1 <= 1


def test_training_top1_counts_the_hits_of_the_epoch() -> None:
    frozen = RECIPE.changed(lr=1e-30, weight_decay=0.0, epochs=1)
    training = new_training(frozen)
    model = tiny().train()
    with torch.no_grad():
        hits = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches(0, 0))
    assert run(training, frozen)[0].top1 == pytest.approx(hits / 29)


@pytest.mark.parametrize("stop_at", [(0, 1), (0, 4), (1, 2), (2, 3)])
def test_a_training_goes_on_bit_for_bit_from_its_state_at_any_step(
    stop_at: tuple[int, int],
) -> None:
    whole = new_training()
    epochs = run(whole)

    class Stopped(Exception):
        pass

    first, saved = new_training(), io.BytesIO()

    def save(training: Training) -> None:
        torch.save(state.state(training), saved)
        raise Stopped

    with pytest.raises(Stopped):
        run(first, save_due=lambda: (first.epoch, first.step) == stop_at, save=save)
    saved.seek(0)
    second = new_training(seed=9)
    state.restore(second, torch.load(saved, weights_only=True))
    run(second)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert [e.loss for e in second.history] == [e.loss for e in epochs]
    assert [e.top1 for e in second.history] == [e.top1 for e in epochs]


def test_momentum_that_is_not_restored_changes_the_result() -> None:
    """The control of the test above: it would notice a part of the state that is left out."""
    whole = new_training()
    run(whole)
    first = new_training()
    next(train.fit(first, batches, RECIPE, Setting(), num_images=NUM_IMAGES))
    saved = state.state(first)
    second = new_training(seed=9)
    saved["optimizer"] = state.state(second)["optimizer"]
    state.restore(second, saved)
    run(second)
    weights = zip(whole.model.parameters(), second.model.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in weights)


def test_time_spent_saving_is_not_training_time() -> None:
    now = [0.0]

    def save(_: Training) -> None:
        now[0] += 1000.0

    epochs = run(new_training(), clock=lambda: now[0], save_due=lambda: True, save=save)
    assert [e.epoch_wall_s for e in epochs] == [0.0, 0.0, 0.0]


def test_a_loss_that_is_not_finite_ends_the_training_as_diverged() -> None:
    training = new_training()
    with torch.no_grad():
        next(training.model.parameters()).fill_(float("nan"))
    with pytest.raises(train.Diverged, match="the training loss is nan in epoch 1"):
        run(training)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_learn_too(precision: Any) -> None:
    recipe = RECIPE.changed(epochs=8, lr=0.05)
    same = lambda epoch, step: itertools.islice(batches(0, 0), step, None)  # noqa: E731
    training = state.start(tiny(), recipe, device="cpu", precision=precision)
    setting = Setting(precision=precision)
    epochs = list(train.fit(training, same, recipe, setting, num_images=NUM_IMAGES))
    assert epochs[-1].loss < 0.8 * epochs[0].loss
    assert all(p.dtype == torch.float32 for p in training.model.parameters())


def test_channels_last_computes_what_contiguous_does() -> None:
    losses = []
    for runtime in ("eager", "channels_last"):
        model = step.place(tiny(), "cpu", runtime)
        training = state.start(model, RECIPE, device="cpu", precision="fp32")
        losses.append([e.loss for e in run(training, setting=Setting(runtime=runtime))])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.1), (29, 0.1), (30, 0.01), (59, 0.01), (60, 1e-3), (99, 1e-4)]
)
def test_the_reference_schedule_drops_tenfold_at_30_60_and_90(epoch: int, expected: float) -> None:
    recipe = get_recipe("reference")
    for step in (0, 390):
        assert train.learning_rate(recipe, epoch, step, 391) == pytest.approx(expected)


def test_cosine_falls_from_lr_to_zero_and_is_half_in_the_middle() -> None:
    recipe = Recipe(name="c", epochs=10, lr=0.4, schedule="cosine", milestones=())
    rates = [train.learning_rate(recipe, e, s, 5) for e in range(10) for s in range(5)]
    assert rates[0] == pytest.approx(0.4)
    assert rates[25] == pytest.approx(0.2)
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.001


def test_warmup_rises_linearly_to_the_rate_and_never_above_it() -> None:
    recipe = Recipe(name="w", epochs=10, lr=0.1, lr_warmup_epochs=2, milestones=(5,))
    rates = [train.learning_rate(recipe, e, s, 4) for e in range(3) for s in range(4)]
    assert rates[:8] == pytest.approx([0.1 * (i + 1) / 9 for i in range(8)])
    assert rates[8:] == pytest.approx([0.1] * 4)


def test_an_unknown_training_runtime_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="unknown training runtime 'jit'; choose from: eager"):
        step.check_runtime("jit", "cpu")


def test_channels_last_is_refused_on_mps() -> None:
    with pytest.raises(UserError, match="mps"):
        step.check_runtime("channels_last", "mps")
