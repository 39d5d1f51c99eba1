"""One step in its runtimes: the same result, nothing waited for, nothing left by practice."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.compute import ema, training_state, training_step
from bench.compute.training_state import Training
from bench.compute.training_step import RUNTIMES, Setting
from bench.errors import UserError
from bench.spec.recipe import Recipe
from bench.train import loop
from tests.conftest import build_tiny

RECIPE = Recipe(name="step", epochs=1, batch_size=8, lr=0.05)
RICH = RECIPE.changed(label_smoothing=0.1, grad_clip=0.5, ema_decay=0.9, nesterov=True)


def tiny(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_tiny(stem="cifar", num_classes=10).train()


def batch(size: int = 8, seed: int = 0, device: str = "cpu") -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (size,), generator=random)
    return torch.randn(size, 3, 8, 8, generator=random).to(device), labels.to(device)


def started(
    recipe: Recipe = RECIPE, setting: Setting = Setting(), model: nn.Module | None = None
) -> Training:
    placed = training_step.place(model or tiny(), setting.device, setting.runtime)
    captured = RUNTIMES[setting.runtime].captured
    return training_state.start(
        placed, recipe, device=setting.device, precision=setting.precision, captured=captured
    )


def take(training: Training, recipe: Recipe, setting: Setting = Setting(), steps: int = 3) -> None:
    example = batch(device=setting.device)
    take_step = training_step.ready_step(training, recipe, setting, example)
    for i in range(steps):
        if training.average:
            ema.set_gain(training.average, recipe.ema_decay, i)
        loop.set_learning_rate(training.optimizer, 0.05 / (i + 1))
        size = 8 if i < steps - 1 else 5  # the odd last batch
        take_step(*batch(size, seed=i, device=setting.device))


def close(one: Training, other: Training, **tolerance: float) -> None:
    """Assert that two trainings are where they would be after the same steps."""
    for a, b in ((one.model, other.model), (one.result, other.result)):
        for name, value in a.state_dict().items():
            torch.testing.assert_close(
                value.cpu(), b.state_dict()[name].cpu(), msg=lambda m: m, **tolerance
            )
    torch.testing.assert_close(one.totals.cpu(), other.totals.cpu(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("recipe", [RECIPE, RICH], ids=["plain", "rich"])
def test_compiled_steps_are_the_eager_ones(recipe: Recipe) -> None:
    eager, compiled = started(recipe), started(recipe)
    take(eager, recipe)
    take(compiled, recipe, Setting(runtime="compile"))
    close(eager, compiled, rtol=1e-4, atol=1e-5)
    assert compiled.compile_s > 0
    assert eager.compile_s == 0


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("runtime", ["cudagraph", "cudagraph_channels_last", "compile_cudagraph"])
@pytest.mark.parametrize("recipe", [RECIPE, RICH], ids=["plain", "rich"])
def test_recorded_steps_are_the_eager_ones(recipe: Recipe, runtime: str, precision: Any) -> None:
    setting = Setting("cuda:0", precision, runtime)
    eager_setting = Setting("cuda:0", precision)
    eager, recorded = started(recipe, eager_setting), started(recipe, setting)
    take(eager, recipe, eager_setting, steps=6)
    take(recorded, recipe, setting, steps=6)
    tolerance = 1e-4 if precision == "fp32" else 2e-2
    close(eager, recorded, rtol=tolerance, atol=tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("runtime", ["eager", "channels_last", "cudagraph"])
def test_no_step_waits_for_the_gpu(runtime: str, precision: Any) -> None:
    setting = Setting("cuda:0", precision, runtime)
    training, example = started(RICH, setting), batch(device="cuda:0")
    take_step = training_step.ready_step(training, RICH, setting, example)
    take_step(*example)
    torch.cuda.set_sync_debug_mode("error")
    try:
        loop.set_learning_rate(training.optimizer, 0.01)
        take_step(*example)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_missing_compiler_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no working compiler found\nand much more")

    def broken(model: nn.Module, device: str) -> Any:
        return torch.compile(model, backend=backend)

    monkeypatch.setattr(training_step, "compiled", broken)
    expected = "runtime compile cannot compile for cpu: no working compiler found; choose"
    with pytest.raises(UserError, match=expected):
        training_step.ready_step(started(), RECIPE, Setting(runtime="compile"), batch())


class Reads(TorchDispatchMode):
    """Count how often a number is taken off the device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_reads_no_number_from_the_device(precision: Any) -> None:
    setting = Setting(precision=precision)
    training = started(RICH, setting)
    take_step = training_step.ready_step(training, RICH, setting, None)
    take_step(*batch())
    with Reads() as reads:
        loop.set_learning_rate(training.optimizer, 0.01)
        take_step(*batch())
        assert reads.count == 0
        training.totals[0].item()  # the control: this is what would be noticed
        assert reads.count == 1


def test_practice_leaves_the_training_as_it_was() -> None:
    training = started(RICH)
    take(training, RICH)
    before = copy.deepcopy(training_state.state(training))
    rng = torch.get_rng_state()
    with training_state.unchanged(training, "cpu"):
        torch.randn(3)
        take(training, RICH)
        assert not torch.equal(training.totals, before["totals"])
    after = training_state.state(training)
    for part in ("model", "average"):
        for name, value in before[part].items():
            assert torch.equal(value, after[part][name]), (part, name)
    momenta = (before["optimizer"]["state"], after["optimizer"]["state"])
    for index, values in momenta[0].items():
        assert torch.equal(values["momentum_buffer"], momenta[1][index]["momentum_buffer"])
    assert torch.equal(before["totals"], after["totals"])
    assert torch.equal(torch.get_rng_state(), rng)


def rescaled(training: Training, scale: float) -> None:
    training.scaler.load_state_dict(training.scaler.state_dict() | {"scale": scale})


def test_an_overflowing_fp16_step_is_skipped_and_counted() -> None:
    """Also in the first step, where torch's fused optimiser would leave garbage as momentum."""
    setting = Setting(precision="fp16")
    never, once = started(setting=setting), started(setting=setting)
    before = copy.deepcopy(dict(once.model.named_parameters()))
    rescaled(never, 2.0**10)
    rescaled(once, 2.0**60)
    take_step = training_step.ready_step(once, RECIPE, setting, None)
    take_step(*batch())
    assert (once.totals[training_state.SKIPPED], once.scaler.get_scale()) == (1, 2.0**59)
    for name, value in once.model.named_parameters():
        assert torch.equal(value, before[name]), name
    rescaled(once, 2.0**10)
    take_step(*batch())
    training_step.ready_step(never, RECIPE, setting, None)(*batch())
    assert (once.totals[training_state.SKIPPED], never.totals[training_state.SKIPPED]) == (1, 0)
    for name, value in never.model.named_parameters():
        torch.testing.assert_close(once.model.get_parameter(name), value, msg=name)
        assert not torch.equal(value, before[name]), name


def test_clipping_bounds_the_gradient_after_it_is_unscaled() -> None:
    """With momentum and decay off, a step of rate 1 moves the weights by the gradient's norm."""
    recipe = RECIPE.changed(grad_clip=0.01, momentum=0.0, weight_decay=0.0)
    for precision in ("fp32", "fp16"):
        setting = Setting(precision=precision)  # type: ignore[arg-type]  # a literal of two
        training = started(recipe, setting)
        before = [p.detach().clone() for p in training.model.parameters()]
        loop.set_learning_rate(training.optimizer, 1.0)
        training_step.ready_step(training, recipe, setting, None)(*batch())
        moved = [p.detach() - b for p, b in zip(training.model.parameters(), before, strict=True)]
        norm = torch.linalg.vector_norm(torch.cat([m.flatten() for m in moved]))
        assert float(norm) == pytest.approx(0.01, rel=1e-2)


def test_label_smoothing_and_mixed_labels_are_torchs_cross_entropy() -> None:
    recipe = RECIPE.changed(label_smoothing=0.2)
    images, labels = batch()
    shares = 0.7 * nn.functional.one_hot(labels, 10) + 0.3 * nn.functional.one_hot(
        labels.flip(0), 10
    )
    for target in (labels, shares):
        training = started(recipe)
        with torch.no_grad():
            expected = nn.functional.cross_entropy(tiny()(images), target, label_smoothing=0.2)
        training_step.ready_step(training, recipe, Setting(), None)(images, target)
        assert float(training.totals[training_state.LOSS]) == pytest.approx(
            8 * float(expected), rel=1e-5
        )


def test_the_average_follows_the_weights_by_the_gain() -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = ema.start(model, "cpu")
    nn.init.ones_(model.weight)
    ema.set_gain(average, decay=0.75, num_steps=1000)
    for expected in (0.25, 0.4375):  # 1 - 0.75 ** n
        ema.follow(average, model)
        torch.testing.assert_close(average.model.weight, torch.full((1, 2), expected))


@pytest.mark.parametrize(("num_steps", "gain"), [(0, 0.9), (8, 0.5), (10_000, 0.01)])
def test_the_average_follows_closely_at_first(num_steps: int, gain: float) -> None:
    average = ema.start(nn.Linear(1, 1), "cpu")
    ema.set_gain(average, decay=0.99, num_steps=num_steps)
    assert float(average.gain) == pytest.approx(gain, rel=1e-6)


def test_the_average_copies_counters_and_averages_statistics() -> None:
    model = tiny()
    average = ema.start(model, "cpu")
    model(batch()[0])
    ema.set_gain(average, decay=0.5, num_steps=1000)
    ema.follow(average, model)
    ours, theirs = average.model[1], model[1]  # type: ignore[index]  # a Sequential
    assert ours.num_batches_tracked == 1
    torch.testing.assert_close(ours.running_mean, theirs.running_mean / 2)


def test_an_unknown_training_runtime_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="unknown training runtime 'jit'; choose from: eager"):
        training_step.check_runtime("jit", "cpu")


@pytest.mark.parametrize(
    ("runtime", "device", "world_size", "message"),
    [
        ("channels_last", "mps", 1, "mps computes wrong gradients"),
        ("compile_channels_last", "mps", 1, "mps computes wrong gradients"),
        ("cudagraph", "cpu", 1, "cudagraph needs a CUDA GPU, not cpu"),
        ("cudagraph", "cuda:0", 2, "cudagraph trains in one process alone"),
    ],
)
def test_runtimes_that_a_device_cannot_train_in_are_refused(
    runtime: str, device: str, world_size: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        training_step.check_runtime(runtime, device, world_size)


def test_auto_and_all_runtimes_of_a_device_are_accepted() -> None:
    on_cpu = [name for name, how in RUNTIMES.items() if not how.captured]
    on_cuda = [name for name, how in RUNTIMES.items() if not how.products]
    for runtime in ("auto", *on_cpu):
        training_step.check_runtime(runtime, "cpu")
    for runtime in ("auto", *on_cuda):
        training_step.check_runtime(runtime, "cuda:0")
