"""What saving a ResNet-50 in training costs, as a share of the time that it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from bench import checkpoint, run, saver, state
from bench.distributed import ALONE
from bench.saver import Saver
from bench.spec import DataSpec, ModelSpec, Recipe, RunSpec

SPEC = RunSpec(model=ModelSpec(name="resnet50"), data=DataSpec(), recipe=Recipe(name="r"))


@pytest.fixture(scope="module")
def training() -> state.Training:
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    model = run.build(SPEC.model).to(device)
    return state.start(model, SPEC.recipe, device=device, precision="fp32")


def share(save_s: float) -> float:
    """Return the part of the time that saves of this length take, as often as they are made."""
    return save_s / (save_s + max(saver.CHECKPOINT_EVERY_S, save_s / saver.MAX_SHARE))


@pytest.mark.benchmark(group="checkpoint of ResNet-50")
def test_a_save_and_its_share_of_the_time(
    benchmark: Any, training: state.Training, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper = Saver(SPEC, "digest", tmp_path, ALONE)
    benchmark.pedantic(lambda: keeper.save(training), rounds=5, warmup_rounds=1)
    (path,) = checkpoint.checkpoints(tmp_path)
    mib = path.stat().st_size / 2**20
    benchmark.extra_info |= {"share": share(keeper.last_s), "mib": mib}
    with capsys.disabled():
        typer.echo(f"\n{mib:.0f} MiB in {keeper.last_s:.2f} s: {100 * share(keeper.last_s):.2f} %")
    assert share(keeper.last_s) <= 0.01


@pytest.mark.benchmark(group="checkpoint of ResNet-50")
def test_setting_the_best_aside(benchmark: Any, training: state.Training, tmp_path: Path) -> None:
    content = state.state(training)
    copied = benchmark.pedantic(lambda: saver.copied(content), rounds=5, warmup_rounds=1)
    assert torch.equal(copied["model"]["fc.bias"], training.model.state_dict()["fc.bias"].cpu())
