"""Training: the schedule, exactness, continuing, divergence."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.compute import training_state, training_step
from bench.compute.training_state import Training
from bench.compute.training_step import Setting
from bench.record.run import EpochFacts
from bench.spec.recipe import Recipe, get_recipe
from bench.train import loop
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
    return training_state.start(tiny(seed), recipe, device="cpu", precision="fp32")


def steps(
    training: Training,
    recipe: Recipe = RECIPE,
    setting: Setting = Setting(),
    draw: Any = batches,
    num_images: int = NUM_IMAGES,
    clock: Callable[[], float] = perf_counter,
) -> tuple[Iterator[EpochFacts | None], loop.Stopwatch]:
    """Return what yields after each step and each epoch, and the watch that it runs by."""
    watch = loop.Stopwatch(training, setting.device, clock)
    given = {"num_images": num_images, "watch": watch}
    return loop.train(training, draw, recipe, setting, **given), watch


def run(training: Training, *arguments: Any, **options: Any) -> list[Any]:
    """Train to the end; return the facts of the epochs."""
    taken, _ = steps(training, *arguments, **options)
    epochs = [facts for facts in taken if facts is not None]
    training.history.extend(epochs)
    return epochs


def first_epoch(taken: Iterator[EpochFacts | None]) -> EpochFacts:
    return next(facts for facts in taken if facts is not None)


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

    first, saved = new_training(), io.BytesIO()
    taken, watch = steps(first)
    for facts in taken:
        if facts is not None:
            first.history.append(facts)
        elif (first.epoch, first.step) == stop_at:
            watch.stop()
            torch.save(training_state.state(first), saved)
            break
    saved.seek(0)
    second = new_training(seed=9)
    training_state.restore(second, torch.load(saved, weights_only=True))
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
    first_epoch(steps(first)[0])
    saved = training_state.state(first)
    second = new_training(seed=9)
    saved["optimizer"] = training_state.state(second)["optimizer"]
    training_state.restore(second, saved)
    run(second)
    weights = zip(whole.model.parameters(), second.model.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in weights)


def test_time_in_a_pause_is_not_training_time() -> None:
    """Each of four steps takes a second, saving after it a thousand."""
    now, training = [0.0], new_training()
    taken, watch = steps(training, clock=lambda: now[0])
    epochs = []
    for facts in taken:
        if facts is not None:
            epochs.append(facts)
            now[0] += 1000.0  # between two epochs, for validation
            continue
        now[0] += 1.0
        with watch.paused():
            assert training.wall_s == training.step
            now[0] += 1000.0
    assert [e.epoch_wall_s for e in epochs] == [4.0, 4.0, 4.0]


def test_a_loss_that_is_not_finite_ends_the_training_as_diverged() -> None:
    training = new_training()
    with torch.no_grad():
        next(training.model.parameters()).fill_(float("nan"))
    with pytest.raises(loop.Diverged, match="the training loss is nan in epoch 1"):
        run(training)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_learn_too(precision: Any) -> None:
    recipe = RECIPE.changed(epochs=8, lr=0.05)
    same = lambda epoch, step: itertools.islice(batches(0, 0), step, None)  # noqa: E731
    training = training_state.start(tiny(), recipe, device="cpu", precision=precision)
    setting = Setting(precision=precision)
    epochs = run(training, recipe, setting, draw=same)
    assert epochs[-1].loss < 0.8 * epochs[0].loss
    assert all(p.dtype == torch.float32 for p in training.model.parameters())


def test_channels_last_computes_what_contiguous_does() -> None:
    losses = []
    for runtime in ("eager", "channels_last"):
        model = training_step.place(tiny(), "cpu", runtime)
        training = training_state.start(model, RECIPE, device="cpu", precision="fp32")
        losses.append([e.loss for e in run(training, setting=Setting(runtime=runtime))])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.1), (29, 0.1), (30, 0.01), (59, 0.01), (60, 1e-3), (99, 1e-4)]
)
def test_the_reference_schedule_drops_tenfold_at_30_60_and_90(epoch: int, expected: float) -> None:
    recipe = get_recipe("reference")
    for at in (0, 390):
        assert loop.learning_rate(recipe, epoch, at, 391) == pytest.approx(expected)


def test_cosine_falls_from_lr_to_zero_and_is_half_in_the_middle() -> None:
    recipe = Recipe(name="c", epochs=10, lr=0.4, schedule="cosine", milestones=())
    rates = [loop.learning_rate(recipe, e, s, 5) for e in range(10) for s in range(5)]
    assert rates[0] == pytest.approx(0.4)
    assert rates[25] == pytest.approx(0.2)
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.001


def test_warmup_rises_linearly_to_the_rate_and_never_above_it() -> None:
    recipe = Recipe(name="w", epochs=10, lr=0.1, lr_warmup_epochs=2, milestones=(5,))
    rates = [loop.learning_rate(recipe, e, s, 4) for e in range(3) for s in range(4)]
    assert rates[:8] == pytest.approx([0.1 * (i + 1) / 9 for i in range(8)])
    assert rates[8:] == pytest.approx([0.1] * 4)


def last_of(num_images: int) -> Callable[[int, int], Iterator[tuple[Tensor, Tensor]]]:
    """Return batches of 8 whose last is what remains of so many images."""

    def drawn(epoch: int, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(8 * step, num_images, 8):
            random = torch.Generator().manual_seed(100 * epoch + start)
            size = min(8, num_images - start)
            labels = torch.randint(10, (size,), generator=random)
            yield torch.randn(size, 3, 4, 4, generator=random), labels

    return drawn


class OneByOne(nn.Module):
    """BatchNorm over a single pixel, as at the end of a ResNet with the ImageNet stem at 32×32."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.classify = nn.BatchNorm1d(48), nn.Linear(48, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.norm(images.flatten(1)))
        return logits


@pytest.mark.parametrize(
    ("num_images", "drop_last", "trained_on"),
    [(17, False, 16), (18, False, 18), (18, True, 16), (16, False, 16)],
)
def test_a_last_batch_of_one_image_is_left_out_and_the_epoch_says_so(
    num_images: int, drop_last: bool, trained_on: int
) -> None:
    torch.manual_seed(0)
    recipe = RECIPE.changed(epochs=2, drop_last=drop_last)
    training = training_state.start(OneByOne(), recipe, device="cpu", precision="fp32")
    epochs = run(training, recipe, draw=last_of(num_images), num_images=num_images)
    assert [e.num_images for e in epochs] == [trained_on] * 2
    assert all(bool(torch.isfinite(value).all()) for value in training.model.state_dict().values())


def test_one_image_would_crash_where_batchnorm_sees_one_pixel() -> None:
    """The control of the test above."""
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        OneByOne()(torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize(
    ("num_images", "world_size", "steps"), [(29, 1, 4), (25, 1, 3), (27, 2, 3), (28, 2, 4)]
)
def test_every_process_needs_two_images_in_a_step(
    num_images: int, world_size: int, steps: int
) -> None:
    assert loop.count_steps(num_images, RECIPE, world_size) == steps


RICH = RECIPE.changed(ema_decay=0.9, grad_clip=1.0, label_smoothing=0.1)


@pytest.mark.parametrize("runtime", ["eager", "compile"])
def test_the_average_too_goes_on_bit_for_bit(runtime: str) -> None:
    setting = Setting(runtime=runtime)
    whole = new_training(RICH)
    run(whole, RICH, setting)
    first = new_training(RICH)
    taken, _ = steps(first, RICH, setting)
    first_epoch(taken)
    saved = io.BytesIO()
    torch.save(training_state.state(first), saved)
    saved.seek(0)
    second = new_training(RICH, seed=9)
    training_state.restore(second, torch.load(saved, weights_only=True))
    run(second, RICH, setting)
    for name, value in whole.result.state_dict().items():
        assert torch.equal(value, second.result.state_dict()[name]), name
    assert whole.result is not whole.model


def test_compiling_is_not_in_the_epochs_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [0.0], [0]

    def slow_at_first(model: nn.Module, device: str) -> Callable[[Tensor], Tensor]:
        def call(images: Tensor) -> Tensor:
            now[0] += 1000.0 if calls[0] == 0 else 1.0
            calls[0] += 1
            logits: Tensor = model(images)
            return logits

        return call

    monkeypatch.setattr(training_step, "compiled", slow_at_first)
    epochs = run(new_training(), setting=Setting(runtime="compile"), clock=lambda: now[0])
    assert [e.epoch_wall_s for e in epochs] == [3.0, 3.0, 3.0]  # the odd last batch runs eager
    assert calls == [1 + 3 * 3]


def overflowing(scale: float, epochs: int) -> tuple[Training, Recipe]:
    """Return an fp16 training whose gradients overflow until its loss scale is small enough."""
    recipe = RECIPE.changed(epochs=epochs, milestones=())
    training = training_state.start(tiny(), recipe, device="cpu", precision="fp16")
    training.scaler.load_state_dict(training.scaler.state_dict() | {"scale": scale})
    return training, recipe


def test_overflows_in_a_row_are_counted_across_epochs() -> None:
    """A scale of 2^40 is halved in every step until the gradients of half precision are finite."""
    training, recipe = overflowing(2.0**40, epochs=20)
    epochs = run(training, recipe, Setting(precision="fp16"))
    skipped = sum(epoch.skipped_steps for epoch in epochs)
    streaks = [epoch.overflow_streak for epoch in epochs]
    assert 10 <= skipped <= 40
    assert streaks[:3] == [4, 8, 12]
    assert max(streaks) == skipped
    assert streaks[-1] == 0


def test_overflows_without_end_are_a_divergence() -> None:
    """A scale of 2^120 would be halved over a hundred times."""
    training, recipe = overflowing(2.0**120, epochs=40)
    before = [p.detach().clone() for p in training.model.parameters()]
    with pytest.raises(loop.Diverged, match="overflowed in 52 steps in a row in epoch 13"):
        run(training, recipe, Setting(precision="fp16"))
    assert all(torch.equal(*pair) for pair in zip(before, training.model.parameters(), strict=True))
    assert training.epoch == 12


def test_the_device_is_waited_for_before_an_epoch_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def wait() -> None:  # what was given to the device takes it another second
        now[0] += 1.0

    monkeypatch.setattr(loop, "synchronizer", lambda device: wait)
    epochs = run(new_training(), clock=lambda: now[0])
    assert [e.epoch_wall_s for e in epochs] == [1.0, 1.0, 1.0]
