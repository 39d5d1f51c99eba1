"""Trying runtimes and batch sizes before a training, at no cost to it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.compute.training_step import Setting
from bench.spec.recipe import Recipe
from bench.train import choose_runtime
from bench.train.choose_runtime import Work
from tests.conftest import build_tiny

RECIPE = Recipe(name="trial", batch_size=8, milestones=())


def work(**changes: Any) -> Work:
    torch.manual_seed(0)
    model = build_tiny(stem="cifar", num_classes=10)
    base = Work(model, RECIPE, 8, 8, 10, "cpu", "fp32")
    return replace(base, **changes)


def measured(times: dict[str, Any]) -> Any:
    """Return a measurement that finds the given seconds, or raises the given error."""

    def measure(work: Work, runtime: str) -> tuple[float, float]:
        if isinstance(times[runtime], Exception):
            raise times[runtime]
        return times[runtime]  # type: ignore[no-any-return]

    return measure


def test_the_measured_rates_are_recorded_and_the_fastest_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(choose_runtime.COMPILE_S, "cpu", 1e15)
    chosen, found = choose_runtime.choose(work(), 10**9)  # beside which no preparation counts
    assert set(found.throughput) == {"channels_last_matmul", "eager"}
    assert chosen == max(found.throughput, key=lambda name: found.throughput[name])
    assert "compiling takes about" in found.left_out["compile_channels_last_matmul"]


def test_a_trial_changes_neither_weights_nor_random_numbers() -> None:
    given = work()
    before, rng = copy.deepcopy(given.model.state_dict()), torch.get_rng_state()
    choose_runtime.choose(given, 1000)
    for name, value in given.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in given.model.parameters())
    assert torch.equal(torch.get_rng_state(), rng)


def test_a_short_run_takes_the_devices_usual_runtime_untried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choose_runtime, "_measure", measured({}))
    chosen, found = choose_runtime.choose(
        work(), 159
    )  # 2 candidates · 4 steps are more than 5 % of it
    assert (chosen, found.throughput) == ("channels_last_matmul", {})
    assert found.left_out["eager"] == "a run of 159 steps is too short to try it"


@pytest.mark.parametrize(
    ("num_steps", "compiles"),
    [(1000, False), (100_000, True)],  # 3 layers: about 2.1 s to compile
)
def test_compiling_is_tried_when_the_run_is_long_enough(
    num_steps: int, compiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {
        "channels_last_matmul": (0.01, 0.1),
        "eager": (0.02, 0.1),
        "compile_channels_last_matmul": (0.005, 30.0),
    }
    monkeypatch.setattr(choose_runtime, "_measure", measured(times))
    chosen, found = choose_runtime.choose(work(), num_steps)
    assert chosen == ("compile_channels_last_matmul" if compiles else "channels_last_matmul")
    assert found.throughput.get("compile_channels_last_matmul") == (
        1600.0 if compiles else None
    )  # 8 / 0.005


def test_what_is_saved_must_exceed_what_getting_ready_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compiled, 3,000 steps take 24 s instead of 30 s, but 60 s to compile first."""
    times = {
        "channels_last_matmul": (0.01, 0.1),
        "eager": (0.02, 0.1),
        "compile_channels_last_matmul": (0.008, 60.0),
    }
    monkeypatch.setattr(choose_runtime, "_measure", measured(times))
    monkeypatch.setitem(choose_runtime.COMPILE_S, "cpu", 0.1)
    chosen, found = choose_runtime.choose(work(), 3000)
    assert chosen == "channels_last_matmul"
    assert found.throughput["compile_channels_last_matmul"] == 1000.0


def test_a_runtime_that_fails_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {
        "channels_last_matmul": torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"),
        "eager": (0.02, 0.1),
        "compile_channels_last_matmul": RuntimeError("no C++ compiler"),
    }
    monkeypatch.setattr(choose_runtime, "_measure", measured(times))
    chosen, found = choose_runtime.choose(work(), 1_000_000)
    assert (chosen, found.throughput) == ("eager", {"eager": 400.0})
    assert found.left_out == {
        "channels_last_matmul": "CUDA out of memory.",
        "compile_channels_last_matmul": "no C++ compiler",
    }


def test_processes_that_train_together_do_not_try_recorded_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("channels_last", "compile_channels_last")
    monkeypatch.setattr(choose_runtime, "_measure", measured(dict.fromkeys(names, (0.1, 1.0))))
    _, found = choose_runtime.choose(work(device="cuda:0"), 1_000_000, world_size=2)
    assert set(found.throughput) == set(names)
    assert "one process alone" in found.left_out["cudagraph"]


class Hungry(nn.Module):
    """A model that has memory for so many images."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.inner = room, build_tiny(stem="cifar", num_classes=10)

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        logits: Tensor = self.inner(images)
        return logits


@pytest.mark.parametrize(("room", "fitting"), [(31, 16), (16, 16), (3, 2), (1, None)])
def test_the_batch_that_fits_is_found_by_halving(room: int, fitting: int | None) -> None:
    given = work(model=Hungry(room), batch_size=64)
    training = choose_runtime.start(given.model, RECIPE, Setting())
    assert choose_runtime.fitting_batch_size(training, given, Setting()) == fitting


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    given = work(model=nn.Linear(2, 2))
    training = choose_runtime.start(given.model, RECIPE, Setting())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        choose_runtime.fitting_batch_size(training, given, Setting())


class WrongInChannelsLast(torch.autograd.Function):
    """As mps in some versions of torch: right forwards, wrong gradients in one layout."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.is_wrong = not images.is_contiguous()
        return images.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return -grads[0] if ctx.is_wrong else grads[0]


class Faulty(nn.Module):
    """A model whose first layer learns the wrong way in channels_last; with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.rest = nn.Conv2d(3, 3, 1), build_tiny(stem="cifar", num_classes=10)
        self.drop = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.drop(self.rest(WrongInChannelsLast.apply(self.stem(images))))
        return logits


def test_wrong_gradients_are_found_before_a_training_and_dropout_is_none() -> None:
    given = work(model=Faulty())
    before = copy.deepcopy(given.model.state_dict())
    assert choose_runtime.gradient_problem(given, "eager") is None
    assert "gradients are off by" in str(choose_runtime.gradient_problem(given, "channels_last"))
    assert all(torch.equal(v, before[n]) for n, v in given.model.state_dict().items())
    assert all(p.grad is None for p in given.model.parameters())


@pytest.mark.parametrize(
    ("is_kept", "num_steps", "chosen"),
    [
        # Compiled, 0.008 s a step instead of 0.010, and 60 s to compile, spent by trying.
        (True, 8_000, "channels_last_matmul"),  # 64 + 18 from the cache > 80
        (True, 10_000, "compile_channels_last_matmul"),  # 80 + 18 < 100
        (False, 10_000, "channels_last_matmul"),  # 80 + 60 > 100
        (False, 40_000, "compile_channels_last_matmul"),
    ],
)
def test_compiling_again_is_charged_as_what_the_cache_leaves_of_it(
    is_kept: bool, num_steps: int, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {
        "channels_last_matmul": (0.01, 0.1),
        "eager": (0.02, 0.1),
        "compile_channels_last_matmul": (0.008, 60.0),
    }
    monkeypatch.setattr(choose_runtime, "_measure", measured(times))
    with torch._inductor.config.patch(fx_graph_cache=is_kept, force_disable_caches=False):
        assert choose_runtime.choose(work(), num_steps)[0] == chosen
