"""``--log tensorboard`` writes what each epoch gave, once, however often the run was resumed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.cli.screens import tensorboard
from bench.events import EpochDone, RunStarted
from bench.record.run import EpochFacts
from bench.spec.recipe import Recipe
from bench.spec.run import DataSpec, ModelSpec, RunSpec

TINY = ("train", "resnet18", "--dataset", "shapes", "--recipe", "quick", "--epochs", "2")
FEW = ("--batch-size", "10", "--train-limit", "40", "--test-limit", "20", "--val-split", "0.25")
SPEC = RunSpec(model=ModelSpec(name="tiny"), data=DataSpec(), recipe=Recipe(name="r", epochs=4))


def scalars(folder: Path) -> dict[str, list[int]]:
    """Return the steps of each scalar, as TensorBoard reads them."""
    reason = "the extra tensorboard is not installed"
    module: Any = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason=reason
    )
    found = module.EventAccumulator(str(folder))
    found.Reload()
    return {tag: [e.step for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_a_training_writes_its_scalars(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    done = CliRunner().invoke(app, [*TINY, *FEW, "--log", "tensorboard", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.glob("*/tensorboard")
    every = ("loss", "top-1/train", "top-1/validation", "learning rate", "img/s")
    assert scalars(folder) == {tag: [1, 2] for tag in every} | {"top-1/test": [2]}


def test_what_is_trained_again_after_a_crash_is_there_once(tmp_path: Path) -> None:
    """Epoch 3 was told, and then trained again from a checkpoint after the second."""
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")

    def train(done: int, *epochs: int) -> None:
        shown = contextlib.nullcontext(lambda event: None)
        with tensorboard.logged(shown, "tensorboard", tmp_path) as emit:
            emit(RunStarted(SPEC, params=1, num_train=40, num_steps=4, epochs_done=done))
            for epoch in epochs:
                facts = {"epoch": epoch, "loss": 1.0, "top1": 0.5, "lr": 0.1, "num_images": 40}
                timed = {"epoch_wall_s": 1.0, "throughput": 40.0}
                emit(EpochDone(EpochFacts.model_validate(facts | timed)))

    train(0, 1, 2, 3)
    train(2, 3, 4)
    assert scalars(tmp_path / SPEC.folder_name() / "tensorboard")["loss"] == [1, 2, 3, 4]


def test_a_missing_extra_and_an_unknown_log_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    for log, problem in (
        ("tensorboard", "pip install 'senet-bench[tensorboard]'"),
        ("wandb", "unknown log 'wandb'"),
    ):
        for command in (TINY, ("run", "quickstart")):
            done = CliRunner().invoke(app, [*command, "--log", log, "--out", str(tmp_path / "o")])
            assert (done.exit_code, done.output.count("\n")) == (2, 1)
            assert problem in done.output
    assert list(tmp_path.iterdir()) == []
