"""What saving a ResNet-50 in training costs, as a share of the time that it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from bench.compute import training_state
from bench.compute.distributed import ALONE
from bench.compute.model import build
from bench.execute import train_run
from bench.spec.recipe import Recipe, get_recipe
from bench.spec.run import DataSpec, ModelSpec, RunSpec
from bench.train import checkpoint, saver
from bench.train.saver import Saver

SPEC = RunSpec(model=ModelSpec(name="resnet50"), data=DataSpec(), recipe=Recipe(name="r"))
SHARE = 0.01  # of the epochs' time


@pytest.fixture(scope="module")
def training() -> training_state.Training:
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    model = build(SPEC.model).to(device)
    return training_state.start(model, SPEC.recipe, device=device, precision="fp32")


@pytest.mark.benchmark(group="checkpoint of ResNet-50")
def test_a_save(
    benchmark: Any,
    training: training_state.Training,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    keeper = Saver(SPEC, "digest", tmp_path, ALONE)
    benchmark.pedantic(lambda: keeper.save(training), rounds=5, warmup_rounds=1)
    mib = checkpoint.checkpoints(tmp_path)[0].stat().st_size / 2**20
    benchmark.extra_info["mib"] = mib
    with capsys.disabled():
        typer.echo(f"\n{mib:.0f} MiB in {keeper.last_s:.2f} s")
    assert mib > 170  # weights and momentum of 23.5 million parameters


@pytest.mark.benchmark(group="checkpoint of ResNet-50")
def test_setting_the_best_aside(
    benchmark: Any, training: training_state.Training, tmp_path: Path
) -> None:
    content = training_state.state(training)
    copied = benchmark.pedantic(lambda: saver.copied(content), rounds=5, warmup_rounds=1)
    assert torch.equal(copied["model"]["fc.bias"], training.model.state_dict()["fc.bias"].cpu())


@pytest.mark.benchmark(group="checkpoint of ResNet-50")
def test_saving_takes_little_of_the_epochs(
    benchmark: Any,
    tiny_model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real training of some minutes; the last state, which every training saves, is apart."""
    small, saves, save = benchmark.disabled, list[float](), Saver.save

    def noted(keeper: Saver, training: training_state.Training) -> None:
        save(keeper, training)
        saves.append(keeper.last_s)

    monkeypatch.setattr(Saver, "save", noted)
    spec = SPEC.model_copy(
        update={
            "model": ModelSpec(name=tiny_model if small else "resnet50"),
            "data": DataSpec(name="shapes", train_limit=64 if small else None, test_limit=40),
            "recipe": get_recipe("quick").changed(epochs=1 if small else 4, batch_size=32),
            "device": "cuda:0" if torch.cuda.is_available() else "cpu",
        }
    )
    dataset, _ = train_run.load_data(spec.data, lambda event: None)
    begin = {"emit": lambda event: None}
    record = benchmark.pedantic(train_run.train_run, (spec, dataset, tmp_path), begin)
    epochs_s = sum(epoch.epoch_wall_s for epoch in record.epochs)
    share = (record.checkpoint_s - saves[-1]) / epochs_s
    benchmark.extra_info |= {"epochs_s": epochs_s, "saving_s": record.checkpoint_s, "share": share}
    with capsys.disabled():
        typer.echo(f"\n{100 * share:.2f} % of {epochs_s:.0f} s, and {saves[-1]:.2f} s at the end")
    benchmark.extra_info["wanted"] = f"share ≤ {SHARE:g}"
    assert record.checkpoint_s > 0
    if not small:
        assert share <= SHARE
