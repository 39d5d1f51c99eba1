"""What earlier releases left is read, reported and continued."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from bench import data
from bench.compute.model import identify
from bench.events import RunDone, StepDone
from bench.execute import train_run
from bench.record.read_write import read_record
from bench.report.write import render
from bench.spec.recipe import get_recipe
from bench.spec.run import DataSpec, RunSpec
from bench.spec.values import validated

OLD = Path(__file__).parents[2] / "records" / "schema_1"
DATA = DataSpec(name="shapes", train_limit=64, test_limit=20)
FINISHED = "tiny-cifar-shapes-quick-e2-s0-a923ec6d"
UNFINISHED = "tiny-cifar-shapes-quick-e2-s2-2e2b6e95"  # after the first step of the second epoch


@pytest.fixture(scope="module")
def dataset() -> data.Dataset:
    return data.load(DATA, lambda *_: None)


def spec(dataset: data.Dataset, seed: int) -> RunSpec:
    recipe = get_recipe("quick").model_copy(update={"batch_size": 16, "epochs": 2})
    model = identify("tiny", dataset, stem="cifar")
    given = {"model": model, "data": DATA, "recipe": recipe, "seed": seed, "device": "cpu"}
    return validated(RunSpec, given)


def train(chosen: RunSpec, dataset: data.Dataset, out: Path, **how: Any) -> tuple[Any, list[Any]]:
    events: list[Any] = []
    return train_run.train_run(chosen, dataset, out, emit=events.append, **how), events


@pytest.mark.parametrize(
    "path", sorted(OLD.rglob("*.json")), ids=lambda path: path.parent.name[:40]
)
def test_an_old_record_is_read(path: Path) -> None:
    record = read_record(path)
    assert record.schema_version == 1
    assert record.id == path.parent.name or path.stem.endswith(record.id)


def test_an_old_report_can_be_rendered(tmp_path: Path) -> None:
    render([OLD], tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "se_resnet18" in text
    assert "Set aside" not in text


def test_an_old_run_is_found_finished(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    """The same specification has the same folder, so nothing is trained again."""
    shutil.copytree(OLD / "runs" / FINISHED, tmp_path / FINISHED)
    record, events = train(spec(dataset, 0), dataset, tmp_path)
    assert record.id == FINISHED
    assert [event.reused for event in events if isinstance(event, RunDone)] == [True]


def test_an_old_checkpoint_is_continued(
    tiny_model: str, dataset: data.Dataset, tmp_path: Path
) -> None:
    """One of eight steps is in epoch 2: three are left, and the weights are those of all eight."""
    shutil.copytree(OLD / "runs" / UNFINISHED, tmp_path / UNFINISHED)
    record, events = train(spec(dataset, 2), dataset, tmp_path, if_unfinished="resume")
    assert record.id == UNFINISHED
    assert sum(isinstance(event, StepDone) for event in events) == 3
    train(spec(dataset, 2), dataset, tmp_path / "whole")
    continued, whole = (
        load_file(folder / UNFINISHED / "weights.safetensors")
        for folder in (tmp_path, tmp_path / "whole")
    )
    assert continued.keys() == whole.keys()
    for name, values in whole.items():
        assert continued[name].allclose(values, atol=1e-4), name
