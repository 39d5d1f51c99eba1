"""What the engine does between the steps: saving, stopping, validating, telling."""

from __future__ import annotations

import itertools
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.compute.distributed import ALONE, Group
from bench.compute.training_state import Training
from bench.data import Normalization, Split
from bench.errors import UserError
from bench.events import EpochDone, Event, StepDone
from bench.machine import noise
from bench.signals import Preempted
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec, ModelSpec, RunSpec
from bench.train import checkpoint, choose_runtime, engine, saver
from bench.train.tracing import Trace, no_mark
from tests.conftest import build_tiny

RECIPE = Recipe(name="test", epochs=3, batch_size=8, lr=0.05, milestones=(), ema_decay=0.9)
PLAIN = RECIPE.changed(ema_decay=0.0)
HALF = Normalization((0.5,) * 3, (0.5,) * 3)
NUM_STEPS = 4  # of 29 images


def job(folder: Path, name: str = "fast", **changes: Any) -> engine.Job:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (29, 3, 8, 8), generator=random, dtype=torch.uint8)
    spec = RunSpec(
        model=ModelSpec(name="tiny"),
        data=DataSpec(),
        recipe=PLAIN if name == "plain" else RECIPE,
        device="cpu",
        engine=name,  # type: ignore[arg-type]
    )
    given: dict[str, Any] = {
        "spec": spec,
        "images": Split(pixels, torch.randint(10, (29,), generator=random)),
        "normalization": HALF,
        "num_classes": 10,
        "group": ALONE,
        "saver": saver.Saver(spec, "digest", folder, ALONE),
        "emit": lambda event: None,
    }
    return engine.Job(**given | changes)


def start(work: engine.Job) -> Training:
    torch.manual_seed(0)
    return engine.start(work, build_tiny(stem="cifar", num_classes=10))


@pytest.mark.parametrize(("device", "is_refused"), [("mps", True), ("cpu", False)])
def test_mps_does_not_train_by_wrong_gradients(
    device: str, is_refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere nothing is computed twice."""
    given = job(tmp_path)
    given = replace(given, spec=given.spec.model_copy(update={"device": device}))
    asked: list[str] = []

    def problem(work: choose_runtime.Work, runtime: str) -> str:
        asked.append(work.device)
        return "gradients are off by 2"

    monkeypatch.setattr(choose_runtime, "gradient_problem", problem)
    model = build_tiny(stem="cifar", num_classes=10)
    if is_refused:
        with pytest.raises(UserError, match=r"trained wrongly on mps .*gradients are off by 2; "):
            engine.check_gradients(given, model)
    else:
        engine.check_gradients(given, model)
    assert asked == ([device] if is_refused else [])


@pytest.mark.parametrize(
    ("name", "flags"), [("plain", (False, True, False)), ("fast", (True,) * 3)]
)
def test_the_plain_loop_trains_with_torch_as_it_comes(
    name: str, flags: tuple[bool, ...], tmp_path: Path
) -> None:
    """Whatever precision and kernels the fast engine sets for a GPU."""
    spec = job(tmp_path, name).spec.model_copy(update={"device": "cuda:0", "precision": "tf32"})
    with engine.computing(spec):
        cudnn = torch.backends.cudnn
        found = torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    assert found == flags


@pytest.fixture
def _always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is due after every step."""
    monkeypatch.setattr(saver, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(saver, "MAX_SHARE", 1e9)


@pytest.mark.parametrize("name", ["fast", "plain"])
def test_each_step_and_epoch_is_told_and_traced(tmp_path: Path, name: str) -> None:
    events: list[Event] = []
    traced: list[int] = []
    trace = Trace(no_mark, lambda: traced.append(1))
    work = job(tmp_path, name, emit=events.append, trace=trace)
    assert engine.fit(work, start(work)) is None
    steps = [(event.epoch, event.step) for event in events if isinstance(event, StepDone)]
    assert steps == [(epoch, step) for epoch in (1, 2, 3) for step in (1, 2, 3, 4)]
    assert [event.facts.epoch for event in events if isinstance(event, EpochDone)] == [1, 2, 3]
    assert len(traced) == 3 * NUM_STEPS


@pytest.mark.parametrize("name", ["fast", "plain"])
def test_the_result_is_validated_after_each_epoch_and_kept_with_it(
    tmp_path: Path, name: str
) -> None:
    seen: list[nn.Module] = []

    def validate(model: nn.Module) -> float:
        seen.append(model)
        return 0.25 * len(seen)

    work = job(tmp_path, name, validate=validate)
    training = start(work)
    engine.fit(work, training)
    assert [facts.val_top1 for facts in training.history] == [0.25, 0.5, 0.75]
    assert seen == [training.result] * 3
    assert training.val_s > 0


@pytest.mark.usefixtures("_always")
def test_a_state_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    """The checkpoint before it, which is good, would be lost."""

    def spoil(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            next(training.model.parameters()).data.fill_(float("inf"))

    work = job(tmp_path, emit=spoil)
    training = start(work)
    problem = engine.fit(work, training)
    assert problem == "loss or weights are not finite in epoch 1"
    saved, _ = checkpoint.load_newest(tmp_path, "cpu")
    assert saved is not None
    assert (saved["epoch"], saved["step"]) == (0, 2)


def signalled(at: tuple[int, int]) -> Any:
    def emit(event: Event) -> None:
        if isinstance(event, StepDone) and (event.epoch, event.step) == at:
            os.kill(os.getpid(), signal.SIGTERM)

    return emit


@pytest.mark.parametrize("at", [(1, 1), (1, 4), (2, 3)])
def test_a_signal_saves_after_the_step_that_is_being_taken(
    tmp_path: Path, at: tuple[int, int]
) -> None:
    work = job(tmp_path, emit=signalled(at))
    with pytest.raises(Preempted, match=f"SIGTERM: stopped in epoch {at[0]}, step {at[1]} of 4"):
        engine.fit(work, start(work))
    saved, _ = checkpoint.load_newest(tmp_path, "cpu")
    assert saved is not None
    assert (saved["epoch"] + 1, saved["step"]) == at


def test_the_plain_loop_goes_on_from_whole_epochs(tmp_path: Path) -> None:
    work = job(tmp_path, "plain", emit=signalled((2, 3)))
    expected = r"stopped in epoch 2, step 3 of 4, saved after epoch 1; --resume goes on there"
    with pytest.raises(Preempted, match=expected):
        engine.fit(work, start(work))
    saved, _ = checkpoint.load_newest(tmp_path, "cpu")
    assert saved is not None
    assert (saved["epoch"], saved["step"]) == (1, 0)


@pytest.mark.parametrize("name", ["fast", "plain"])
def test_contention_is_kept_once_with_the_training(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the record's warnings, and in a checkpoint of a training that goes on."""
    monkeypatch.setattr(noise, "FEWEST_STEPS", 6)
    seconds = itertools.cycle([0.1, 0.1, 0.9])
    monkeypatch.setattr(noise.StepTimes, "step", lambda self: self.seconds.append(next(seconds)))
    given = job(tmp_path, name)
    given.saver.problems = ["something else"]
    assert engine.fit(given, start(given)) is None
    assert given.saver.problems[0] == "something else"
    (told,) = given.saver.problems[1:]
    assert told.startswith("other work slowed the training down: 4 of 12 steps")
    saved = saver.Saver(given.spec, "digest", tmp_path, ALONE).load()
    assert saved is not None
    assert saved["problems"] == given.saver.problems


@pytest.mark.parametrize(
    ("device", "world_size", "asked"),
    [
        ("cuda:0", 2, [16, 32, 40]),  # the last step of the epoch is the 40th
        ("cuda:0", 1, list(range(1, 41))),
        ("cpu", 2, list(range(1, 41))),
    ],
)
def test_processes_on_gpus_do_not_wait_for_each_other_after_every_step(
    device: str, world_size: int, asked: list[int], tmp_path: Path
) -> None:
    given = job(tmp_path)
    spec = given.spec.model_copy(update={"device": device})
    images = Split(torch.zeros(320, 3, 8, 8, dtype=torch.uint8), torch.zeros(320, dtype=torch.long))
    given = replace(given, spec=spec, images=images, group=Group(0, world_size))
    training = start(job(tmp_path))
    found = []
    for training.step in range(1, 41):
        found += [training.step] if engine._asks(given, training) else []
    assert found == asked
